/** The edge: sockets, tokens, the page, and what the client says of itself. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { settle } from "./support/clock.js";
import { Network } from "./support/network.js";
import { runId } from "./support/server.js";
import { collect, started, STREAM } from "./support/started.js";

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

test("the token travels as a subprotocol, or as a query where it must", async () => {
  const network = new Network();
  void network
    .client({ token: "a.b.c" })
    .stream(STREAM)
    .text()
    .catch(() => {});
  void network
    .client({ token: "a.b_c-d", handshake: "query" })
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
  assert.equal(second.url, "wss://example.test/live?token=a.b_c-d");
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

test("a handshake that fails without a close, as in Node 22, has failed", async () => {
  const network = new Network();
  network.admit = () => "refused";
  class Socket extends network.WebSocket {
    fail() {
      this.onerror?.({ type: "error" });
    }
  }
  const got = collect(network.client({ WebSocket: Socket }).stream(STREAM));
  await network.clock.run(5_000);
  assert.equal(got.error?.code, "refused");
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

test("that no token can be had is told on the console, once until one is had", async (t) => {
  const warn = t.mock.method(console, "warn", () => {});
  const { network, clock } = started();
  const given = ["<h1>502</h1>", "<h1>502</h1>", "good", "<h1>502</h1>", "<h1>502</h1>", "good"];
  collect(network.client({ token: () => given.shift() }).stream(STREAM));
  await clock.run(10_000);
  assert.equal(given.length, 3);
  assert.equal(warn.mock.callCount(), 1);
  const [, error] = warn.mock.calls[0].arguments;
  assert.ok(!String(error).includes("502"), "nothing of what was fetched is repeated");
  network.admit = () => (given.length ? "expired" : "ok");
  network.open[0].fail(1006);
  await clock.run(60_000);
  assert.equal(given.length, 0);
  assert.equal(warn.mock.callCount(), 2);
});

test("a token function that gives what is no token is asked again", async () => {
  for (const page of ["<html><h1>502 Bad Gateway</h1></html>", "", null, undefined, { token: "t" }]) {
    const { network, clock } = started();
    const given = [page];
    const client = network.client({ token: async () => (given.length ? given.pop() : "token") });
    const got = collect(client.stream(STREAM));
    await clock.run(5_000);
    assert.equal(got.error, null);
    assert.deepEqual(got.items, ["Hello", ", "]);
    assert.equal(network.sockets.length, 1, `${page} was offered as a token`);
  }
});

test("a text that is no token ends the reading", async () => {
  const { network, clock } = started();
  const got = collect(network.client({ token: "no token" }).stream(STREAM));
  await clock.run(1_000);
  assert.equal(got.error.code, "unauthorized");
});

test("a url that is none of a socket is refused at once", () => {
  const network = new Network();
  for (const url of [undefined, "", "https://example.test/live", "/live", null])
    assert.throws(() => network.client({ url, page: { ...network.page } }), {
      code: "invalid",
      message: /url/,
    });
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
  assert.equal(got.error.message, "no global WebSocket: give one as the option WebSocket");
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

test("all listeners are told every status in its order, whatever one of them does", async () => {
  const { network, clock } = started();
  const client = network.client();
  const seen = [[], []];
  client.subscribe((status) => {
    seen[0].push(status);
    if (status === "live") client.close();
  });
  client.subscribe((status) => seen[1].push(status));
  const got = collect(client.stream(STREAM));
  await clock.run(500);
  assert.equal(got.error.code, "closed");
  assert.deepEqual(seen[0], ["connecting", "replaying", "live", "closed"]);
  assert.deepEqual(seen[1], seen[0]);
});

test("what an application's functions throw is reported, and harms nobody else", async () => {
  const { network, clock, server, say, end } = started();
  const client = network.client();
  const seen = [];
  client.subscribe(() => {
    throw new Error("of a listener");
  });
  client.subscribe((status) => seen.push(status));
  server.write("chat:2", (log) => log.open(runId(1)));
  const onTail = () => {
    throw new Error("of onTail");
  };
  const got = [collect(client.stream(STREAM, { onTail })), collect(client.stream("chat:2"))];
  await clock.run(500);
  say("world");
  end("completed");
  server.write("chat:2", (log) => log.data("two"));
  await clock.run(500);
  assert.deepEqual(got[0].items, ["Hello", ", ", "world"]);
  assert.deepEqual(got[1].items, ["two"]);
  assert.deepEqual(seen, ["connecting", "replaying", "live"]);
  const said = new Set(network.page.reported.map(({ message }) => message));
  assert.deepEqual(said, new Set(["of a listener", "of onTail"]));
});

test("a send that is over leaves nothing with the signal that could have stopped it", async () => {
  const { network, clock } = started();
  const client = network.client();
  const { signal } = new AbortController();
  const sends = [client.send({ stream: STREAM }, signal)];
  await clock.run(500);
  assert.ok((await sends[0]).run);
  client.close();
  await assert.rejects(client.send({ stream: STREAM }, signal), { code: "closed" });
  assert.deepEqual(getEventListeners(signal, "abort"), []);
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

test("a client that was idle while the page was offline says nothing of it when it reads online", async () => {
  const { network, clock, end } = started();
  const client = network.client();
  const got = collect(client.stream(STREAM));
  await clock.run(500);
  network.page.setOnline(false);
  end("completed");
  await clock.run(100_000);
  assert.ok(got.done);
  assert.equal(client.status, "idle");
  network.page.setOnline(true);
  const seen = [];
  client.subscribe((status) => seen.push(status));
  collect(client.stream(STREAM));
  await clock.run(500);
  assert.deepEqual(seen, ["connecting", "replaying", "live"]);
  client.close();
});

test("a send that names no request is given one", async () => {
  const { network, clock } = started();
  const client = network.client();
  const sent = [{}, { requestId: undefined }].map((named) => client.send({ stream: STREAM, ...named }));
  for (const one of sent) one.catch(() => {});
  await clock.run(500);
  const ids = network.sent.filter(({ type }) => type === "send").map(({ requestId }) => requestId);
  assert.ok(ids.length >= 2 && ids.every(Boolean), `${ids}`);
  client.close();
});

test("a send that is refused fails alone, and at once, also where its request is not named", async () => {
  const { network, clock, server, say } = started();
  const client = network.client();
  const got = collect(client.stream(STREAM));
  await clock.run(500);
  const error = {
    code: "invalid",
    message: "frame: no",
    retryable: false,
    stream: STREAM,
    requestId: undefined,
  };
  server.refusals.push({ type: "send", error });
  const sent = client.send({ stream: STREAM });
  sent.catch(() => {});
  await clock.run(500);
  await assert.rejects(sent, { code: "invalid", message: "frame: no" });
  say("world");
  await clock.run(500);
  assert.deepEqual(got.items, ["Hello", ", ", "world"]);
  client.close();
});

test("a request id that the server would not take is refused before it is sent", async () => {
  const { network, clock } = started();
  const client = network.client();
  for (const requestId of ["", "a b", "é", "a\n", "x".repeat(65), null, 7, ["a"]])
    await assert.rejects(client.send({ stream: STREAM, requestId }), { code: "invalid" });
  await clock.run(500);
  assert.equal(network.sockets.length, 0);
});

test("what names no stream is nobody's, and an answer without tails breaks nothing", async () => {
  const { network, clock, say } = started();
  const reader = network.client().stream(STREAM);
  const got = collect(reader);
  await clock.run(500);
  const { run, seq } = reader.cursor;
  const asked = network.sent.length;
  for (const frame of [
    { type: "slice", run, seq: seq + 1, next: seq + 2, at: 1, chunks: ["foreign"] },
    { type: "subscribed", n: 99, run, tail: seq + 9, from: seq, active: true, more: false },
    { type: "synced", n: 99, time: 1 },
  ])
    network.open[0].onmessage({ data: JSON.stringify(frame) });
  await clock.run(1_000);
  const since = network.sent.slice(asked).map(({ type }) => type);
  assert.ok(!since.includes("sync") && !since.includes("subscribe"), `${since}`);
  say("!");
  await clock.run(500);
  assert.deepEqual(got.items, ["Hello", ", ", "!"]);
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
