/** The transition table is complete, and the machine takes every event in every phase. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RULES } from "../src/cursor.js";
import { TABLE } from "../src/links.js";
import { deadline, initial, step } from "../src/machine.js";

const CAUSES = ["wanted", "unwanted", "token", "tokenless", "opened", "synced", "lost", "due", "wake"];

test("every phase says what it does about every cause", () => {
  for (const [phase, acts] of Object.entries(TABLE)) {
    assert.deepEqual(Object.keys(acts).sort(), [...CAUSES].sort(), phase);
    for (const act of Object.values(acts)) assert.equal(typeof act, "function");
  }
});

test("every kinship says what becomes of a slice at every place", () => {
  for (const [kin, fates] of Object.entries(RULES)) {
    assert.deepEqual(Object.keys(fates).sort(), ["across", "ahead", "behind", "next", "opens"], kin);
  }
});

const run = "0193a000-0000-7000-8000-000000000001";
const tail = { run, tail: 3, from: 0, active: true, more: false };
const watch = { type: "watch", id: "a", stream: "s" };
const synced = { type: "synced", n: 1, time: 0, tails: { s: tail } };

/** How to come to each phase. */
const PATHS = {
  idle: [],
  token: [watch],
  opening: [watch, { type: "token", token: "t" }],
  syncing: [watch, { type: "token", token: "t" }, { type: "opened", socket: 1 }],
  live: [
    watch,
    { type: "token", token: "t" },
    { type: "opened", socket: 1 },
    { type: "frame", socket: 1, frame: synced },
  ],
  waiting: [watch, { type: "token", token: "t" }, { type: "lost", socket: 1 }],
  closed: [watch, { type: "close" }],
};

const slice = { type: "slice", stream: "s", run, seq: 1, next: 2, at: 0, open: {} };
const EVENTS = [
  watch,
  { type: "watch", id: "b", stream: "t", run, follow: true },
  { type: "unwatch", id: "a" },
  { type: "unwatch", id: "nobody" },
  { type: "pause", id: "a" },
  { type: "resume", id: "nobody" },
  { type: "call", id: "c", frame: { type: "cancel", stream: "s", run } },
  { type: "token", token: "t2", exp: 5 },
  { type: "tokenless" },
  { type: "tokenless", fatal: true },
  { type: "opened", socket: 1 },
  { type: "opened", socket: 9 },
  { type: "lost", socket: 1 },
  { type: "probed", reachable: true },
  { type: "probed", reachable: false },
  { type: "page", online: false, visible: true },
  { type: "page", online: true, visible: true },
  { type: "page", online: true, visible: false },
  { type: "tick" },
  { type: "close" },
  ...[
    slice,
    { ...slice, stream: "unknown" },
    synced,
    { type: "subscribed", stream: "s", n: 1, ...tail },
    { type: "subscribed", stream: "unknown", n: 99, ...tail },
    { type: "unsubscribed", stream: "s" },
    { type: "unsubscribed", stream: "s", reason: "forbidden" },
    { type: "cancelled", stream: "s", run, reason: null, n: 1 },
    { type: "authorized", expires_at: 9, n: 1 },
    { type: "gateway", message: "no" },
    ...["unauthorized", "unknown_connection", "forbidden", "too_many"].map((code) => ({
      type: "error",
      code,
      n: 1,
    })),
    { type: "error", code: "unavailable", retryable: true, n: 1 },
    { type: "error", code: "unavailable", retryable: true, stream: "s" },
  ].map((frame) => ({ type: "frame", socket: 1, frame })),
];

for (const [phase, path] of Object.entries(PATHS)) {
  test(`in ${phase} every event is taken, and time goes on`, () => {
    const here = path.reduce((state, event) => step(state, { now: 0, ...event }).state, initial());
    assert.equal(here.links[0].phase, phase);
    for (const event of EVENTS) {
      let state = step(here, { now: 10, ...event }).state;
      // The machine is not left waiting for a time that has passed.
      for (let ticks = 0; deadline(state) <= 10; ticks++) {
        assert.ok(ticks < 5, `after ${JSON.stringify(event)}`);
        state = step(state, { type: "tick", now: 10 }).state;
      }
      assert.ok(TABLE[state.links[0].phase], JSON.stringify(event));
    }
  });
}
