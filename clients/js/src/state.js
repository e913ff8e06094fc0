/**
 * The client as a pure machine: (state, event) → (state, commands).
 *
 * It has no clock, no randomness and no sockets: an event carries `now` (milliseconds of any
 * clock that never goes back) and, where delays are drawn, `random`; `deadline` says when the
 * next `tick` is due; commands are carried out by `client.js`. `links.js` knows connections,
 * `asks.js` what was asked on them, `cursor.js` each reader's place in the log; here is what
 * each event and each server frame means.
 */
import { ANSWER, askDue, isOpen, KEYS, leave, patch, put, readersOf, release, sendCancel, strike, sync } from "./asks.js";
import { answered, backoff, noted, receive, watch } from "./cursor.js";
import { MAX_STREAMS } from "./frames.js";
import { BLANK, cause, connect, fatally, forgetToken, postpone, refreshAt, refused, retreat, wantToken } from "./links.js";

export { TABLE } from "./links.js";

/**
 * @typedef {import("./asks.js").State} State
 * @typedef {import("./asks.js").Draft} Draft
 * @typedef {import("./asks.js").Key} Key
 * @typedef {import("./asks.js").Link} Link
 * @typedef {import("./asks.js").Command} Command
 * @typedef {import("./types.js").Failure} Failure
 *
 * @typedef {{now: number, random?: number} & (
 *   {type: "watch", reader: string, stream: string, after?: import("./types.js").Cursor | null, run?: string | null, follow?: boolean}
 *   | {type: "unwatch" | "pause" | "resume", reader: string}
 *   | {type: "cancel", id: string, stream: string, run: string}
 *   | {type: "token", token: string, exp?: number | null, fixed?: boolean}
 *   | {type: "tokenless", fatal?: boolean, message?: string}
 *   | {type: "opened" | "lost", socket: number}
 *   | {type: "frame", socket: number, frame: import("./types.js").ServerFrame}
 *   | {type: "probed", reachable: boolean}
 *   | {type: "online" | "offline" | "visible" | "hidden" | "tick" | "close"})} Event
 *   `fixed`: the token cannot be renewed. `fatal`: nor will there ever be one.
 */

/** Milliseconds. */
const SYNC = 25_000;
const IDLE_SYNC = 300_000;
const CANCEL = 30_000;
const MISSES = 3;

/** @returns {State} */
export const initial = () => ({
  now: 0,
  link: BLANK,
  next: null,
  sockets: 0,
  readers: {},
  cancels: {},
  token: null,
  asking: false,
  attempt: 0,
  triedAt: -Infinity,
  refusals: 0,
  online: true,
  visible: true,
  aws: null,
  failure: null,
});

/**
 * @param {State} state
 * @param {Event} event
 * @returns {{state: State, commands: Command[]}}
 */
export function step(state, event) {
  /** @type {Draft} */
  const d = { s: { ...state, now: Math.max(state.now, event.now) }, out: [], random: event.random ?? 0.5 };
  /** @type {(d: Draft, event: any) => void} */ (EVENTS[event.type])(d, event);
  return { state: d.s, commands: d.out };
}

/**
 * When the next `tick` is due, or Infinity.
 * @param {State} state
 * @returns {number}
 */
export function deadline(state) {
  const { link, next, readers, cancels, asking } = state;
  const at = [];
  for (const one of [link, next]) {
    if (!one) continue;
    if (one.due !== null) at.push(one.due);
    for (const { due } of one.questions.values()) at.push(due);
  }
  for (const id in cancels) at.push(cancels[id].due);
  if (isOpen(link)) {
    for (const id in readers) {
      const { gapAt, ask, paused } = readers[id];
      if (gapAt !== null && !ask && !paused) at.push(gapAt);
    }
  }
  if (link.phase === "live") {
    at.push(syncAt(state));
    if (!next) at.push(link.rotateAt);
    if (!asking) at.push(link.authAt);
  }
  return Math.min(...at);
}

/**
 * @param {State} state
 * @returns {import("./types.js").Status}
 */
export function status({ link: { phase }, readers, online, attempt }) {
  if (phase === "idle" || phase === "closed") return phase;
  if (!online || (phase === "waiting" && attempt > 1)) return "offline";
  if (phase === "syncing" || Object.values(readers).some((r) => r.ask && r.catching)) return "replaying";
  return phase === "live" ? "live" : "connecting";
}

/** @param {State} state */
function syncAt({ link, readers, visible }) {
  const all = Object.values(readers);
  if (!all.length) return Infinity;
  // A run is awaited by whoever looks at the page; a hidden page asks when it comes back.
  return link.syncedAt + (visible || all.some((r) => r.shown) ? SYNC : IDLE_SYNC);
}

/** @type {Record<Event["type"], (d: Draft, event: any) => void>} */
const EVENTS = {
  watch(d, { reader, ...options }) {
    const names = new Set(readersOf(d.s).map(([, r]) => r.stream)).add(options.stream);
    let error = d.s.failure?.code === "closed" ? d.s.failure : null;
    if (names.size > MAX_STREAMS) error = { code: "too_many", message: `at most ${MAX_STREAMS} streams a client` };
    if (error) {
      d.out.push({ type: "fail", reader, error });
      return;
    }
    put(d, reader, { ...watch(options), gapAt: d.s.now });
    cause(d, "link", "wanted");
    askDue(d);
  },
  unwatch: (d, { reader }) => forget(d, reader),
  pause(d, { reader }) {
    if (d.s.readers[reader]) put(d, reader, { paused: true, held: [] });
  },
  resume(d, { reader }) {
    if (d.s.readers[reader]) put(d, reader, { paused: false, catching: true, gapAt: d.s.now });
    askDue(d);
  },
  cancel(d, { id, stream, run }) {
    if (d.s.failure?.code === "closed") {
      d.out.push({ type: "settle", id, error: d.s.failure });
      return;
    }
    d.s.cancels = { ...d.s.cancels, [id]: { stream, run, due: d.s.now + CANCEL } };
    if (d.s.link.phase === "live") sendCancel(d, id);
    cause(d, "link", "wanted");
  },
  token(d, { token, exp = null, fixed = false }) {
    d.s.asking = false;
    d.s.token = { value: token, exp, fixed, used: false };
    for (const key of KEYS) cause(d, key, "token");
  },
  tokenless(d, { fatal, message }) {
    if (fatal && d.s.asking) fatally(d, { code: "unauthorized", message });
    d.s.asking = false;
    for (const key of KEYS) cause(d, key, "tokenless");
  },
  opened: (d, { socket }) => on(d, socket, (key) => cause(d, key, "opened")),
  lost: (d, { socket }) => on(d, socket, (key) => cause(d, key, "lost")),
  frame: (d, { socket, frame }) =>
    on(d, socket, (key) => {
      if (!isOpen(d.s[key])) return;
      patch(d, key, { heard: d.s.now });
      FRAMES[/** @type {keyof typeof FRAMES} */ (frame.type)](d, key, frame);
    }),
  probed(d, { reachable }) {
    const { phase, fresh } = d.s.link;
    // Only where the server was there, and refused, does a failed handshake tell of the token.
    if (!reachable || phase !== "waiting") return;
    if (fresh) refused(d, { code: "refused", message: "the handshake was refused" });
    else forgetToken(d);
  },
  online(d) {
    d.s.online = true;
    cause(d, "link", "wake");
  },
  offline(d) {
    d.s.online = false;
  },
  visible(d) {
    d.s.visible = true;
    cause(d, "link", "wake");
  },
  hidden(d) {
    d.s.visible = false;
  },
  tick(d) {
    const { now } = d.s;
    for (const key of KEYS) {
      if ((d.s[key]?.due ?? Infinity) <= now) cause(d, key, "due");
      overdue(d, key);
    }
    for (const id in d.s.cancels) {
      if (d.s.cancels[id].due <= now) settle(d, id, { error: { code: "unavailable", retryable: true } });
    }
    if (d.s.link.phase === "live") {
      if (d.s.link.authAt <= now) wantToken(d);
      if (d.s.link.rotateAt <= now && !d.s.next) connect(d, "next");
      if (syncAt(d.s) <= now) sync(d, "link", false);
    }
    askDue(d);
  },
  close: (d) => fatally(d, { code: "closed", message: "the client was closed" }),
};

/** @type {Record<import("./types.js").ServerFrame["type"], (d: Draft, key: Key, frame: any) => void>} */
const FRAMES = {
  slice(d, key, slice) {
    const readers = readersOf(d.s, slice.stream);
    if (!readers.length) leave(d, key, slice.stream);
    if (slice.replay) extend(d, key, slice.stream);
    for (const [id, reader] of readers) commit(d, id, receive(reader, slice, d.s.now));
  },
  subscribed(d, key, answer) {
    strike(d, key, answer.n);
    take(d, key, answer.stream, answer.n, answer);
    askDue(d);
  },
  synced(d, key, { n, time, tails }) {
    const question = strike(d, key, n);
    if (question) measure(d, question.at, time);
    const { socket } = /** @type {Link} */ (d.s[key]);
    for (const [stream, tail] of Object.entries(tails)) {
      if ("error" in tail) trouble(d, stream, tail.error, n);
      else take(d, key, stream, n, tail);
    }
    // A stream that the answer passed over.
    release(d, socket, n, (reader) => backoff(reader.tries, d.random));
    cause(d, key, "synced");
    askDue(d);
  },
  unsubscribed(d, key, { stream, n, reason }) {
    strike(d, key, n);
    const link = /** @type {Link} */ (d.s[key]);
    if (link.leaving.get(stream) === n) drop(d, key, "leaving", stream);
    if (reason === "forbidden") trouble(d, stream, { code: "forbidden", message: "no longer granted" });
    if (n !== undefined && n < (link.streams.get(stream) ?? 0)) return;
    for (const [id] of readersOf(d.s, stream)) put(d, id, { ask: null, gapAt: d.s.now });
    askDue(d);
  },
  cancelled(d, key, { n, reason = null }) {
    const id = strike(d, key, n)?.cancel;
    if (id !== undefined) settle(d, id, { reason });
  },
  authorized(d, key, { n, expires_at }) {
    strike(d, key, n);
    d.s.refusals = 0;
    refreshAt(d, expires_at);
    sync(d, key, false);
  },
  error(d, key, { type, stream, n, ...error }) {
    const question = strike(d, key, n);
    const { socket } = /** @type {Link} */ (d.s[key]);
    if (question?.type === "auth") {
      forgetToken(d);
      if (key === "link" && ++d.s.refusals < MISSES) {
        patch(d, key, { authAt: d.s.now });
        postpone(d);
      }
    } else if (error.code === "unauthorized") {
      retreat(d, key);
      refused(d, error);
    } else if (error.code === "unknown_connection") {
      retreat(d, key);
    } else if (question?.type === "unsubscribe") {
      drop(d, key, "leaving", question.stream);
    } else if (question?.cancel !== undefined) {
      settle(d, question.cancel, { error });
    } else if (question?.type === "sync") {
      if (error.retryable && d.s[key]?.phase === "syncing") retreat(d, key);
      else for (const [, r] of readersOf(d.s)) if (r.ask?.n === n && r.ask?.socket === socket) trouble(d, r.stream, error, n);
    } else if (stream !== undefined || question?.stream !== undefined) {
      trouble(d, stream ?? question?.stream ?? "", error, n);
    }
  },
  gateway(d, key) {
    // It does not say which frame it is about: all are asked again, soon, not all at once.
    const { questions } = /** @type {Link} */ (d.s[key]);
    const soon = d.s.now + ANSWER * (0.1 + 0.2 * d.random);
    patch(d, key, { questions: new Map([...questions].map(([n, q]) => [n, { ...q, due: Math.min(q.due, soon) }])) });
  },
};

/**
 * @param {Draft} d
 * @param {number} socket
 * @param {(key: Key) => void} act
 */
function on(d, socket, act) {
  for (const key of KEYS) if (d.s[key]?.socket === socket) return act(key);
}

/**
 * Gives each reader of a stream a tail, as the answer to its ask or to somebody else's.
 * @param {Draft} d
 * @param {Key} key
 * @param {string} stream
 * @param {number} n
 * @param {import("./types.js").Tail} tail
 */
function take(d, key, stream, n, tail) {
  const readers = readersOf(d.s, stream);
  const { socket } = /** @type {Link} */ (d.s[key]);
  if (!readers.length) leave(d, key, stream);
  for (const [id, reader] of readers) {
    const mine = reader.ask?.n === n && reader.ask.socket === socket;
    if (mine) commit(d, id, answered(reader, tail, d.s.now, d.random));
    else put(d, id, noted(reader, tail, d.s.now));
  }
}

/**
 * @param {Draft} d
 * @param {string} id
 * @param {[import("./cursor.js").Reader, import("./cursor.js").Output[]]} result
 */
function commit(d, id, [reader, outputs]) {
  if (reader !== d.s.readers[id]) put(d, id, reader);
  for (const output of outputs) d.out.push({ reader: id, ...output });
  if (reader.done) forget(d, id);
}

/**
 * @param {Draft} d
 * @param {string} id
 */
function forget(d, id) {
  const { [id]: gone, ...readers } = d.s.readers;
  if (!gone) return;
  d.s.readers = readers;
  if (!readersOf(d.s, gone.stream).length) {
    for (const key of KEYS) if (d.s[key]?.streams.has(gone.stream)) leave(d, key, gone.stream);
  }
  if (!Object.keys(readers).length && !Object.keys(d.s.cancels).length) cause(d, "link", "unwanted");
}

/**
 * An error about a stream: its readers ask again later, or end.
 * @param {Draft} d
 * @param {string} stream
 * @param {Failure} error
 * @param {number} [n] of the question
 */
function trouble(d, stream, error, n) {
  if (!error.retryable) for (const key of KEYS) drop(d, key, "streams", stream);
  for (const [id, reader] of readersOf(d.s, stream)) {
    if (!error.retryable) {
      d.out.push({ type: "fail", reader: id, error });
      forget(d, id);
    } else if (reader.ask?.n === n) {
      const tries = reader.tries + 1;
      put(d, id, { ask: null, tries, gapAt: d.s.now + backoff(tries, d.random) });
    }
  }
}

/**
 * @param {Draft} d
 * @param {string} id
 * @param {{reason?: string | null, error?: Failure}} outcome
 */
function settle(d, id, outcome) {
  const { [id]: gone, ...cancels } = d.s.cancels;
  if (!gone) return;
  d.s.cancels = cancels;
  d.out.push({ type: "settle", id, ...outcome });
  if (!Object.keys(d.s.readers).length && !Object.keys(cancels).length) cause(d, "link", "unwanted");
}

/**
 * While slices of an answer come, the answer is on its way.
 * @param {Draft} d
 * @param {Key} key
 * @param {string} stream
 */
function extend(d, key, stream) {
  const { questions } = /** @type {Link} */ (d.s[key]);
  const due = d.s.now + ANSWER;
  const serves = (/** @type {import("./asks.js").Question} */ q) =>
    q.type === "sync" || (q.type === "subscribe" && q.stream === stream);
  patch(d, key, { questions: new Map([...questions].map(([n, q]) => [n, serves(q) ? { ...q, due } : q])) });
}

/**
 * Gives up on questions whose time is over: on the whole link, if it is silent.
 * @param {Draft} d
 * @param {Key} key
 */
function overdue(d, key) {
  const link = d.s[key];
  if (!link || !isOpen(link)) return;
  for (const [n, { due, at, type, stream, cancel }] of link.questions) {
    if (due > d.s.now) continue;
    const { misses, heard } = /** @type {Link} */ (d.s[key]);
    if (heard <= at || misses + 1 >= MISSES) return retreat(d, key);
    strike(d, key, n, misses + 1);
    release(d, link.socket, n, () => 0);
    if (type === "sync") sync(d, key, false);
    if (type === "auth" && key === "link") patch(d, key, { authAt: d.s.now });
    if (cancel !== undefined && d.s.cancels[cancel]) sendCancel(d, cancel);
    if (type === "unsubscribe") drop(d, key, "leaving", stream);
  }
}

/**
 * @param {Draft} d
 * @param {Key} key
 * @param {"streams" | "leaving"} what
 * @param {string} [stream]
 */
function drop(d, key, what, stream = "") {
  const names = new Map(d.s[key]?.[what]);
  if (names.delete(stream)) patch(d, key, { [what]: names });
}

/**
 * Learns AWS time from an answer, best from the quickest; a good sample ages slowly.
 * @param {Draft} d
 * @param {number} askedAt
 * @param {number} time
 */
function measure(d, askedAt, time) {
  const trip = d.s.now - askedAt;
  const best = d.s.aws ? d.s.aws.trip * 1.1 + 1 : Infinity;
  d.s.aws = trip <= best ? { trip, offset: time - (askedAt + d.s.now) / 2 } : { offset: d.s.aws?.offset ?? 0, trip: best };
}
