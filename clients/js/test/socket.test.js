/** The client over real sockets: handshakes, close codes and refusals as a network gives them. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { afterEach, test } from "node:test";
import { WebSocket as Package, WebSocketServer } from "ws";
import { createClient } from "../src/index.js";
import { seeded } from "./support/clock.js";
import { runId, Server } from "./support/server.js";

// The runtime's own, where it has one: from Node 22 on.
const { WebSocket = Package } = globalThis;
const STREAM = "chat:42";
const clock = { now: () => performance.now(), setTimeout, clearTimeout };
const open = [];
/** Sockets are real here: what never comes fails its test, instead of being waited for. */
const timeout = 20_000;

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** A server of its own on a port of its own. `admit` says which tokens it lets in. */
async function listening({ port = 0, server = new Server(clock, seeded(1)), admit = () => true } = {}) {
  const http = createServer((_, response) => response.writeHead(426).end());
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "tailrace.v1" });
  const tokens = [];
  http.on("upgrade", (request, socket, head) => {
    const [, bearer] = (request.headers["sec-websocket-protocol"] ?? "").split(/, ?/);
    const token =
      bearer?.replace("bearer.", "") ?? new URL(request.url, "http://h").searchParams.get("token");
    tokens.push(token);
    if (!admit(token)) return void socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (ws) => {
      const connection = { alive: true, receive: (frame) => ws.send(JSON.stringify(frame)) };
      server.connect(connection);
      ws.on("message", (text) => server.handle(connection, JSON.parse(text)));
      ws.on("close", () => server.disconnect(connection));
    });
  });
  await new Promise((resolve) => http.listen(port, "127.0.0.1", resolve));
  const close = async () => {
    for (const ws of sockets.clients) ws.terminate();
    await new Promise((resolve) => http.close(resolve));
  };
  open.push(() => http.listening && close());
  return { server, sockets, tokens, close, port: http.address().port };
}

/** A client that comes back quickly. */
function connected({ port }, options = {}) {
  const client = createClient({
    url: `ws://127.0.0.1:${port}/live`,
    token: () => "fresh",
    WebSocket,
    random: () => 0.02,
    ...options,
  });
  open.push(() => client.close());
  return client;
}

const until = async (what) => {
  const late = clock.now() + timeout / 2;
  while (!what()) {
    assert.ok(clock.now() < late, `it never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
};

for (const handshake of ["subprotocol", "query"]) {
  test(`an answer is read with the token as ${handshake}`, { timeout }, async () => {
    const s = await listening();
    s.server.write(
      STREAM,
      (log) => log.open(runId(1)),
      (log) => log.data("Hello"),
      (log) => log.end("completed"),
    );
    assert.equal(await connected(s, { handshake }).stream(STREAM).text(), "Hello");
    assert.deepEqual(s.tokens, ["fresh"]);
  });
}

test("whatever code a connection closes with, the answer is exact", { timeout }, async () => {
  const s = await listening();
  s.server.write(STREAM, (log) => log.open(runId(1)));
  const reader = connected(s).stream(STREAM);
  const got = [];
  const reading = (async () => {
    for await (const chunk of reader) got.push(chunk);
  })();
  const expected = [];
  for (const how of [1001, 1009, 1011, 4000, "terminate"]) {
    await until(() => s.sockets.clients.size === 1);
    for (const ws of s.sockets.clients) how === "terminate" ? ws.terminate() : ws.close(how);
    for (let i = 0; i < 3; i++) {
      s.server.write(STREAM, (log) => log.data(`${how}.${i}`));
      expected.push(`${how}.${i}`);
    }
    await until(() => got.length === expected.length);
  }
  s.server.write(STREAM, (log) => log.end("completed"));
  await reading;
  assert.deepEqual(got, expected);
});

test("a server that refuses the token is told from one that is not there", { timeout }, async () => {
  const refusing = await listening({ admit: () => false });
  let fetched = 0;
  const token = () => `fresh-${++fetched}`;
  await assert.rejects(connected(refusing, { token, handshake: "query" }).stream(STREAM).text(), {
    code: "refused",
  });
  assert.equal(fetched, 3);

  const { port } = refusing;
  await refusing.close();
  const client = connected({ port });
  const text = client.stream(STREAM).text();
  await until(() => client.status === "offline");
  const back = await listening({ port });
  back.server.write(
    STREAM,
    (log) => log.open(runId(1)),
    (log) => log.data("here"),
    (log) => log.end("completed"),
  );
  assert.equal(await text, "here");
});

test("closing the client in the middle of a handshake breaks nothing", { timeout }, async () => {
  const s = await listening();
  const client = connected(s);
  const text = client.stream(STREAM).text();
  await until(() => client.status === "connecting");
  client.close();
  await assert.rejects(text, { code: "closed" });
});
