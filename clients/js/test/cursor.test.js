/** Scenarios in the format of tests/conformance that are not shared yet. */
import { test } from "node:test";
import { play } from "./support/vectors.js";

const stream = "chat:42";
const [r1, r5] = [1, 5].map((n) => `0193a000-0000-7000-8000-${String(n).padStart(12, "0")}`);
const slice = (run, chunk, more) => ({
  frame: { type: "slice", stream, run, seq: 1, next: 3, at: 1, open: {}, chunks: [chunk], ...more },
});
const synced = (n, tail) => ({
  frame: { type: "synced", n, time: 1_764_000_000_000, tails: { [stream]: tail } },
});

test("a late open of a log that is gone begins nothing", () => {
  // Where the answer names no run, only a run after those that were seen can open.
  play({
    steps: [
      { watch: "a", stream, follow: true },
      { expect: [{ connect: 1 }] },
      { opened: 1 },
      { expect: [{ send: { type: "sync", streams: { [stream]: null }, n: 1 } }] },
      slice(r1, "a", { replay: true }),
      synced(1, { run: r1, tail: 2, from: 0, active: true, more: false }),
      { advance: 25_000 },
      { expect: [{ send: { type: "sync", streams: { [stream]: [r1, 2] }, n: 2 } }] },
      synced(2, { run: null, tail: 0, from: 0, active: false, more: false }),
      slice(r1, "a"),
      slice(r5, "x"),
      { expect: [] },
    ],
    output: {
      a: [
        { type: "open", run: r1, seq: 1 },
        { type: "chunk", run: r1, seq: 2, chunk: "a" },
        { type: "end", run: r1, seq: null, reason: "expired" },
        { type: "open", run: r5, seq: 1 },
        { type: "chunk", run: r5, seq: 2, chunk: "x" },
      ],
    },
  });
});
