/** A reader that asks for a compacted replay sees what one sees who does not (§3.6). */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { receive, watch } from "../src/cursor.js";
import { decode } from "../src/frames.js";
import { CALM, runId } from "./support/server.js";
import { Network } from "./support/network.js";

const RUN = runId(1);
const STREAM = "chat:42";

/** A slice of 1 open, and chunks that stand for 3, 1 and 2. */
const slice = {
  type: "slice",
  stream: STREAM,
  run: RUN,
  seq: 1,
  next: 8,
  at: 1,
  open: {},
  chunks: ["abc", "d", "ef"],
  counts: [3, 1, 2],
  compact: "text",
  replay: true,
};

/** A reader of that mode whose cursor is at `seq`. */
const at = (seq, compact = "text") =>
  watch({ stream: STREAM, after: seq ? { run: RUN, seq } : null, compact }, 0);

const shown = (outputs) => outputs.flatMap((output) => output.slice?.chunks ?? []);

describe("a compacted slice", () => {
  test("covers what its counts say", () => {
    assert.ok(decode(JSON.stringify(slice)));
    assert.equal(decode(JSON.stringify({ ...slice, counts: [3, 1, 3] })), null);
    assert.equal(decode(JSON.stringify({ ...slice, counts: [3, 1] })), null);
    const { chunks: _, ...empty } = { ...slice, counts: [] };
    assert.ok(decode(JSON.stringify(empty)), "all of it may have been left out");
  });

  test("is taken whole by who has nothing", () => {
    const reader = at(0);
    assert.deepEqual(shown(receive(reader, slice, 0)), ["abc", "d", "ef"]);
    assert.equal(reader.cursor.seq, 7);
  });

  test("continues the cursor", () => {
    const reader = at(8);
    const next = { ...slice, seq: 9, next: 15, open: undefined };
    assert.deepEqual(shown(receive(reader, next, 0)), ["abc", "d", "ef"]);
    assert.equal(reader.cursor.seq, 14);
  });

  for (const seq of [1, 2, 4, 6])
    test(`is let go by who has some of it: ${seq}`, () => {
      const reader = at(seq);
      assert.deepEqual(receive(reader, slice, 0), []);
      assert.equal(reader.cursor.seq, seq);
      assert.deepEqual(reader.held, []);
    });

  test("is let go by who did not ask for it so", () => {
    for (const compact of [null, "ui-message"]) {
      const reader = at(0, compact);
      assert.deepEqual(receive(reader, slice, 0), []);
      assert.equal(reader.cursor, null);
    }
  });
});

test("an event's seq is the last that its chunk stands for, so that a cursor goes on behind it", async () => {
  const network = new Network();
  network.server.write(
    STREAM,
    (log) => log.open(RUN, {}),
    (log) => log.data("a", "b", "c"),
    (log) => log.end("completed"),
  );
  const reader = network.client().stream(STREAM, { compact: "text" });
  const seen = [];
  const reading = (async () => {
    for await (const { type, seq, chunk } of reader.events()) seen.push([type, seq, chunk]);
  })();
  await network.clock.run(2_000);
  await reading;
  assert.deepEqual(seen, [
    ["open", 1, undefined],
    ["chunk", 4, "abc"],
    ["end", 5, undefined],
  ]);
  assert.deepEqual(network.sent[0].compact, { [STREAM]: "text" });
});

test("on any network, readers of one stream see the same whether they compact or not", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const network = new Network(seed);
    const { server, clock } = network;
    server.faults = {
      ...CALM,
      lose: 0.15,
      repeat: 0.15,
      delay: 400,
      gone: 0.05,
      sideBySide: 200,
      failedPost: 0.1,
    };
    const client = network.client();
    const texts = {};
    const read = async (name, compact, wait) => {
      if (wait) await new Promise((resolve) => clock.setTimeout(resolve, wait));
      texts[name] = "";
      for await (const chunk of client.stream(STREAM, { compact, run: RUN })) texts[name] += chunk;
      texts[name] += "|";
    };
    const reading = [read("plain"), read("compacted", "text"), read("late", "text", 1_500)];
    server.write(STREAM, (log) => log.open(RUN, {}));
    let truth = "";
    for (let i = 0; i < 60; i++) {
      const words = Array.from({ length: 1 + (i % 5) }, (_, j) => `${i}.${j} `);
      truth += words.join("");
      clock.setTimeout(() => server.write(STREAM, (log) => log.data(...words)), 50 * i);
    }
    clock.setTimeout(() => server.write(STREAM, (log) => log.end("completed")), 3_100);
    await clock.run(3_200);
    server.faults = CALM;
    await clock.run(120_000);
    const whole = `${truth}|`;
    assert.deepEqual(texts, { plain: whole, compacted: whole, late: whole }, `seed ${seed}`);
    await Promise.all(reading);
    client.close();
  }
});
