/** The two-hour limit of a connection, on a simulated clock. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import "./support/seed.js";
import { CALM, runId } from "./support/server.js";
import { World } from "./support/world.js";

const STREAM = "chat:42";
const MINUTE = 60_000;

/** A world with a run going on, at `minutes` after its first connection, quiet until then. */
function aged(seed, minutes, faults) {
  const world = new World(seed);
  world.server.write(STREAM, (log) => log.open(runId(1)));
  world.watch("r1", { stream: STREAM });
  world.clock.advance(minutes * MINUTE);
  world.server.faults = { ...CALM, ...faults };
  return world;
}

test("a chunk every second through the rotation is shown live, once, without a visible gap", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 10, max: 140 }), (seed, delay) => {
      const world = aged(seed, 99.9, { delay, repeat: 0.2, sideBySide: 100 });
      assert.equal(world.connects, 1);
      const written = new Map();
      for (let i = 0; i < 16 * 60; i++) {
        world.server.write(STREAM, (log) => log.data(`c${i}`));
        written.set(`c${i}`, world.clock.now());
        world.clock.advance(1_000);
        assert.equal(world.status, "live");
      }
      world.check({ rest: true });
      assert.equal(world.connects, 2, "one successor");
      assert.equal(world.sockets.size, 1, "the old connection is closed");
      assert.ok(
        world.sent.every(({ type }) => type === "sync"),
        "no gap was asked for",
      );
      const shown = world.shown.r1.filter(({ item }) => written.has(item));
      assert.equal(shown.length, written.size);
      // A live slice takes two delays. One that the old connection was closed on comes with the
      // replay, which was posted beside the `synced` that closed it: a delay later at most.
      for (const { item, at } of shown) assert.ok(at - written.get(item) <= 3 * delay, `${item} was late`);
    }),
    { numRuns: 12 },
  );
});

test("lost, repeated and reordered slices on both connections are repaired", () => {
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const world = aged(seed, 99.9, { delay: 400, lose: 0.1, repeat: 0.1, sideBySide: 100, gone: 0.02 });
      for (let i = 0; i < 16 * 60; i++) {
        world.server.write(STREAM, (log) => log.data(`c${i}`));
        world.clock.advance(1_000);
        if (i % 30 === 0) world.check({ rest: false });
      }
      world.server.faults = CALM;
      world.clock.advance(2 * MINUTE);
      world.check({ rest: true });
      assert.ok(world.connects >= 2);
    }),
    { numRuns: 8 },
  );
});

test("no connection reaches the two hours, day after day", () => {
  const world = new World(7);
  world.server.write(STREAM, (log) => log.open(runId(1)));
  world.watch("r1", { stream: STREAM });
  const born = new Map();
  for (let minute = 0; minute < 24 * 60; minute++) {
    world.clock.advance(MINUTE);
    for (const socket of world.sockets.keys()) {
      if (!born.has(socket)) born.set(socket, minute);
      assert.ok(minute - born.get(socket) <= 116);
    }
  }
  assert.ok(born.size >= 12);
});
