/** What an application reads, and how it ends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { TailraceError } from "../src/index.js";
import { Network } from "./support/network.js";
import { runId } from "./support/server.js";
import { collect, started, STREAM } from "./support/started.js";

test("the loop ends with the run", async () => {
  const { network, clock, say, end } = started();
  const reader = network.client().stream(STREAM);
  const got = collect(reader);
  await clock.run(500);
  say("world");
  say("!");
  end("completed");
  await clock.run(500);
  assert.deepEqual(got.items, ["Hello", ", ", "world", "!"]);
  assert.equal(got.error, null);
  assert.deepEqual(reader.end, { run: runId(1), reason: "completed", message: undefined });
  assert.deepEqual(reader.cursor, { run: runId(1), seq: 6, ended: true });
});

for (const [reason, message, retryable] of [
  ["error", "the model is busy", false],
  ["cancelled", undefined, false],
  ["producer_lost", undefined, true],
]) {
  test(`a run that ends as ${reason} throws it`, async () => {
    const { network, clock, end } = started();
    const got = collect(network.client().stream(STREAM));
    await clock.run(500);
    end(reason, message);
    await clock.run(500);
    assert.ok(got.error instanceof TailraceError);
    assert.equal(got.error.code, reason);
    assert.equal(got.error.retryable, retryable);
    assert.equal(got.error.message, message ?? reason);
  });
}

test("a run presumed dead is read on by reading again", async () => {
  const { network, clock, server, say, end } = started();
  const reader = network.client().stream(STREAM);
  const first = collect(reader);
  await clock.run(500);
  end("producer_lost");
  await clock.run(500);
  assert.equal(first.error.code, "producer_lost");
  const second = collect(reader);
  await clock.run(500);
  server.write(STREAM, (log) => log.claim());
  say("world");
  end("completed");
  await clock.run(500);
  assert.deepEqual(second.items, ["world"]);
  assert.ok(second.done && !second.error);
});

test("no other run is read behind one presumed dead", async () => {
  const { network, clock, server, end } = started();
  const client = network.client();
  const events = collect(client.stream(STREAM).events());
  const reader = client.stream(STREAM);
  const first = collect(reader);
  await clock.run(500);
  end("producer_lost");
  await clock.run(500);
  assert.equal(first.error.code, "producer_lost");
  assert.deepEqual(reader.cursor, { run: runId(1), seq: 4, ended: true, lost: true });
  const kept = client.stream(STREAM, { after: reader.cursor });
  const rest = [collect(reader), collect(kept)];
  await clock.run(500);
  server.write(
    STREAM,
    (log) => log.open(runId(2)),
    (log) => log.data("another answer"),
  );
  await clock.run(500);
  for (const { items, error } of rest) {
    assert.deepEqual(items, []);
    assert.equal(error.code, "superseded");
    assert.equal(error.retryable, false);
  }
  assert.deepEqual(
    events.items.map(({ type, reason }) => reason ?? type),
    ["open", "chunk", "chunk", "producer_lost", "superseded"],
  );
  assert.ok(events.done && !events.error);
  const next = collect(reader);
  await clock.run(500);
  assert.deepEqual(next.items, ["another answer"]);
});

test("a follower reads run after run, failed ones too", async () => {
  const { network, clock, server, say, end } = started();
  const got = collect(network.client().stream(STREAM, { follow: true }));
  await clock.run(500);
  end("error", "no");
  server.write(STREAM, (log) => log.open(runId(2)));
  say("again");
  await clock.run(500);
  assert.deepEqual(got.items, ["Hello", ", ", "again"]);
  assert.ok(!got.done);
});

test("events tell how things came and when they were shown", async () => {
  const { network, clock, say, end } = started();
  const got = collect(network.client().stream(STREAM).events());
  await clock.run(500);
  say("world");
  end("completed");
  await clock.run(500);
  assert.deepEqual(
    got.items.map(({ type, seq, via }) => [type, seq, via]),
    [
      ["open", 1, "replay"],
      ["chunk", 2, "replay"],
      ["chunk", 3, "replay"],
      ["chunk", 4, "live"],
      ["end", 5, "live"],
    ],
  );
  const [open, , , chunk] = got.items;
  assert.deepEqual(open.meta, { model: "m" });
  assert.equal(chunk.at, 500);
  assert.equal(chunk.shown, 1_764_000_000_500);
  assert.equal(chunk.received, 1_764_000_000_500);
});

test("text is the whole text", async () => {
  const { network, clock, server, end } = started();
  const text = network.client().stream(STREAM).text();
  await clock.run(500);
  server.write(STREAM, (log) =>
    log.data({ type: "text-delta", delta: "wor" }, { text: "ld" }, 7, { tool: "x" }),
  );
  end("completed");
  await clock.run(500);
  assert.equal(await text, "Hello, world");
});

test("the text of a follower is that of all its runs", async () => {
  const { network, clock, server, say, end } = started();
  const client = network.client();
  const reader = client.stream(STREAM, { follow: true });
  const text = reader.text();
  await clock.run(500);
  end("completed");
  server.write(STREAM, (log) => log.open(runId(2)));
  say("world");
  await clock.run(500);
  reader.close();
  assert.equal(await text, "Hello, world");
});

test("the text of a run that did not complete is no text", async () => {
  const { network, clock, end } = started();
  const text = network.client().stream(STREAM).text();
  text.catch(() => {});
  await clock.run(500);
  end("cancelled");
  await clock.run(500);
  await assert.rejects(text, { code: "cancelled" });
});

test("leaving the loop stops watching and cancels nothing", async () => {
  const { network, clock, server } = started();
  const reader = network.client().stream(STREAM);
  const left = (async () => {
    for await (const _ of reader) break;
  })();
  await clock.run(500);
  await left;
  await clock.run(500);
  assert.equal(server.counts.unsubscribe, 1);
  assert.equal(server.counts.cancel, undefined);
  assert.ok(server.log(STREAM).active);
});

test("a loop that is left late ends no newer reading", async () => {
  const { network, clock, say, end } = started();
  const reader = network.client().stream(STREAM);
  let free;
  const busy = new Promise((resolve) => (free = resolve));
  const left = (async () => {
    for await (const _ of reader) {
      await busy;
      break;
    }
  })();
  await clock.run(500);
  reader.close();
  const second = collect(reader);
  await clock.run(500);
  free();
  await left;
  say("world");
  end("completed");
  await clock.run(500);
  assert.deepEqual(second.items, [", ", "world"]);
  assert.equal(reader.end.reason, "completed");
});

test("a stream that is cancelled late ends no newer reading", async () => {
  const { network, clock, say, end } = started();
  const reader = network.client().stream(STREAM);
  const first = reader.readable();
  reader.close();
  const second = collect(reader);
  await clock.run(500);
  await first.cancel();
  say("world");
  end("completed");
  await clock.run(500);
  assert.deepEqual(second.items, ["Hello", ", ", "world"]);
});

test("a kept cursor goes on after a reload, exactly", async () => {
  const { network, clock, say, end } = started();
  const reader = network.client().stream(STREAM);
  const first = [];
  const reading = (async () => {
    for await (const chunk of reader) {
      first.push(chunk);
      if (first.length === 3) break;
    }
  })();
  await clock.run(500);
  say("wor", "ld");
  await clock.run(500);
  await reading;
  const kept = JSON.parse(JSON.stringify(reader.cursor));
  const second = collect(network.client().stream(STREAM, { after: kept }));
  await clock.run(500);
  end("completed");
  await clock.run(500);
  assert.deepEqual([...first, ...second.items], ["Hello", ", ", "wor", "ld"]);
});

test("what was received and not yet read is not in the cursor", async () => {
  const { network, clock } = started();
  const reader = network.client().stream(STREAM);
  const chunks = reader[Symbol.asyncIterator]();
  const first = chunks.next();
  await clock.run(500);
  assert.equal((await first).value, "Hello");
  assert.deepEqual(reader.cursor, { run: runId(1), seq: 2 });
});

test("two things cannot read one reader at a time", async () => {
  const { network } = started();
  const reader = network.client().stream(STREAM);
  const events = reader.events();
  assert.throws(() => reader.events(), { code: "invalid" });
  await events.return();
  reader.events();
});

test("cancel stops the answer for everyone", async () => {
  const { network, clock, server } = started();
  const client = network.client();
  const [mine, theirs] = [client.stream(STREAM), network.client().stream(STREAM)];
  const [a, b] = [collect(mine), collect(theirs)];
  await clock.run(500);
  const cancelled = mine.cancel();
  await clock.run(500);
  assert.deepEqual(await cancelled, { reason: "cancelled" });
  assert.equal(a.error.code, "cancelled");
  assert.equal(b.error.code, "cancelled");
  assert.ok(!server.log(STREAM).active);
});

test("cancel waits for the run that is not known yet", async () => {
  const network = new Network();
  const { server, clock } = network;
  const reader = network.client().stream(STREAM);
  collect(reader);
  const cancelled = reader.cancel();
  await clock.run(500);
  server.write(STREAM, (log) => log.open(runId(1)));
  await clock.run(500);
  assert.deepEqual(await cancelled, { reason: "cancelled" });
});

test("a cancel of a run that is over tells how it ended", async () => {
  const { network, clock, end } = started();
  const reader = network.client().stream(STREAM);
  collect(reader);
  await clock.run(500);
  end("completed");
  await clock.run(500);
  const cancelled = reader.cancel();
  await clock.run(500);
  assert.deepEqual(await cancelled, { reason: "completed" });
});

test("readable gives the chunks and takes no more than its reader", async () => {
  const { network, clock, end } = started();
  const reader = network.client().stream(STREAM);
  const stream = reader.readable().getReader();
  const first = stream.read();
  await clock.run(500);
  assert.equal((await first).value, "Hello");
  await clock.run(500);
  assert.equal(reader.cursor.seq, 2, "the second chunk waits until it is wanted");
  end("completed");
  assert.equal((await stream.read()).value, ", ");
  const last = stream.read();
  await clock.run(500);
  assert.equal((await last).done, true);
});

test("a slow reader is not buffered without bound, and misses nothing", async () => {
  const network = new Network();
  const { server, clock } = network;
  const big = "x".repeat(20_000);
  server.write(STREAM, (log) => log.open(runId(1)));
  const reader = network.client().stream(STREAM);
  const chunks = reader[Symbol.asyncIterator]();
  const first = chunks.next();
  await clock.run(500);
  for (let i = 0; i < 200; i++) {
    server.write(STREAM, (log) => log.data(`${i} ${big}`));
    await clock.run(10);
  }
  server.write(STREAM, (log) => log.end("completed"));
  await clock.run(1_000);
  const before = server.counts.subscribe ?? 0;
  const got = [(await first).value];
  const reading = (async () => {
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) got.push(next.value);
  })();
  await clock.run(30_000);
  await reading;
  assert.deepEqual(
    got.map((chunk) => chunk.split(" ")[0]),
    Array.from({ length: 200 }, (_, i) => String(i)),
  );
  assert.ok((server.counts.subscribe ?? 0) > before, "what was let go was asked for");
});

test("a stream named like a property of every object is a stream", async () => {
  const network = new Network();
  for (const name of ["__proto__", "constructor", "toString"]) {
    network.server.write(
      name,
      (log) => log.open(runId(1)),
      (log) => log.data(name),
      (log) => log.end("completed"),
    );
  }
  const client = network.client();
  const texts = ["__proto__", "constructor", "toString"].map((name) => client.stream(name).text());
  await network.clock.run(1_000);
  assert.deepEqual(await Promise.all(texts), ["__proto__", "constructor", "toString"]);
});

test("a name that is no stream name is refused", () => {
  const client = new Network().client();
  for (const name of ["", "a b", "é", "x".repeat(201), undefined, null, 7, ["a"]])
    assert.throws(() => client.stream(name), { code: "invalid" });
});

test("a run or a cursor that is none is refused, and ends no other reading of the stream", async () => {
  const { network, clock, end } = started();
  const client = network.client();
  const text = client.stream(STREAM).text();
  for (const run of ["", "r1", runId(1).toUpperCase(), `${runId(1)} `, 7, {}])
    assert.throws(() => client.stream(STREAM, { run }), { code: "invalid" });
  const cursor = { run: runId(1), seq: 2 };
  for (const after of [JSON.stringify(cursor), {}, { run: runId(1) }, { seq: 2 }, { ...cursor, seq: "two" }])
    assert.throws(() => client.stream(STREAM, { after }), { code: "invalid" });
  for (const options of [{}, { run: null, after: null }, { run: runId(1) }, { after: cursor }])
    assert.ok(client.stream(STREAM, options));
  end("completed");
  await clock.run(500);
  assert.equal(await text, "Hello, ");
});

test("the text of a run that was lost and goes on is whole", async () => {
  const { network, server, clock, say, end } = started();
  const reader = network.client().stream(STREAM);
  const lost = reader.text();
  lost.catch(() => {});
  await clock.run(500);
  end("producer_lost");
  await clock.run(500);
  await assert.rejects(lost, { code: "producer_lost", retryable: true });
  const whole = reader.text();
  server.write(STREAM, (log) => log.claim());
  say("world");
  end("completed");
  await clock.run(500);
  assert.equal(await whole, "Hello, world");
  server.write(STREAM, (log) => log.open(runId(2)));
  const next = reader.text();
  say("Next");
  end("completed");
  await clock.run(500);
  assert.equal(await next, "Next");
});
