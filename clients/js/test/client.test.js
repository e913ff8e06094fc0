/** The edge: what the machine cannot see. Sockets, tokens, the page, and the readers' promises. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { TailraceError } from "../src/index.js";
import { settle } from "./support/clock.js";
import { Network } from "./support/network.js";
import { runId } from "./support/server.js";

const STREAM = "chat:42";

/** A network with a run of two chunks going on. */
function started() {
  const network = new Network();
  const { server } = network;
  server.write(
    STREAM,
    (log) => log.open(runId(1), { model: "m" }),
    (log) => log.data("Hello", ", "),
  );
  const say = (...chunks) => server.write(STREAM, (log) => log.data(...chunks));
  const end = (...how) => server.write(STREAM, (log) => log.end(...how));
  return { network, server, clock: network.clock, say, end };
}

/** Collects what an iteration gives, and how it ends. */
function collect(iterable) {
  const got = { items: [], done: false, error: null };
  got.finished = (async () => {
    try {
      for await (const item of iterable) got.items.push(item);
    } catch (error) {
      got.error = error;
    }
    got.done = true;
  })();
  return got;
}

test("no socket is opened before something is read, and none stays after", async () => {
  const { network, clock, end } = started();
  const client = network.client();
  const reader = client.stream(STREAM);
  await clock.run(1_000);
  assert.equal(network.sockets.length, 0);
  assert.equal(client.status, "idle");
  const got = collect(reader);
  await clock.run(1_000);
  assert.equal(network.sockets.length, 1);
  end("completed");
  await clock.run(1_000);
  assert.ok(got.done);
  await clock.run(70_000);
  assert.equal(network.open.length, 0);
  assert.equal(client.status, "idle");
  assert.equal(clock.pending, 0, "no timer is left behind");
});

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

test("many readers of a stream share a subscription, many streams a socket", async () => {
  const { network, clock, server, end } = started();
  server.write(
    "chat:7",
    (log) => log.open(runId(9)),
    (log) => log.data("seven"),
    (log) => log.end("completed"),
  );
  const client = network.client();
  const texts = [client.stream(STREAM).text(), client.stream(STREAM).text(), client.stream("chat:7").text()];
  await clock.run(500);
  end("completed");
  await clock.run(500);
  assert.deepEqual(await Promise.all(texts), ["Hello, ", "Hello, ", "seven"]);
  assert.equal(network.sockets.length, 1);
  assert.equal(server.counts.sync, 1);
  assert.equal(server.counts.subscribe, undefined);
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
  for (const name of ["", "a b", "é", "x".repeat(201)])
    assert.throws(() => client.stream(name), { code: "invalid" });
});

test("the token travels as a subprotocol, or as a query where it must", async () => {
  const network = new Network();
  void network
    .client({ token: "a.b.c" })
    .stream(STREAM)
    .text()
    .catch(() => {});
  void network
    .client({ token: "a.b.c&", handshake: "query" })
    .stream(STREAM)
    .text()
    .catch(() => {});
  void network
    .client({ token: "t", handshake: "query", url: "wss://h/s?x=1" })
    .stream(STREAM)
    .text()
    .catch(() => {});
  await network.clock.run(0);
  const [first, second, third] = network.sockets;
  assert.deepEqual(first.protocols, ["tailrace.v1", "bearer.a.b.c"]);
  assert.equal(first.url, "wss://example.test/live");
  assert.deepEqual(second.protocols, []);
  assert.equal(second.url, "wss://example.test/live?token=a.b.c%26");
  assert.equal(third.url, "wss://h/s?x=1&token=t");
});

test("ten cuts of the network in one run lose and double nothing", async () => {
  const { network, clock, say, end } = started();
  const reader = network.client().stream(STREAM);
  const got = collect(reader);
  const expected = ["Hello", ", "];
  for (let i = 0; i < 10; i++) {
    await clock.run(network.random() * 3_000);
    const length = 100 + network.random() * 60_000;
    network.cut = true;
    network.page.setOnline(false);
    for (const socket of network.open) socket.fail([1001, 1006, 1009, 1011][i % 4]);
    const steps = 5;
    for (let k = 0; k < steps; k++) {
      say(`${i}.${k}`);
      expected.push(`${i}.${k}`);
      await clock.run(length / steps);
    }
    network.cut = false;
    network.page.setOnline(true);
  }
  await clock.run(5_000);
  end("completed");
  await clock.run(5_000);
  assert.deepEqual(got.items, expected);
  assert.ok(got.done && !got.error);
});

test("a laptop that slept finds out at once when it wakes", async () => {
  const { network, clock, say } = started();
  const got = collect(network.client().stream(STREAM));
  await clock.run(500);
  network.page.setVisible(false);
  network.server.silent = true;
  clock.sleep(3_600_000);
  say("slept");
  for (const socket of network.open) network.server.disconnect(socket);
  network.server.silent = false;
  network.page.setVisible(true);
  await clock.run(6_000);
  assert.deepEqual(got.items, ["Hello", ", ", "slept"]);
});

test("a token that expired is replaced, and the reader notices nothing", async () => {
  const { network, clock, end } = started();
  const tokens = ["old", "new"];
  network.admit = (token) => (token === "new" ? "ok" : "expired");
  const got = collect(network.client({ token: async () => tokens.shift() }).stream(STREAM));
  await clock.run(2_000);
  end("completed");
  await clock.run(1_000);
  assert.deepEqual(got.items, ["Hello", ", "]);
  assert.equal(got.error, null);
});

const jwt = (exp) => `x.${Buffer.from(JSON.stringify({ exp, sub: "user:é" })).toString("base64url")}.y`;

test("a token is renewed on the living socket before it expires", async () => {
  const { network, clock } = started();
  const start = 1_764_000_000;
  const tokens = [jwt(start + 100), jwt(start + 10_000)];
  collect(network.client({ token: () => tokens.shift() }).stream(STREAM));
  await clock.run(79_000);
  assert.equal(network.sent.filter((f) => f.type === "auth").length, 0);
  await clock.run(2_000);
  assert.deepEqual(
    network.sent.filter((f) => f.type === "auth").map((f) => f.token),
    [jwt(start + 10_000)],
  );
  assert.equal(network.sockets.length, 1);
});

test("three refused handshakes with fresh tokens are an error, the network is not", async () => {
  const { network, clock } = started();
  const client = network.client({ token: () => `t${network.sockets.length}` });
  network.cut = true;
  const got = collect(client.stream(STREAM));
  await clock.run(120_000);
  assert.ok(!got.done, "a network that is away is waited for");
  assert.equal(client.status, "offline");
  network.cut = false;
  network.admit = () => "refused";
  await clock.run(120_000);
  assert.equal(got.error.code, "refused");
  assert.equal(got.error.retryable, false);
  assert.equal(client.status, "closed");
  assert.equal(client.error.code, "refused");
  network.admit = () => "ok";
  const again = collect(client.stream(STREAM));
  await clock.run(1_000);
  assert.deepEqual(again.items, ["Hello", ", "], "a client that was refused can be tried again");
});

test("a token function that fails is tried again; one that fails for good ends the reading", async () => {
  const { network, clock } = started();
  let calls = 0;
  const flaky = network.client({
    token: async () => {
      if (++calls < 3) throw new Error("502");
      return "token";
    },
  });
  const got = collect(flaky.stream(STREAM));
  await clock.run(5_000);
  assert.deepEqual(got.items, ["Hello", ", "]);
  const signedOut = network.client({
    token: () => {
      throw Object.assign(new Error("signed out"), { retryable: false });
    },
  });
  const failed = collect(signedOut.stream(STREAM));
  await clock.run(1_000);
  assert.equal(failed.error.code, "unauthorized");
  assert.equal(failed.error.message, "signed out");
});

test("a token function that never answers does not hang the client for ever", async () => {
  const { network, clock } = started();
  let calls = 0;
  const client = network.client({ token: () => (++calls === 1 ? new Promise(() => {}) : "token") });
  const got = collect(client.stream(STREAM));
  await clock.run(12_000);
  assert.deepEqual(got.items, ["Hello", ", "]);
});

test("a frame over 32,000 bytes is not sent", async () => {
  const { network, clock } = started();
  const start = 1_764_000_000;
  const tokens = [jwt(start + 10), `${jwt(start + 10_000)}${"z".repeat(33_000)}`];
  collect(network.client({ token: () => tokens.shift() ?? jwt(start + 99_999) }).stream(STREAM));
  await clock.run(60_000);
  assert.equal(network.sockets.length, 1, "the connection was not closed with 1009");
  assert.ok(network.sent.some((f) => f.type === "auth"));
});

test("a forbidden stream is an error of its own readers only", async () => {
  const { network, clock } = started();
  const { server } = network;
  const replay = server.replay.bind(server);
  server.replay = (connection, stream, ...rest) =>
    stream === "secret"
      ? { error: { code: "forbidden", message: "no grant", retryable: false } }
      : replay(connection, stream, ...rest);
  const client = network.client();
  const [bad, good] = [collect(client.stream("secret")), collect(client.stream(STREAM))];
  await clock.run(500);
  assert.equal(bad.error.code, "forbidden");
  assert.deepEqual(good.items, ["Hello", ", "]);
});

test("a runtime without WebSocket is told, not tried for ever", async () => {
  const network = new Network();
  const got = collect(network.client({ WebSocket: undefined }).stream(STREAM));
  await network.clock.run(1_000);
  assert.equal(got.error.code, "invalid");
  assert.match(got.error.message, /WebSocket/);
});

test("close ends every reader, for good", async () => {
  const { network, clock } = started();
  const client = network.client();
  const got = collect(client.stream(STREAM));
  await clock.run(500);
  client.close();
  await settle();
  assert.equal(got.error.code, "closed");
  assert.equal(client.status, "closed");
  const late = collect(client.stream(STREAM));
  await settle();
  assert.equal(late.error.code, "closed");
  await assert.rejects(client.stream(STREAM, { run: runId(1) }).cancel(), { code: "closed" });
  await clock.run(1_000);
  assert.equal(clock.pending, 0);
  assert.equal(network.open.length, 0);
});

test("status tells what goes on, and only changes", async () => {
  const { network, clock } = started();
  const client = network.client();
  const seen = [];
  const stop = client.subscribe((status) => seen.push(status));
  collect(client.stream(STREAM));
  await clock.run(500);
  network.cut = true;
  for (const socket of network.open) socket.fail(1006);
  await clock.run(3_000);
  network.cut = false;
  await clock.run(30_000);
  assert.deepEqual(seen.slice(0, 4), ["connecting", "replaying", "live", "connecting"]);
  assert.ok(seen.includes("offline"));
  assert.deepEqual(seen.slice(-2), ["replaying", "live"]);
  assert.ok(seen.every((status, i) => status !== seen[i - 1]));
  stop();
  client.close();
  assert.equal(seen.at(-1), "live");
});

test("an event of the page reaches a client that is in use, and no other", async () => {
  const { network, clock, end } = started();
  const client = network.client();
  const got = collect(client.stream(STREAM));
  await clock.run(500);
  network.page.setOnline(false);
  assert.equal(client.status, "offline");
  network.page.setOnline(true);
  assert.equal(client.status, "live");
  end("completed");
  await clock.run(100_000);
  assert.ok(got.done);
  network.page.setOnline(false);
  assert.equal(client.status, "idle");
});

test("what is not a frame of ours is ignored", async () => {
  const { network, clock, end } = started();
  const got = collect(network.client().stream(STREAM));
  await clock.run(500);
  const [socket] = network.open;
  for (const data of [
    "",
    "nonsense",
    "null",
    "[]",
    "7",
    '{"type":"future"}',
    '{"type":"slice"}',
    new ArrayBuffer(2),
  ]) {
    socket.onmessage({ data });
  }
  socket.onmessage({ data: '{"type":"toString"}' });
  end("completed");
  await clock.run(500);
  assert.deepEqual(got.items, ["Hello", ", "]);
  assert.ok(!got.error);
});
