/** The snippets of README.md, each run against the server of these tests. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { transformSync } from "esbuild";
import { frame } from "./support/dom.js";
import { act } from "react";
import { createRoot } from "react-dom/client";
import { Network } from "./support/network.js";
import { clients } from "./support/recorded.js";
import { runId } from "./support/server.js";

const README = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const STREAM = "chat:42";
/** Time is real here: what never comes fails its test, instead of being waited for. */
const timeout = 20_000;

/** Every code block with the heading that it is under and its place there. */
const snippets = [];
for (const part of README.split(/^## /m).slice(1)) {
  const heading = part.split("\n", 1)[0];
  const blocks = [...part.matchAll(/^```(\w+)\n(.*?)^```/gms)];
  blocks.forEach(([, language, code], i) => snippets.push({ name: `${heading} ${i + 1}`, language, code }));
}

const own = (path) => new URL(path, import.meta.url).href;

/** The module that a snippet is, with its imports pointed here and a client where it has none. */
function moduleOf({ language, code }) {
  let source = language === "html" ? code.match(/<script type="module">(.*)<\/script>/s)[1] : code;
  if (language === "jsx") source = transformSync(source, { loader: "jsx", jsx: "automatic" }).code;
  if (!source.includes("createClient")) {
    source = `import { createClient } from "tailrace";\nconst client = createClient({ url: "wss://h/live", token: "t" });\n${source}`;
  }
  const places = {
    tailrace: own("./support/recorded.js"),
    "./tailrace/src/index.js": own("./support/recorded.js"),
    "tailrace/react": own("../src/react.js"),
    "tailrace/ai": own("../src/ai.js"),
    "react/jsx-runtime": import.meta.resolve("react/jsx-runtime"),
    ws: "data:text/javascript,export default globalThis.WebSocket",
  };
  source = source.replace(/from "([^"]+)"/g, (_, name) => `from "${places[name]}"`);
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

/** A server in real time, with a run going on, and what a page has. */
function page() {
  const clock = { now: () => performance.now(), setTimeout, clearTimeout };
  const network = new Network(1, clock);
  const log = network.server.log(STREAM);
  network.server.write(
    STREAM,
    () => log.open(runId(1), { model: "m" }),
    () => log.data("Hello", ", "),
  );
  const store = new Map();
  document.body.innerHTML =
    '<p id="answer"></p><p id="problem"></p><p id="status"></p><button id="stop"></button><div id="root"></div>';
  Object.assign(globalThis, {
    WebSocket: network.WebSocket,
    sessionStorage: {
      getItem: (key) => store.get(key) ?? null,
      setItem: (key, value) => store.set(key, value),
    },
    fetch: async (url) => ({
      ok: true,
      text: async () => "token",
      json: async () => ({ run: runId(1), url }),
    }),
    messages: [],
    startMessage: (run, meta) => globalThis.messages.push(["start", run, meta]),
    addToMessage: (run, chunk) => globalThis.messages.push(["add", run, chunk]),
    endMessage: (run, reason) => globalThis.messages.push(["end", run, reason]),
  });
  const write = (...chunks) => network.server.write(STREAM, () => log.data(...chunks));
  const end = (...how) => network.server.write(STREAM, () => log.end(...how));
  /** Settles when the page shows what it should. */
  const until = async (what) => {
    const late = clock.now() + timeout / 2;
    while (!what()) {
      assert.ok(clock.now() < late, `it never came: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  const text = (id) => document.querySelector(id).textContent;
  return { network, log, write, end, until, text };
}

/** The answer is written while the snippet reads, and completes. */
async function complete({ snippet, ...p }) {
  const running = import(moduleOf(snippet));
  await p.until(() => p.network.open.length);
  p.write("world");
  p.end("completed");
  await running;
}

const whole = async (p) => {
  await complete(p);
  assert.equal(p.text("#answer"), "Hello, world");
};

/** What must come of each snippet. */
const CHECKS = {
  "Read an answer 1": whole,
  "Read an answer 2": whole,
  async "Errors 1"({ snippet, ...p }) {
    const running = import(moduleOf(snippet));
    await p.until(() => p.text("#answer") === "Hello, ");
    p.end("error", "the model is busy");
    await running;
    assert.equal(p.text("#problem"), "the model is busy");
  },
  async "Stop, and stop watching 1"({ snippet, ...p }) {
    const running = import(moduleOf(snippet));
    await p.until(() => p.text("#answer") === "Hello, ");
    document.querySelector("#stop").onclick();
    await running;
    await p.until(() => p.text("#problem"));
    assert.equal(p.text("#problem"), "The answer is cancelled.");
    assert.equal(p.log.tail.reason, "cancelled");
  },
  async "Go on after a reload 1"({ snippet, ...p }) {
    const cursor = { run: runId(1), seq: 2 };
    sessionStorage.setItem(STREAM, JSON.stringify({ text: "Hello", cursor }));
    await complete({ snippet, ...p });
    assert.equal(p.text("#answer"), "Hello, world");
    const kept = JSON.parse(sessionStorage.getItem(STREAM));
    assert.deepEqual(kept, { text: "Hello, world", cursor: { run: runId(1), seq: 4 } });
    assert.deepEqual(p.network.sent[0].streams[STREAM], [runId(1), 2]);
  },
  async "A chat 1"({ snippet, ...p }) {
    // A chat is followed until its client is closed.
    import(moduleOf(snippet)).catch(({ code }) => assert.equal(code, "closed"));
    await p.until(() => globalThis.messages.length === 3);
    p.network.server.write(STREAM, () => p.log.claim());
    p.end("completed");
    await p.until(() => globalThis.messages.length === 4);
    assert.deepEqual(globalThis.messages, [
      ["start", runId(1), { model: "m" }],
      ["add", runId(1), "Hello"],
      ["add", runId(1), ", "],
      ["end", runId(1), "completed"],
    ]);
  },
  async "A chat 2"(p) {
    await whole(p);
    assert.deepEqual(p.network.sent[0].streams[STREAM], [runId(1)]);
  },
  async "A chat 3"({ snippet, ...p }) {
    p.network.server.write(STREAM, () => p.log.end("completed"));
    const running = import(moduleOf(snippet));
    await p.until(() => p.network.server.begun.size);
    p.write("Hello", ", ", "world");
    p.end("completed");
    await running;
    assert.equal(p.text("#answer"), "Hello, world");
    const [[, { body }]] = p.network.server.begun;
    assert.deepEqual(body, { question: "What is a tailrace?" });
  },
  async "The AI SDK 1"({ snippet, ...p }) {
    p.network.server.write(STREAM, () => p.log.open(runId(2)));
    p.write({ type: "start" });
    const { transport } = await import(moduleOf(snippet));
    const chunks = await transport.reconnectToStream({ chatId: "42" });
    const { value } = await chunks.getReader().read();
    assert.deepEqual(value, { type: "start" });
    assert.ok(p.network.open.length);
  },
  async "React 1"({ snippet, ...p }) {
    const { default: App } = await import(moduleOf(snippet));
    const { createElement } = await import("react");
    const root = createRoot(document.querySelector("#root"));
    const settled = (what) =>
      p.until(() => {
        act(frame);
        return what();
      });
    await act(async () => root.render(createElement(App)));
    await settled(() => p.text("#root p") === "Hello, ");
    assert.equal(document.querySelector("article").getAttribute("aria-busy"), "true");
    await act(async () => document.querySelector("#root button").click());
    await settled(() => document.querySelector("article").getAttribute("aria-busy") === "false");
    assert.equal(p.log.tail.reason, "cancelled");
    await act(async () => root.unmount());
  },
  async "More ways to read 1"(p) {
    await complete(p);
    assert.equal(p.text("#answer"), "HELLO, WORLD");
  },
  async "Status 1"(p) {
    await complete(p);
    assert.ok(["replaying", "live"].includes(p.text("#status")));
  },
  async "Elsewhere 1"(p) {
    const said = [];
    const { log } = console;
    console.log = (text) => said.push(text);
    process.env.TAILRACE_TOKEN = "token";
    try {
      await complete(p);
    } finally {
      console.log = log;
    }
    assert.deepEqual(said, ["Hello, world"]);
  },
};

before(() => {
  globalThis.location = { href: "https://example.test/" };
});

test("every snippet is run", () => {
  assert.deepEqual(snippets.map(({ name }) => name).sort(), Object.keys(CHECKS).sort());
});

for (const snippet of snippets) {
  test(`README: ${snippet.name}`, { timeout }, async (t) => {
    t.after(() => {
      for (const client of clients.splice(0)) client.close();
    });
    await CHECKS[snippet.name]({ snippet, ...page() });
  });
}
