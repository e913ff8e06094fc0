/**
 * Whatever is lost, repeated, reordered, cut or taken away: what a reader is given is a prefix
 * of the log, and at rest it is the whole of it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import "./support/seed.js";
import { CALM, runId } from "./support/server.js";
import { World } from "./support/world.js";

/** The mutation test says how many, and does without the shrinking. */
const RUNS = Number(process.env.TAILRACE_RUNS ?? 400);
const HOW = { endOnFailure: "TAILRACE_RUNS" in process.env };
const STREAM = "chat:42";
/** Read over the same socket. */
const OTHER = "chat:7";
const FAULTS = { lose: 0.08, repeat: 0.1, delay: 60, gone: 0.02, sideBySide: 40, failedPost: 0.02 };

/** What may happen to the log. `supersede` opens over an active run. */
const writing = fc.constantFrom(
  "data",
  "data",
  "data",
  "data",
  "finish",
  "claim",
  "lost",
  "open",
  "supersede",
);
/** What may happen to everything else. */
const happening = fc.constantFrom(
  "wait",
  "cut",
  "heal",
  "drop",
  "half open",
  "other",
  "silence",
  "trouble",
  "hide",
  "show",
  "join",
  "await",
  "look back",
  "rotate",
  "leave",
  "stall",
  "flow",
  "gateway",
);
const rewriting = fc.constantFrom("recreate", "remove", "expireAll", "expireSome");

const pause = fc.integer({ min: 0, max: 400 });
const story = (...kinds) =>
  fc.array(fc.tuple(fc.oneof(...kinds), pause), { minLength: 5, maxLength: 50, size: "max" });

const pick = (world, from) => from[Math.floor(world.random() * from.length)];

/** Plays a story, and judges it at every step and at rest. */
function live(seed, steps, { follow, after = false, rewritten = false }) {
  const world = new World(seed);
  const { server, clock } = world;
  server.faults = FAULTS;
  world.life = pick(world, [undefined, 3, 10, 60]);
  world.tokenless = pick(world, [0, 0.3]);
  let runs = 0;
  let chunks = 0;
  let readers = 0;
  const log = server.log(STREAM);
  const data = () =>
    server.write(
      STREAM,
      ...Array.from({ length: 1 + Math.floor(world.random() * 3) }, () => (l) => {
        const many = 1 + Math.floor(world.random() * 3);
        return l.data(...Array.from({ length: many }, () => `c${++chunks}`));
      }),
    );
  const open = () => server.write(STREAM, (l) => l.open(runId(++runs)));
  const compact = () => pick(world, [undefined, "text"]);
  const join = (run) => world.watch(`r${++readers}`, { stream: STREAM, follow, run, compact: compact() });
  const acts = {
    data: () => (log.active ? data() : open()),
    finish: () => log.active && server.write(STREAM, (l) => l.end("completed")),
    lost: () => log.active && server.write(STREAM, (l) => l.end("producer_lost")),
    claim: () =>
      (log.active || (log.tail?.reason === "producer_lost" && !log.expired)) &&
      server.write(STREAM, (l) => l.claim()),
    open: () => !log.active && open(),
    supersede: open,
    wait: () => {},
    cut: () => {
      world.cut = true;
      world.page({ online: world.random() < 0.5 });
    },
    heal: () => {
      world.cut = false;
      world.page({ online: true });
    },
    drop: () => world.dropAll(),
    // The sockets are dead, and nobody says so.
    "half open": () => {
      for (const connection of world.sockets.values()) server.disconnect(connection);
    },
    other: () => server.write(OTHER, (l) => (l.active ? l.data(`o${++chunks}`) : l.open(runId(1)))),
    silence: () => {
      server.silent = true;
      clock.setTimeout(() => {
        server.silent = false;
      }, 20_000);
    },
    trouble: () => {
      server.troubled = true;
      clock.setTimeout(() => {
        server.troubled = false;
      }, 40_000);
    },
    hide: () => world.page({ visible: false }),
    show: () => world.page({ visible: true }),
    join: () => join(),
    await: () => !rewritten && join(runId(runs + 1)),
    "look back": () => !rewritten && runs > 0 && join(runId(1 + Math.floor(world.random() * runs))),
    // The socket is due for its successor; slices then come on both.
    rotate: () => {
      const [link, ...rest] = world.state.links;
      world.state = { ...world.state, links: [{ ...link, rotateAt: clock.now() }, ...rest] };
    },
    leave: () =>
      readers > 1 &&
      world.feed({ type: "unwatch", id: `r${2 + Math.floor(world.random() * (readers - 1))}` }),
    stall: () => world.feed({ type: "pause", id: "r1" }),
    flow: () => world.feed({ type: "resume", id: "r1" }),
    gateway: () =>
      server.refusals.push({
        type: "subscribe",
        error: { message: "Internal server error", requestId: "r" },
      }),
    recreate: () => log.recreate(),
    remove: () => log.tail && log.remove(),
    expireAll: () => log.expire(Infinity),
    expireSome: () => !log.active && log.expire(Math.floor(log.records.length / 2)),
  };
  if (after) {
    // A page that comes back with a cursor from the middle of a run, or its end.
    open();
    data();
    data();
    const reason = pick(world, [undefined, "completed", "producer_lost"]);
    if (reason) server.write(STREAM, (l) => l.end(reason));
    const marks = reason && { ended: true, lost: reason === "producer_lost" };
    const cursor = { run: log.tail.run, seq: log.tail.seq, ...marks };
    world.watch("r1", { stream: STREAM, follow, after: cursor, compact: compact() });
    readers = 1;
  } else {
    join();
  }
  world.watch("o1", { stream: OTHER, follow: true });
  for (const [act, ms] of steps) {
    acts[act]();
    clock.advance(ms);
    world.check({ rest: false, rewritten });
    assert.deepEqual(world.failed, {}, "nobody did what cannot be done");
  }
  // Faults end, at last; everyone who stays gets everything. A last run makes the log worth reading.
  world.cut = server.silent = false;
  server.refusals = [];
  server.faults = CALM;
  world.tokenless = 0;
  world.life &&= 3_600;
  world.page({ online: true, visible: true });
  acts.flow();
  if (rewritten && !log.active) open();
  clock.advance(150_000);
  const stayed = Object.fromEntries(
    Object.entries(world.shown).filter(([id]) => id === "r1" || world.state.readers[id]),
  );
  world.shown = stayed;
  world.check({ rest: true, rewritten });
  assert.deepEqual(world.failed, {}, "nobody did what cannot be done");
  return world;
}

test("a reader's events are a prefix of the log, and the whole of it at rest", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.boolean(),
      fc.boolean(),
      story(writing, happening),
      (seed, follow, after, steps) => {
        live(seed, steps, { follow, after });
      },
    ),
    { ...HOW, numRuns: RUNS },
  );
});

test("a log that is expired, deleted or made anew leaves no splice and no hole", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.boolean(),
      story(
        { arbitrary: writing, weight: 4 },
        { arbitrary: rewriting, weight: 3 },
        { arbitrary: happening, weight: 1 },
      ),
      (seed, follow, steps) => {
        live(seed, steps, { follow, rewritten: true });
      },
    ),
    { ...HOW, numRuns: RUNS },
  );
});

test("at rest nothing is asked but the sync that is due", () => {
  fc.assert(
    fc.property(fc.nat(), story(writing, happening), (seed, steps) => {
      const world = live(seed, steps, { follow: true });
      const before = world.sent.length;
      world.clock.advance(250_000);
      const later = world.sent.slice(before);
      assert.ok(
        later.every((frame) => frame.type === "sync"),
        JSON.stringify(later),
      );
      assert.ok(later.length <= 11, `${later.length} syncs in 250 s`);
    }),
    { ...HOW, numRuns: RUNS / 4 },
  );
});
