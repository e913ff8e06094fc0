/** Drives the pure machine through the scenarios of tests/conformance (format: its README). */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";

const source = new URL(process.env.TAILRACE_SRC ?? "../../src/", import.meta.url);
const { decode } = await import(new URL("frames.js", source));
const { deadline, initial, status, step } = await import(new URL("machine.js", source));

const FOLDER = new URL("../../../../tests/conformance/", import.meta.url);

/** AWS time when a scenario begins, at 0 of the consumer's clock. */
const EPOCH = 1_764_000_000_000;

/** Every scenario, with the file that it is in. */
export function scenarios() {
  const files = readdirSync(FOLDER)
    .filter((name) => name.endsWith(".json"))
    .sort();
  return files.flatMap((file) =>
    JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")).map((scenario) => ({ file, ...scenario })),
  );
}

/** The events in a delivery, as `output` spells them. */
function events({ run, seq, next, via, open, claim, chunks = [], counts = [], end }) {
  const all = [];
  if (open) all.push({ type: "open", run, seq: seq++, via, ...open });
  if (claim) all.push({ type: "claim", run, seq: seq++, via, ...claim });
  for (const [i, chunk] of chunks.entries()) {
    seq += counts[i] ?? 1;
    all.push({ type: "chunk", run, seq: seq - 1, via, chunk });
  }
  if (end) all.push({ type: "end", run, seq: next - 1, via, ...end });
  return all;
}

/** Whether `actual` has everything that `expected` names. */
function has(actual, expected) {
  return Object.entries(expected).every(([key, value]) => {
    try {
      assert.deepEqual(actual[key], value);
      return true;
    } catch {
      return false;
    }
  });
}

/** What a page says of itself after each step. */
const PAGE = {
  online: { online: true },
  offline: { online: false },
  visible: { visible: true },
  hidden: { visible: false },
};

const INPUTS = {
  watch: ({ watch: id, ...options }) => ({ type: "watch", id, ...options }),
  unwatch: ({ unwatch: id }) => ({ type: "unwatch", id }),
  cancel: ({ cancel: id, ...options }) => ({ type: "call", id, frame: { type: "cancel", ...options } }),
  opened: ({ opened: socket }) => ({ type: "opened", socket }),
  lost: ({ lost: socket }) => ({ type: "lost", socket }),
  probed: ({ probed: reachable }) => ({ type: "probed", reachable }),
  pause: ({ pause: id }) => ({ type: "pause", id }),
  resume: ({ resume: id }) => ({ type: "resume", id }),
  token: ({ token, exp, fatal }) => (token ? { type: "token", token, exp } : { type: "tokenless", fatal }),
  tick: () => ({ type: "tick" }),
  close: () => ({ type: "close" }),
  page: ({ page }, _, { online, visible }) => ({ type: "page", online, visible, ...PAGE[page] }),
  frame: ({ frame, socket }, last) => heard(JSON.stringify(frame), socket ?? last),
  text: ({ text, socket }, last) => heard(text, socket ?? last),
};

function heard(text, socket) {
  const frame = decode(text);
  return frame && { type: "frame", socket, frame };
}

export function play({ random = 0.5, tokens = [], steps, output = {} }) {
  let state = initial();
  let now = 0;
  let last = 0;
  let fetched = 0;
  let commands = [];
  const shown = {};

  function feed(event) {
    const frozen = deepFreeze(state);
    const result = step(frozen, { now, random, ...event });
    state = result.state;
    for (const command of result.commands) {
      switch (command.type) {
        case "token": {
          if (tokens === "told") {
            commands.push({ fetch: true });
            break;
          }
          const token = tokens[fetched] === undefined ? { token: `token-${fetched + 1}` } : tokens[fetched];
          fetched++;
          feed(token ? { type: "token", ...token } : { type: "tokenless" });
          break;
        }
        case "deliver":
          (shown[command.id] ??= []).push(...events(command.slice));
          break;
        case "end":
          (shown[command.id] ??= []).push({
            type: "end",
            run: command.run,
            seq: null,
            reason: command.reason,
          });
          break;
        case "connect":
          last = command.socket;
          commands.push({ connect: command.socket, token: command.token });
          break;
        case "send":
          commands.push({ send: JSON.parse(JSON.stringify(command.frame)), socket: command.socket });
          break;
        case "close":
          commands.push({ close: command.socket });
          break;
        case "probe":
          commands.push({ probe: true });
          break;
        case "fail":
          commands.push({ fail: command.id, code: command.error.code });
          break;
        case "settle":
          commands.push({ settle: command.id, reason: command.answer.reason ?? null });
          break;
      }
    }
  }

  function advance(ms) {
    const until = now + ms;
    for (let ticks = 0; deadline(state) <= until; ticks++) {
      assert.ok(ticks < 10_000, "ticks without end");
      now = Math.max(now, deadline(state));
      feed({ type: "tick" });
    }
    now = until;
  }

  /** Lets time pass while every `sync` is answered that nothing has changed. */
  function idle(ms, tail) {
    const until = now + ms;
    while (deadline(state) <= until) {
      advance(deadline(state) - now);
      for (const {
        send: { streams, n },
        socket,
      } of commands.splice(0)) {
        const tails = Object.fromEntries(
          Object.entries(streams).map(([name, at]) => [name, { ...tail, from: at[1] }]),
        );
        feed({ type: "frame", socket, frame: { type: "synced", n, time: EPOCH + now, tails } });
      }
    }
    now = until;
  }

  steps.forEach((one, index) => {
    const where = `step ${index}: ${JSON.stringify(one)}`;
    if (one.expect) {
      const got = commands;
      commands = [];
      assert.equal(got.length, one.expect.length, `${where}\ngot ${JSON.stringify(got)}`);
      one.expect.forEach((expected, i) => {
        const full = "send" in expected ? { socket: last, ...expected } : expected;
        assert.ok(has(got[i], full), `${where}\ngot ${JSON.stringify(got[i])}`);
      });
    } else if (one.status) {
      assert.equal(status(state), one.status, where);
    } else if (one.idle) {
      idle(one.idle, one.tail);
    } else if (one.wait) {
      const due = deadline(state) - now;
      assert.ok(
        one.due === undefined ? due === Infinity : Math.abs(due - one.due) < 1,
        `${where}\ndue ${due}`,
      );
      now += one.wait;
    } else if (one.advance !== undefined) {
      advance(one.advance);
    } else {
      const kind = Object.keys(INPUTS).find((key) => key in one);
      assert.ok(kind, `no such step: ${where}`);
      const event = INPUTS[kind](one, last, state);
      if (event) for (let times = one.times ?? 1; times > 0; times--) feed(event);
    }
  });
  assert.deepEqual(commands, [], "commands that no step expects");
  for (const [reader, expected] of Object.entries(output)) {
    const got = shown[reader] ?? [];
    assert.equal(got.length, expected.length, `${reader} got ${JSON.stringify(got)}`);
    expected.forEach((event, i) =>
      assert.ok(has(got[i], event), `${reader}: ${JSON.stringify(got[i])}, not ${JSON.stringify(event)}`),
    );
  }
  return { state, shown };
}

/** The machine must not change what it is given. */
function deepFreeze(value) {
  if (value === null || typeof value !== "object" || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const inner of value instanceof Map ? value.values() : Object.values(value)) deepFreeze(inner);
  return value;
}
