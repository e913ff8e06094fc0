/**
 * The client as a pure machine: (state, event) → (state, commands).
 *
 * It has no clock, no randomness and no sockets: an event carries `now` (milliseconds of any
 * clock that never goes back) and, where delays are drawn, `random`; `deadline` says when the
 * next `tick` is due; commands are carried out by `client.js`. A step works on a draft of the
 * state, `s`, that nobody else has. `links.js` knows connections, `asks.js` what was asked on
 * them, `cursor.js` each reader's place in the log; here is what each event and each server
 * frame means.
 */
import { ANSWER, askDue, isOpen, isWanted, leave, links, readersOf, release, sendCancel, sync } from "./asks.js";
import { answered, backoff, noted, receive, watch } from "./cursor.js";
import { MAX_STREAMS } from "./frames.js";
import { blank, cause, connect, fatally, forgetToken, postpone, refreshAt, refused, retreat, wantToken } from "./links.js";

export { TABLE } from "./links.js";

/**
 * @typedef {import("./asks.js").State} State
 * @typedef {import("./asks.js").Link} Link
 * @typedef {import("./asks.js").Command} Command
 * @typedef {import("./types.js").Failure} Failure
 *
 * @typedef {{now: number, random?: number} & (
 *   {type: "watch", id: string, stream: string, after?: import("./types.js").Cursor | null, run?: string | null, follow?: boolean}
 *   | {type: "unwatch" | "pause" | "resume", id: string}
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
  random: 0,
  out: [],
  link: blank(),
  next: null,
  sockets: 0,
  readers: {},
  cancels: {},
  token: null,
  fetching: false,
  attempt: 0,
  triedAt: -Infinity,
  refusals: 0,
  online: true,
  visible: true,
  aws: null,
  failure: null,
});

/**
 * @template {Link | null} T
 * @param {T} link
 * @returns {T}
 */
const draft = (link) => link && { ...link, asked: new Map(link.asked), streams: new Map(link.streams) };

/**
 * @param {State} state
 * @param {Event} event
 * @returns {{state: State, commands: Command[]}}
 */
export function step(state, event) {
  const s = { ...state, now: Math.max(state.now, event.now), random: event.random ?? 0.5 };
  s.out = [];
  s.link = draft(s.link);
  s.next = draft(s.next);
  s.cancels = { ...s.cancels };
  s.readers = {};
  for (const id in state.readers) s.readers[id] = { ...state.readers[id] };
  /** @type {(s: State, event: any) => void} */ (EVENTS[event.type])(s, event);
  return { state: s, commands: s.out };
}

/**
 * When the next `tick` is due, or Infinity.
 * @param {State} s
 * @returns {number}
 */
export function deadline(s) {
  const { link, next, readers, cancels } = s;
  let at = Infinity;
  for (const { due, asked } of links(s)) {
    at = Math.min(at, due ?? at);
    for (const question of asked.values()) at = Math.min(at, question.due);
  }
  for (const id in cancels) at = Math.min(at, cancels[id].due);
  if (isOpen(link)) {
    for (const id in readers) {
      const { gapAt, ask, paused } = readers[id];
      if (!ask && !paused) at = Math.min(at, gapAt ?? at);
    }
  }
  if (link.phase !== "live") return at;
  return Math.min(at, syncAt(s), next ? at : link.rotateAt, s.fetching ? at : link.authAt);
}

/**
 * @param {State} s
 * @returns {import("./types.js").Status}
 */
export function status({ link: { phase }, readers, online, attempt }) {
  if (phase === "idle" || phase === "closed") return phase;
  if (!online || (phase === "waiting" && attempt > 1)) return "offline";
  if (phase === "syncing" || Object.values(readers).some((r) => r.ask && r.catching)) return "replaying";
  return phase === "live" ? "live" : "connecting";
}

/** @param {State} s */
function syncAt({ link, readers, visible }) {
  let every = Infinity;
  for (const id in readers) {
    // A run is awaited by whoever looks at the page; a hidden page asks when it comes back.
    if (visible || readers[id].shown) return link.syncedAt + SYNC;
    every = IDLE_SYNC;
  }
  return link.syncedAt + every;
}

/** @type {Record<Event["type"], (s: State, event: any) => void>} */
const EVENTS = {
  watch(s, { id, ...options }) {
    const names = new Set(Object.values(s.readers).map((r) => r.stream)).add(options.stream);
    const error = names.size > MAX_STREAMS ? { code: "too_many", message: `at most ${MAX_STREAMS} streams` } : closed(s);
    if (error) {
      s.out.push({ type: "fail", id, error });
      return;
    }
    s.readers[id] = watch(options, s.now);
    cause(s, s.link, "wanted");
    askDue(s);
  },
  unwatch: (s, { id }) => forget(s, id),
  pause(s, { id }) {
    if (s.readers[id]) Object.assign(s.readers[id], { paused: true, held: [] });
  },
  resume(s, { id }) {
    if (s.readers[id]) Object.assign(s.readers[id], { paused: false, catching: true, gapAt: s.now });
    askDue(s);
  },
  cancel(s, { id, stream, run }) {
    s.cancels[id] = { stream, run, due: s.now + CANCEL };
    const error = closed(s);
    if (error) return settle(s, id, { error });
    if (s.link.phase === "live") sendCancel(s, id);
    cause(s, s.link, "wanted");
  },
  token(s, { token, exp = null, fixed = false }) {
    s.fetching = false;
    s.token = { value: token, exp, fixed, used: false };
    for (const link of links(s)) cause(s, link, "token");
  },
  tokenless(s, { fatal, message }) {
    if (fatal && s.fetching) fatally(s, { code: "unauthorized", message });
    s.fetching = false;
    for (const link of links(s)) cause(s, link, "tokenless");
  },
  opened: (s, { socket }) => on(s, socket, (link) => cause(s, link, "opened")),
  lost(s, { socket }) {
    on(s, socket, (link) => cause(s, link, "lost"));
    // What is lost needs no closing.
    s.out = s.out.filter((command) => command.type !== "close" || command.socket !== socket);
  },
  frame: (s, { socket, frame }) =>
    on(s, socket, (link) => {
      if (!isOpen(link)) return;
      link.heard = s.now;
      FRAMES[/** @type {keyof typeof FRAMES} */ (frame.type)](s, link, frame);
    }),
  probed(s, { reachable }) {
    // Only where the server was there, and refused, does a failed handshake tell of the token.
    if (!reachable || s.link.phase !== "waiting") return;
    if (s.link.fresh) refused(s, { code: "refused", message: "the handshake was refused" });
    else forgetToken(s);
  },
  online(s) {
    s.online = true;
    cause(s, s.link, "wake");
  },
  offline(s) {
    s.online = false;
  },
  visible(s) {
    s.visible = true;
    cause(s, s.link, "wake");
  },
  hidden(s) {
    s.visible = false;
  },
  tick(s) {
    const { now } = s;
    for (const link of links(s)) {
      if (link.due !== null && link.due <= now) cause(s, link, "due");
      overdue(s, link);
    }
    for (const id in s.cancels) {
      if (s.cancels[id].due <= now) settle(s, id, { error: { code: "unavailable", retryable: true } });
    }
    const { link } = s;
    if (link.phase === "live") {
      if (link.authAt <= now) wantToken(s);
      if (link.rotateAt <= now && !s.next) connect(s, (s.next = blank()));
      if (syncAt(s) <= now) sync(s, link, false);
    }
    askDue(s);
  },
  close: (s) => fatally(s, { code: "closed", message: "the client was closed" }),
};

/** @type {Record<import("./types.js").ServerFrame["type"], (s: State, link: Link, frame: any) => void>} */
const FRAMES = {
  slice(s, link, slice) {
    const readers = readersOf(s, slice.stream);
    if (!readers.length) leave(s, link, slice.stream);
    if (slice.replay) {
      // While slices of an answer come, the answer is on its way.
      delay(link, s.now + ANSWER, ({ type, stream }) => type === "sync" || (type === "subscribe" && stream === slice.stream));
    }
    for (const [id, reader] of readers) tell(s, id, receive(reader, slice, s.now));
  },
  subscribed(s, link, { stream, n, ...tail }) {
    strike(link, n);
    take(s, link, stream, n, tail);
    askDue(s);
  },
  synced(s, link, { n, time, tails }) {
    const question = strike(link, n);
    if (question) measure(s, question.at, time);
    for (const [stream, tail] of Object.entries(tails)) {
      if (tail.error) trouble(s, stream, tail.error, n);
      else take(s, link, stream, n, tail);
    }
    // A stream that the answer passed over.
    release(s, link.socket, n, (reader) => backoff(reader.tries, s.random));
    cause(s, link, "synced");
    askDue(s);
  },
  unsubscribed(s, link, { stream, n, reason }) {
    strike(link, n);
    if (reason === "forbidden") trouble(s, stream, { code: reason, message: "no longer granted" });
    // An unsubscribe of before the last subscribe took nothing away.
    if (n < (link.streams.get(stream) ?? 0)) return;
    for (const [, reader] of readersOf(s, stream)) Object.assign(reader, { ask: null, gapAt: s.now });
    askDue(s);
  },
  cancelled(s, link, { n, reason }) {
    const { id } = strike(link, n) ?? {};
    if (id) settle(s, id, { reason });
  },
  authorized(s, link, { n, expires_at }) {
    strike(link, n);
    s.refusals = 0;
    refreshAt(s, link, expires_at);
    sync(s, link, false);
  },
  error(s, link, { type, stream, n, ...error }) {
    const question = strike(link, n);
    const { code, retryable } = error;
    if (question?.type === "auth") {
      // The old token may still be good: it is the server that closes.
      forgetToken(s);
      if (++s.refusals >= MISSES) return;
      link.authAt = s.now;
      postpone(s, link);
    } else if (code === "unauthorized") {
      retreat(s, link);
      refused(s, error);
    } else if (code === "unknown_connection" || (retryable && link.phase === "syncing" && question?.type === "sync")) {
      retreat(s, link);
    } else if (question?.id) {
      settle(s, question.id, { error });
    } else if (question?.type === "sync") {
      for (const name of Object.keys(question.streams)) trouble(s, name, error, n);
    } else if (question?.type !== "unsubscribe") {
      trouble(s, stream ?? question?.stream, error, n);
    }
  },
  gateway(s, link) {
    // It does not say which frame it is about: all are asked again, soon, not all at once.
    const soon = s.now + ANSWER * (0.1 + 0.2 * s.random);
    delay(link, soon, ({ due }) => due > soon);
  },
};

/** @param {State} s */
const closed = ({ failure }) => (failure?.code === "closed" ? failure : null);

/**
 * @param {State} s
 * @param {number} socket
 * @param {(link: Link) => void} act
 */
function on(s, socket, act) {
  for (const link of links(s)) if (link.socket === socket) act(link);
}

/**
 * Takes a question off the list: it is answered.
 * @param {Link} link
 * @param {number} n
 */
function strike(link, n) {
  const question = link.asked.get(n);
  link.asked.delete(n);
  link.misses = 0;
  return question;
}

/**
 * @param {Link} link
 * @param {number} due
 * @param {(question: any) => boolean} which
 */
function delay(link, due, which) {
  for (const [n, question] of link.asked) if (which(question)) link.asked.set(n, { ...question, due });
}

/**
 * Gives each reader of a stream a tail, as the answer to its ask or to somebody else's.
 * @param {State} s
 * @param {Link} link
 * @param {string} stream
 * @param {number} n
 * @param {import("./types.js").Tail} tail
 */
function take(s, link, stream, n, tail) {
  const readers = readersOf(s, stream);
  if (!readers.length) leave(s, link, stream);
  for (const [id, reader] of readers) {
    const mine = reader.ask?.n === n && reader.ask.socket === link.socket;
    if (mine) tell(s, id, answered(reader, tail, s.now, s.random));
    else noted(reader, tail, s.now);
  }
}

/**
 * @param {State} s
 * @param {string} id
 * @param {import("./cursor.js").Output[]} outputs
 */
function tell(s, id, outputs) {
  for (const output of outputs) s.out.push({ id, ...output });
  if (s.readers[id].done) forget(s, id);
}

/**
 * @param {State} s
 * @param {string} id
 */
function forget(s, id) {
  const { stream } = s.readers[id] ?? {};
  if (!stream) return;
  delete s.readers[id];
  if (!readersOf(s, stream).length) {
    for (const link of links(s)) if (link.streams.has(stream)) leave(s, link, stream);
  }
  if (!isWanted(s)) cause(s, s.link, "unwanted");
}

/**
 * An error about a stream: its readers ask again later, or end.
 * @param {State} s
 * @param {string} stream
 * @param {Failure} error
 * @param {number} [n] of the question
 */
function trouble(s, stream, error, n) {
  if (!error.retryable) for (const { streams } of links(s)) streams.delete(stream);
  for (const [id, reader] of readersOf(s, stream)) {
    if (!error.retryable) {
      s.out.push({ type: "fail", id, error });
      forget(s, id);
    } else if (reader.ask?.n === n) {
      reader.ask = null;
      reader.gapAt = s.now + backoff(++reader.tries, s.random);
    }
  }
}

/**
 * @param {State} s
 * @param {string} id
 * @param {{reason?: string | null, error?: Failure}} outcome
 */
function settle(s, id, outcome) {
  if (!s.cancels[id]) return;
  delete s.cancels[id];
  s.out.push({ type: "settle", id, ...outcome });
  if (!isWanted(s)) cause(s, s.link, "unwanted");
}

/**
 * Gives up on questions whose time is over: on the whole link, if it is silent.
 * @param {State} s
 * @param {Link} link
 */
function overdue(s, link) {
  for (const [n, { due, at, type, id }] of [...link.asked]) {
    if (due > s.now || !isOpen(link)) continue;
    const misses = link.misses + 1;
    if (link.heard <= at || misses >= MISSES) return retreat(s, link);
    strike(link, n);
    link.misses = misses;
    release(s, link.socket, n, () => 0);
    if (type === "sync") sync(s, link, false);
    if (type === "auth") link.authAt = s.now;
    if (id && s.cancels[id]) sendCancel(s, id);
  }
}

/**
 * Learns AWS time from an answer: the quickest is the best, until one contradicts it.
 * @param {State} s
 * @param {number} askedAt
 * @param {number} time
 */
function measure(s, askedAt, time) {
  const trip = s.now - askedAt;
  const offset = time - (askedAt + s.now) / 2;
  if (!s.aws || trip <= s.aws.trip || Math.abs(offset - s.aws.offset) > trip) s.aws = { trip, offset };
}
