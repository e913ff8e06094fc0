/**
 * Chunks a second through the whole client: frame text in, machine, reader, application.
 * Usage: node bench/reader.js [chunks] [chunks a slice]
 */
import { createClient } from "../src/index.js";

const CHUNKS = Number(process.argv[2] ?? 500_000);
const PER_SLICE = Number(process.argv[3] ?? 8);
/** Frames in flight before the reader is let catch up, as a socket's own buffer would. */
const WINDOW = 64;
const run = "0193a000-0000-7000-8000-000000000001";
const stream = "chat:42";

let socket;
class BenchSocket {
  constructor() {
    socket = this;
    setTimeout(() => this.onopen(), 0);
  }
  send(text) {
    const { type, n } = JSON.parse(text);
    if (type === "sync")
      this.give({
        type: "synced",
        n,
        time: Date.now(),
        tails: { [stream]: { run: null, tail: 0, from: 0, active: false, more: false } },
      });
  }
  give(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }
  close() {}
}

const frames = [JSON.stringify({ type: "slice", stream, run, seq: 1, next: 2, at: 0, open: {} })];
for (let seq = 2; seq < CHUNKS + 2; seq += PER_SLICE) {
  const chunks = Array.from({ length: Math.min(PER_SLICE, CHUNKS + 2 - seq) }, (_, i) => `token ${seq + i} `);
  frames.push(
    JSON.stringify({ type: "slice", stream, run, seq, next: seq + chunks.length, at: seq, chunks }),
  );
}
frames.push(
  JSON.stringify({
    type: "slice",
    stream,
    run,
    seq: CHUNKS + 2,
    next: CHUNKS + 3,
    at: 0,
    end: { reason: "completed" },
  }),
);

const client = createClient({ url: "wss://example.test", token: "token", WebSocket: BenchSocket, page: {} });
const reader = client.stream(stream);
let count = 0;
const reading = (async () => {
  for await (const _ of reader) count++;
})();
await new Promise((resolve) => setTimeout(resolve, 20));

const start = performance.now();
for (let i = 0; i < frames.length; i++) {
  socket.onmessage({ data: frames[i] });
  if (i % WINDOW === 0) await new Promise(setImmediate);
}
await reading;
const seconds = (performance.now() - start) / 1000;
client.close();
if (count !== CHUNKS) throw new Error(`${count} of ${CHUNKS} chunks`);
console.log(
  `${Math.round(CHUNKS / seconds).toLocaleString("en")} chunks/s (${CHUNKS} chunks, ${PER_SLICE} a slice, Node ${process.version})`,
);
