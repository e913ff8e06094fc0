/** What `examples/chat` keeps of a chat, and what it reads of the log beside. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { createElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { Network } from "./support/network.js";
import { runId } from "./support/server.js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
async function bundled(name) {
  const { outputFiles } = await build({
    entryPoints: [path(`../../../examples/chat/src/${name}`)],
    absWorkingDir: path(".."),
    alias: { ai: "ai7" },
    nodePaths: [path("../node_modules")],
    bundle: true,
    format: "esm",
    jsx: "automatic",
    platform: "browser",
    write: false,
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}
const { lastAnswer, load, save } = await bundled("history.js");
const { Message } = await bundled("message.jsx");

const CHAT = "42";
const message = (id, role, text) => ({ id, role, parts: [{ type: "text", text }] });
const asked = message("u1", "user", "one?");

/** The text that is found for a question where the log has an answer to `u1`. */
async function answerTo(question) {
  const network = new Network();
  network.server.write(
    `chat:${CHAT}`,
    (log) => log.open(runId(1)),
    (log) =>
      log.data(
        { type: "start", messageId: "a1", messageMetadata: { question: "u1" } },
        { type: "text-start", id: "t" },
        { type: "text-delta", id: "t", delta: "one." },
        { type: "text-end", id: "t" },
        { type: "finish" },
      ),
    (log) => log.end("completed"),
  );
  const answer = lastAnswer(network.client(), CHAT, question, new AbortController().signal);
  await network.clock.run(3_000);
  return (await answer)?.parts[0].text ?? null;
}

test("the answer that ended while nobody looked is found", async () => {
  assert.equal(await answerTo(asked), "one.");
});

test("the answer to an earlier question, loaded or not, is none of one that never reached its job", async () => {
  assert.equal(await answerTo(message("u2", "user", "two?")), null);
});

test("who looks for an answer no more leaves nothing behind", async () => {
  const network = new Network();
  const { clock, server } = network;
  const gone = new AbortController();
  const answer = lastAnswer(network.client(), CHAT, asked, gone.signal);
  await clock.run(500);
  gone.abort();
  await clock.run(500);
  assert.equal(await answer, null);
  assert.equal(server.counts.unsubscribe, 1);
});

test("what was cut short is not on its way for ever, and says so", () => {
  const parts = [{ type: "reasoning", text: "Hm", state: "streaming" }];
  const shown = (busy, state) =>
    renderToStaticMarkup(
      createElement(Message, { message: { role: "assistant", parts: [{ ...parts[0], state }] }, busy }),
    );
  assert.match(shown(true, "streaming"), /<details open="">.*Thinking/);
  assert.doesNotMatch(shown(true, "streaming"), /Cut short/);
  assert.match(shown(false, "streaming"), /<details>.*Thought.*Cut short/);
  assert.doesNotMatch(shown(false, "done"), /Thinking|Cut short/);
});

test("a store that is full, shut or spoilt begins the chat anew", () => {
  const store = new Map();
  globalThis.localStorage = {
    getItem: (key) => store.get(key) ?? null,
    setItem: (key, text) => store.set(key, text),
  };
  save(CHAT, [asked]);
  assert.deepEqual(load(CHAT), [asked]);
  assert.deepEqual(load("other"), []);
  for (const text of ['[{"id": "u1", "ro', '"text"', "null", "{}"]) {
    store.set(`chat ${CHAT}`, text);
    assert.deepEqual(load(CHAT), [], text);
  }
  const refuse = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  globalThis.localStorage = { getItem: refuse, setItem: refuse };
  const { warn } = console;
  const said = [];
  console.warn = (error) => said.push(error.name);
  try {
    save(CHAT, [asked]);
  } finally {
    console.warn = warn;
  }
  assert.deepEqual(said, ["QuotaExceededError"]);
  assert.deepEqual(load(CHAT), []);
});
