import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LATE } from "../src/smooth.js";
import { Network } from "./support/network.js";
import "./support/seed.js";
import { runId } from "./support/server.js";
import { collect, started } from "./support/started.js";

const STREAM = "chat:42";
const WAIT = 17;

/** A reader that notes when each chunk was shown; the network takes no time. */
async function reading(options) {
  const network = new Network();
  const { server, clock, page } = network;
  server.faults = { ...server.faults, delay: 0 };
  server.write(STREAM, (log) => log.open(runId(1)));
  const reader = network.client().stream(STREAM, options);
  const shown = [];
  const written = new Map();
  const finished = (async () => {
    for await (const event of reader.events()) {
      if (event.type === "chunk") shown.push({ chunk: event.chunk, at: clock.now() });
      if (event.type === "end") shown.push({ end: true, at: clock.now() });
    }
  })();
  await clock.run(1_000);
  const burst = (...chunks) => {
    for (const chunk of chunks) written.set(chunk, clock.now());
    server.write(STREAM, (log) => log.data(...chunks));
  };
  const end = () => server.write(STREAM, (log) => log.end("completed"));
  return { clock, page, reader, shown, written, burst, end, finished };
}

const words = (prefix, many) => Array.from({ length: many }, (_, i) => `${prefix}${i} word`);

test("bursts four times a second are shown at an even pace", async () => {
  const r = await reading({ smooth: true });
  for (let i = 0; i < 12; i++) {
    r.burst(...words(`${i}.`, 12));
    await r.clock.run(250);
  }
  const times = r.shown.map(({ at }) => at).filter((at) => at > 2_000);
  const pauses = times.slice(1).map((at, i) => at - times[i]);
  assert.ok(Math.max(...pauses) <= 60, `a pause of ${Math.max(...pauses)} ms`);
  const rough = new Set(times).size;
  assert.ok(rough > times.length / 3, "chunks are not shown in clumps");
});

test("whatever comes, it is shown in order, whole, and never more than half a second late", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 900 })), {
        maxLength: 20,
      }),
      fc.constantFrom(true, 1, 40, 5_000),
      async (bursts, smooth) => {
        const r = await reading({ smooth });
        for (const [i, [many, pause]] of bursts.entries()) {
          r.burst(...words(`${i}.`, many));
          await r.clock.run(pause);
        }
        await r.clock.run(1_000);
        assert.deepEqual(
          r.shown.map(({ chunk }) => chunk),
          [...r.written.keys()],
        );
        for (const { chunk, at } of r.shown) assert.ok(at - r.written.get(chunk) <= LATE + WAIT);
      },
    ),
    { numRuns: 60 },
  );
});

test("a rate is kept to, as far as half a second allows", async () => {
  const r = await reading({ smooth: 100 });
  r.burst(..."abcdefghijklmnopqrstuvwxyz".split(""));
  await r.clock.run(1_000);
  const first = r.shown.filter(({ at }) => at - 1_000 <= 200).length;
  assert.ok(first >= 19 && first <= 22, `${first} characters in the first 200 ms at 100 a second`);
});

test("a chunk that comes alone is shown at once", async () => {
  const r = await reading({ smooth: true });
  for (let i = 0; i < 5; i++) {
    r.burst(`${i}`);
    await r.clock.run(1_000);
  }
  for (const { chunk, at } of r.shown) assert.equal(at, r.written.get(chunk));
});

test("the end of the run shows the rest at once", async () => {
  const r = await reading({ smooth: true, follow: true });
  r.burst(...words("a", 30));
  await r.clock.run(20);
  assert.ok(r.shown.length < 30);
  r.end();
  await r.clock.run(20);
  assert.equal(r.shown.length, 31);
});

test("a hidden page holds nothing back", async () => {
  const r = await reading({ smooth: true });
  r.burst(...words("a", 30));
  await r.clock.run(20);
  assert.ok(r.shown.length < 30);
  r.page.setVisible(false);
  await r.clock.run(20);
  assert.equal(r.shown.length, 30);
  r.burst(...words("b", 30));
  await r.clock.run(0);
  assert.equal(r.shown.length, 60);
});

test("what is replayed is not held back", async () => {
  const network = new Network();
  const { server, clock } = network;
  server.write(
    STREAM,
    (log) => log.open(runId(1)),
    (log) => log.data(...words("a", 50)),
  );
  const reader = network.client().stream(STREAM, { smooth: true });
  const got = [];
  void (async () => {
    for await (const chunk of reader) got.push(chunk);
  })();
  await clock.run(10);
  assert.equal(got.length, 50);
});

test("a reader that is closed and read again goes on where it was", async () => {
  const { network, clock, say } = started();
  const reader = network.client().stream(STREAM, { smooth: true });
  const first = collect(reader);
  await clock.run(1_000);
  for (let i = 0; i < 3; i++) {
    say(...words(`${i}.`, 12));
    await clock.run(250);
  }
  assert.ok(first.items.length < 38);
  reader.close();
  const second = collect(reader);
  await clock.run(1_000);
  assert.ok(first.done);
  assert.deepEqual(
    [...first.items, ...second.items],
    ["Hello", ", ", ...words("0.", 12), ...words("1.", 12), ...words("2.", 12)],
  );
});

test("a slow reader is not buffered without bound", async () => {
  const { network, clock, say } = started();
  const events = network.client().stream(STREAM, { smooth: true }).events();
  const next = async () => {
    const result = events.next();
    await clock.run(20);
    return (await result).value;
  };
  await next();
  let asked = 0;
  for (let i = 0; i < 300; i++) {
    say("x".repeat(20_000));
    await clock.run(100);
    if (i % 10 === 0) await next();
    asked = network.sent.filter(({ type }) => type === "subscribe").length;
  }
  assert.equal(asked, 0, "what it has no room for is not asked for");
  const tail = network.server.log(STREAM).tail.seq;
  let seq = 0;
  while (seq < tail) ({ seq } = await next());
  assert.ok(
    network.sent.some(({ type }) => type === "subscribe"),
    "what was let go is asked for",
  );
});

test("the cursor is that of what was shown", async () => {
  const r = await reading({ smooth: true });
  r.burst(...words("a", 30));
  await r.clock.run(100);
  assert.equal(r.reader.cursor.seq, 1 + r.shown.length);
});
