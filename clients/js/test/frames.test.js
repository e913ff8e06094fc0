import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, MAX_FRAME } from "../src/frames.js";

const slice = { type: "slice", stream: "chat:42", run: "r", seq: 4, next: 6, at: 1, chunks: ["a", "b"] };
const text = (frame) => JSON.stringify(frame);

test("a frame is its JSON text", () => {
  const frame = { type: "subscribe", stream: "chat:42", run: "r", after: 3, n: 7 };
  assert.deepEqual(JSON.parse(encode(frame)), frame);
});

test("a frame of exactly 32,000 bytes goes, one more does not", () => {
  const frame = { type: "auth", token: "", n: 1 };
  const room = MAX_FRAME - encode(frame).length;
  assert.equal(encode({ ...frame, token: "x".repeat(room) }).length, MAX_FRAME);
  assert.throws(() => encode({ ...frame, token: "x".repeat(room + 1) }), {
    code: "too_large",
    retryable: false,
  });
});

test("the limit counts bytes of UTF-8, not characters", () => {
  const frame = { type: "auth", token: "é".repeat(16_500), n: 1 };
  assert.ok(JSON.stringify(frame).length < MAX_FRAME);
  assert.throws(() => encode(frame), { code: "too_large" });
});

test("unknown fields are kept out of the way, unknown types are nothing", () => {
  assert.equal(decode(text({ ...slice, future: 1 })).seq, 4);
  assert.equal(decode(text({ type: "future", stream: "chat:42" })), null);
});

test("a frame without a type is API Gateway's own", () => {
  const frame = { message: "Internal server error", connectionId: "c", requestId: "r" };
  assert.deepEqual(decode(text(frame)), { type: "gateway", message: "Internal server error" });
  assert.equal(decode(text({ hello: 1 })), null);
});

test("a slice covers exactly the seqs that it names", () => {
  assert.equal(decode(text(slice)).next, 6);
  assert.equal(decode(text({ ...slice, next: 7 })), null);
  assert.equal(decode(text({ ...slice, chunks: "ab" })), null);
  assert.equal(decode(text({ ...slice, seq: 0, next: 2 })), null);
  assert.equal(decode(text({ ...slice, chunks: undefined, next: 4 })), null);
  assert.equal(decode(text({ ...slice, open: {}, end: { reason: "completed" }, next: 8 })).next, 8);
  assert.equal(decode(text({ ...slice, claim: { epoch: 1 }, next: 7 })).next, 7);
});

for (const [name, frame] of Object.entries({
  "a slice without a run": { ...slice, run: undefined },
  "a slice without a stream": { ...slice, stream: undefined },
  "a slice whose seq is text": { ...slice, seq: "4" },
  "a subscribed without from": { type: "subscribed", stream: "s", n: 1, run: null, tail: 0 },
  "a synced without tails": { type: "synced", n: 1, time: 1 },
  "a synced whose tail is text": { type: "synced", n: 1, time: 1, tails: { s: "no" } },
  "a synced whose tail has no from": { type: "synced", n: 1, time: 1, tails: { s: { run: null, tail: 3 } } },
  "an authorized without a time": { type: "authorized", n: 1 },
})) {
  test(`${name} is nothing`, () => assert.equal(decode(text(frame)), null));
}

test("what is no text or no object is nothing", () => {
  for (const data of [undefined, new ArrayBuffer(1), "", "{", "null", "[]", "1", '"slice"'])
    assert.equal(decode(data), null);
});
