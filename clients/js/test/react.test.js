import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { afterEach, test } from "node:test";
import { frame } from "./support/dom.js";
import { act, Activity, createElement, Profiler, StrictMode, startTransition, useState } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { TailraceProvider, useStream, useTailrace } from "../src/react.js";
import { Network } from "./support/network.js";
import { runId } from "./support/server.js";

const STREAM = "chat:42";
const roots = [];

afterEach(async () => {
  for (const root of roots.splice(0)) await act(async () => root.unmount());
});

/** A page with one answer on it. */
function page({ strict = false } = {}) {
  const network = new Network();
  const { server } = network;
  const client = network.client();
  const container = document.createElement("div");
  const root = createRoot(container);
  roots.push(root);
  const seen = { states: [], commits: 0 };
  function Answer({ name, options }) {
    const state = useStream(name, options);
    seen.states.push(state);
    return createElement("p", null, state.text);
  }
  const tree = (props) => {
    const answer = createElement(
      Profiler,
      { id: "answer", onRender: () => seen.commits++ },
      createElement(Answer, props),
    );
    const provided = createElement(TailraceProvider, { client }, answer);
    return strict ? createElement(StrictMode, null, provided) : provided;
  };
  return {
    network,
    server,
    client,
    container,
    root,
    seen,
    tree,
    Answer,
    get state() {
      return seen.states.at(-1);
    },
    render: (props = { name: STREAM }) => act(async () => root.render(tree(props))),
    /** Time passes, and what came is painted. */
    wait: (ms) =>
      act(async () => {
        await network.clock.run(ms);
        frame();
      }),
    open: (number, stream = STREAM) => server.write(stream, (log) => log.open(runId(number))),
    say: (text, stream = STREAM) => server.write(stream, (log) => log.data(text)),
    end: (...how) => server.write(STREAM, (log) => log.end(...how)),
  };
}

test("an answer is shown as it comes, and tells its end", async () => {
  const p = page();
  p.open(1);
  p.say("Hello");
  await p.render();
  await p.wait(500);
  assert.equal(p.container.textContent, "Hello");
  assert.equal(p.state.status, "live");
  assert.equal(p.state.run, runId(1));
  p.say(", world");
  p.end("completed");
  await p.wait(500);
  assert.equal(p.container.textContent, "Hello, world");
  assert.deepEqual(p.state.chunks, ["Hello", ", world"]);
  assert.equal(p.state.end.reason, "completed");
  assert.equal(p.state.error, null);
});

test("StrictMode shows everything once, over one socket", async () => {
  const p = page({ strict: true });
  p.open(1);
  p.say("a");
  await p.render();
  await p.wait(500);
  p.say("b");
  await p.wait(500);
  p.end("completed");
  await p.wait(500);
  assert.equal(p.container.textContent, "ab");
  assert.equal(p.network.sockets.length, 1);
});

test("however fast chunks come, a frame renders once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const p = page();
  p.open(1);
  await p.render();
  await p.wait(500);
  const before = p.seen.commits;
  for (let i = 0; i < 500; i++) p.say(`${i} `);
  await act(async () => {
    await p.network.clock.run(100);
  });
  assert.equal(p.seen.commits, before, "nothing is rendered between two frames");
  await p.wait(0);
  assert.equal(p.seen.commits, before + 1);
  assert.equal(p.state.chunks.length, 500);
  await p.wait(0);
  assert.equal(p.seen.commits, before + 1, "a frame without news renders nothing");
});

test("however long a frame takes, it renders once; a page that paints none still shows what came", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const p = page();
  p.open(1);
  await p.render();
  await p.wait(500);
  const before = p.seen.commits;
  const late = async (text, ms) => {
    p.say(text);
    await act(async () => {
      await p.network.clock.run(100);
      t.mock.timers.tick(ms);
    });
  };
  await late("a", 500);
  await late("b", 400);
  assert.equal(p.seen.commits, before, "the frame is still to come");
  await p.wait(0);
  assert.equal(p.seen.commits, before + 1);
  await late("c", 1_000);
  assert.equal(p.container.textContent, "abc");
});

test("unmounting stops watching and cancels nothing", async () => {
  const p = page();
  p.open(1);
  await p.render();
  await p.wait(500);
  await act(async () => p.root.render(null));
  await p.wait(500);
  assert.equal(p.server.counts.unsubscribe, 1);
  assert.equal(p.server.counts.cancel, undefined);
  assert.ok(p.server.log(STREAM).active);
});

test("a remount in mid-answer shows the whole answer once", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  await p.render();
  await p.wait(500);
  await act(async () => p.root.render(null));
  p.say("b");
  await p.wait(500);
  await p.render();
  await p.wait(500);
  p.say("c");
  await p.wait(500);
  assert.equal(p.container.textContent, "abc");
});

test("another name is another answer, and nothing of the old one stays", async () => {
  const p = page();
  p.open(1);
  p.say("old");
  p.open(2, "chat:7");
  p.say("new", "chat:7");
  await p.render();
  await p.wait(500);
  await p.render({ name: "chat:7" });
  assert.equal(p.container.textContent, "");
  await p.wait(500);
  assert.equal(p.container.textContent, "new");
  p.say("!", STREAM);
  await p.wait(500);
  assert.equal(p.container.textContent, "new");
  await p.render({ name: STREAM });
  await p.wait(500);
  assert.equal(p.container.textContent, "old!");
});

test("a null name reads nothing", async () => {
  const p = page();
  await p.render({ name: null });
  await p.wait(500);
  assert.equal(p.network.sockets.length, 0);
  assert.deepEqual(await p.state.cancel(), { reason: null });
});

test("a name that is none is an error, told where errors are looked for", async () => {
  for (const name of [undefined, "a b", ""]) {
    const { render, wait, ...p } = page();
    await render({ name });
    await wait(100);
    assert.equal(p.seen.states.at(-1).error.code, "invalid");
  }
});

test("options written anew at each render are no new stream", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  for (let i = 0; i < 5; i++) {
    await p.render({ name: STREAM, options: { follow: true } });
    await p.wait(100);
  }
  assert.equal(p.container.textContent, "a");
  assert.equal(p.server.counts.sync, 1);
  assert.equal(p.server.counts.subscribe, undefined);
});

test("a follower shows the next run in place of the last", async () => {
  const p = page();
  p.open(1);
  p.say("first");
  await p.render({ name: STREAM, options: { follow: true } });
  await p.wait(500);
  p.end("completed");
  await p.wait(500);
  assert.equal(p.container.textContent, "first");
  p.open(2);
  p.say("second");
  await p.wait(500);
  assert.equal(p.container.textContent, "second");
  assert.deepEqual(p.state.chunks, ["second"]);
  assert.equal(p.state.end, null);
});

test("a run that fails is an error; one that is stopped is not", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  await p.render({ name: STREAM, options: { follow: true } });
  await p.wait(500);
  p.end("error", "the model is busy");
  await p.wait(500);
  assert.deepEqual(p.state.error, { code: "error", message: "the model is busy", retryable: false });
  assert.equal(p.state.text, "a");
  p.open(2);
  await p.wait(500);
  assert.equal(p.state.error, null);
  let cancelled;
  await act(async () => {
    cancelled = p.state.cancel();
  });
  await p.wait(500);
  assert.deepEqual(await cancelled, { reason: "cancelled" });
  assert.equal(p.state.end.reason, "cancelled");
  assert.equal(p.state.error, null);
});

test("a run presumed dead is a retryable error until it is claimed", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  await p.render();
  await p.wait(500);
  p.end("producer_lost");
  await p.wait(500);
  assert.equal(p.state.error.retryable, true);
  p.server.write(STREAM, (log) => log.claim());
  p.say("b");
  await p.wait(500);
  assert.equal(p.state.error, null);
  assert.equal(p.state.end, null);
  assert.equal(p.container.textContent, "ab");
});

test("no other run is shown behind one presumed dead", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  await p.render();
  await p.wait(500);
  p.end("producer_lost");
  p.open(2);
  p.say("another answer");
  await p.wait(500);
  assert.equal(p.container.textContent, "a");
  assert.equal(p.state.error.code, "superseded");
  assert.equal(p.state.error.retryable, false);
});

test("a run that is shown again from its start is not shown twice", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  const after = { run: runId(1), seq: 99 };
  await p.render({ name: STREAM, options: { after, follow: true } });
  await p.wait(500);
  p.say("b");
  await p.wait(500);
  assert.equal(p.container.textContent, "ab");
  assert.deepEqual(p.state.chunks, ["a", "b"]);
  assert.equal(p.state.error, null);
});

test("what ends the reading is an error", async () => {
  const p = page();
  p.network.admit = () => "refused";
  await p.render();
  await p.wait(10_000);
  assert.equal(p.state.error.code, "refused");
  assert.equal(p.state.status, "closed");
});

test("what ended the reading is tried again where that is asked for, and nothing is shown twice", async () => {
  const p = page({ strict: true });
  p.open(1);
  p.say("a");
  await p.render();
  await p.wait(500);
  act(() => p.state.retry());
  await p.wait(500);
  assert.equal(p.network.sent.length, 1, "it is being read");
  p.network.admit = () => "expired";
  for (const socket of p.network.open) socket.fail(1006);
  await p.wait(60_000);
  assert.equal(p.state.error.code, "unauthorized");
  p.network.admit = () => "ok";
  p.say("b");
  act(() => p.state.retry());
  await p.wait(0);
  assert.equal(p.state.error, null);
  await p.wait(2_000);
  assert.equal(p.container.textContent, "ab");
  assert.equal(p.state.status, "live");
  p.end("error", "the model is busy");
  await p.wait(500);
  const asked = p.network.sent.length;
  act(() => p.state.retry());
  await p.wait(500);
  assert.equal(p.state.error.code, "error", "what ended the run did not end the reading");
  assert.equal(p.network.sent.length, asked);
});

test("a `text` that throws is an error like any other", async () => {
  const p = page();
  p.open(1);
  p.say({ part: null });
  await p.render({ name: STREAM, options: { text: ({ part }) => part.text } });
  await p.wait(500);
  const { message, ...error } = p.state.error;
  assert.deepEqual(error, { code: "invalid", retryable: false });
  assert.match(message, /null/);
});

test("a hook that is hidden and shown again forgets what ended its reading", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  const shown = (mode) =>
    act(async () => p.root.render(createElement(Activity, { mode }, p.tree({ name: STREAM }))));
  await shown("visible");
  await p.wait(500);
  p.network.admit = () => "expired";
  for (const socket of p.network.open) socket.fail(1006);
  await p.wait(60_000);
  assert.equal(p.state.error.code, "unauthorized");
  p.network.admit = () => "ok";
  await shown("hidden");
  await shown("visible");
  p.say("b");
  await p.wait(2_000);
  assert.equal(p.container.textContent, "ab");
  assert.equal(p.state.error, null);
});

test("a page that is hidden while a frame is planned shows what came all the same", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const p = page();
  p.open(1);
  p.say("a");
  await p.render();
  await p.wait(500);
  p.say("b");
  await act(async () => p.network.clock.run(500));
  const visible = Object.getOwnPropertyDescriptor(document, "visibilityState");
  Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
  try {
    await act(async () => document.dispatchEvent(new window.Event("visibilitychange")));
    assert.equal(p.container.textContent, "ab");
    p.end("completed");
    await act(async () => {
      await p.network.clock.run(500);
      t.mock.timers.tick(16);
    });
    assert.equal(p.state.end.reason, "completed");
  } finally {
    delete document.visibilityState;
    if (visible) Object.defineProperty(document, "visibilityState", visible);
  }
});

test("where there are frames and no document, as in React Native, an answer is shown", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const p = page();
  p.open(1);
  await p.render();
  await p.wait(500);
  const { document } = globalThis;
  t.after(() => Object.assign(globalThis, { document }));
  delete globalThis.document;
  p.say("a");
  await act(async () => {
    await p.network.clock.run(500);
    t.mock.timers.tick(16);
  });
  assert.equal(p.state.error, null);
  assert.equal(p.state.text, "a");
});

test("a changed compact is another reading", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  p.say("b");
  await p.render({ name: STREAM, options: {} });
  await p.wait(500);
  assert.deepEqual(p.state.chunks, ["a", "b"]);
  await p.render({ name: STREAM, options: { compact: "text" } });
  await p.wait(500);
  assert.ok(p.network.sent.some(({ compact }) => compact));
});

test("the server renders the waiting state and connects to nothing", () => {
  const p = page();
  const html = renderToString(p.tree({ name: STREAM }));
  assert.equal(html, "<p></p>");
  assert.equal(p.network.sockets.length, 0);
});

test("a server component is told that the hook is the client's, by the directive that bundlers read", async () => {
  const source = await readFile(new URL("../src/react.js", import.meta.url), "utf8");
  assert.match(source, /^\/\*\*[^]*?\*\/\n"use client";\n/);
});

test("hydration takes over from the server without a mismatch", async () => {
  const p = page();
  p.open(1);
  p.say("a");
  const container = document.createElement("div");
  container.innerHTML = renderToString(p.tree({ name: STREAM }));
  const errors = [];
  await act(async () => {
    roots.push(
      hydrateRoot(container, p.tree({ name: STREAM }), { onRecoverableError: (error) => errors.push(error) }),
    );
  });
  await p.wait(500);
  assert.deepEqual(errors, []);
  assert.equal(container.textContent, "a");
});

test("a transition that is rendered while chunks come shows no torn state", async () => {
  const p = page();
  p.open(1);
  const torn = [];
  let turn;
  function Pair() {
    const [shown, show] = useState(STREAM);
    turn = () => startTransition(() => show("chat:7"));
    const [a, b] = [useStream(shown), useStream(shown)];
    if (a.run && a.run === b.run && a.chunks.join("") !== a.text) torn.push(a);
    return createElement("p", null, `${a.text}|${b.text}`);
  }
  await act(async () =>
    p.root.render(createElement(TailraceProvider, { client: p.client }, createElement(Pair))),
  );
  p.open(2, "chat:7");
  p.say("seven", "chat:7");
  for (let i = 0; i < 20; i++) {
    p.say(`${i}`);
    if (i === 10) await act(async () => turn());
    await p.wait(50);
  }
  assert.deepEqual(torn, []);
  assert.equal(p.container.textContent, "seven|seven");
});

test("a hook without a provider says what is missing", () => {
  function Lost() {
    useTailrace();
    return null;
  }
  assert.throws(() => renderToString(createElement(Lost)), /TailraceProvider/);
});

test("a hundred mounts leave no reader, no timer and no socket", async () => {
  const p = page({ strict: true });
  p.open(1);
  for (let i = 0; i < 100; i++) {
    await p.render();
    await p.wait(10);
    await act(async () => p.root.render(null));
  }
  await p.wait(120_000);
  assert.equal(p.network.open.length, 0);
  assert.equal(p.network.clock.pending, 0);
  assert.equal(p.network.sockets.length, 1);
});
