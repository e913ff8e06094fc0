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
import { ANSWER, askDue, everyone, isOpen, leave, readersOf, release, sync } from "./asks.js";
import { answered, backoff, noted, receive, watch } from "./cursor.js";
import { MAX_STREAMS } from "./frames.js";
import { blank, cause, connect, fatally, postpone, refreshAt, refused, retreat, wantToken } from "./links.js";

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
 *   | {type: "token", token: string, exp?: number | null}
 *   | {type: "tokenless", fatal?: boolean, message?: string}
 *   | {type: "opened" | "lost", socket: number}
 *   | {type: "frame", socket: number, frame: import("./types.js").ServerFrame}
 *   | {type: "probed", reachable: boolean}
 *   | {type: "online" | "offline" | "visible" | "hidden" | "tick" | "close"})} Event
 *   `fatal`: nor will there ever be a token.
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
  links: [blank()],
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
 * @template {object} T
 * @param {Record<string, T>} all
 * @returns {Record<string, T>}
 */
const copies = (all) => Object.fromEntries(Object.entries(all).map(([id, one]) => [id, { ...one }]));

/**
 * @param {State} state
 * @param {Event} event
 * @returns {{state: State, commands: Command[]}}
 */
export function step(state, event) {
  const s = {
    ...state,
    now: Math.max(state.now, event.now),
    random: event.random ?? 0.5,
    out: [],
    links: state.links.map((link) => ({ ...link, asked: new Map(link.asked), streams: new Map(link.streams) })),
    readers: copies(state.readers),
    cancels: copies(state.cancels),
  };
  /** @type {(s: State, event: any) => void} */ (EVENTS[event.type])(s, event);
  return { state: s, commands: s.out };
}

/**
 * When the next `tick` is due, or Infinity.
 * @param {State} s
 * @returns {number}
 */
export function deadline(s) {
  const [link, next] = s.links;
  let at = Infinity;
  for (const { due, asked } of s.links) {
    at = Math.min(at, due);
    for (const question of asked.values()) at = Math.min(at, question.due);
  }
  for (const id in s.cancels) at = Math.min(at, s.cancels[id].due);
  if (isOpen(link)) {
    for (const [, { gapAt, ask, paused }] of everyone(s)) if (!ask && !paused) at = Math.min(at, gapAt);
  }
  return link.phase === "live" ? Math.min(at, syncAt(s), next ? at : link.rotateAt, s.fetching ? at : link.authAt) : at;
}

/**
 * @param {State} s
 * @returns {import("./types.js").Status}
 */
export function status({ links: [{ phase }], readers, online, attempt }) {
  if (phase === "idle" || phase === "closed") return phase;
  if (!online || (phase === "waiting" && attempt > 1)) return "offline";
  if (phase === "syncing" || Object.values(readers).some((r) => r.ask && r.catching)) return "replaying";
  return phase === "live" ? phase : "connecting";
}

/** @param {State} s */
function syncAt({ links: [{ syncedAt }], readers, visible }) {
  let every = Infinity;
  for (const id in readers) {
    // A run is awaited by whoever looks at the page; a hidden page asks when it comes back.
    if (visible || readers[id].shown) return syncedAt + SYNC;
    every = IDLE_SYNC;
  }
  return syncedAt + every;
}

/** @type {Record<Event["type"], (s: State, event: any) => void>} */
const EVENTS = {
  watch(s, { id, ...options }) {
    const names = new Set(Object.values(s.readers).map((r) => r.stream)).add(options.stream);
    if (names.size > MAX_STREAMS) {
      s.out.push({ type: "fail", id, error: { code: "too_many", message: `at most ${MAX_STREAMS} streams` } });
      return;
    }
    s.readers[id] = watch(options, s.now);
    begin(s);
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
    s.cancels[id] = { stream, run, due: s.now + CANCEL, gapAt: s.now, ask: null, tries: 0, paused: false };
    begin(s);
  },
  token(s, { token, exp = null }) {
    s.fetching = false;
    s.token = { value: token, exp, used: false };
    for (const link of s.links) cause(s, "token", link);
  },
  tokenless(s, { fatal, message }) {
    if (fatal && s.fetching) fatally(s, { code: "unauthorized", message });
    s.fetching = false;
    for (const link of s.links) cause(s, "tokenless", link);
  },
  opened: (s, { socket }) => on(s, socket, (link) => cause(s, "opened", link)),
  lost(s, { socket }) {
    on(s, socket, (link) => cause(s, "lost", link));
    // What is lost needs no closing.
    s.out = s.out.filter((command) => command.type !== "close" || command.socket !== socket);
  },
  frame: (s, { socket, frame }) =>
    on(s, socket, (link) => {
      if (!isOpen(link)) return;
      link.heard = s.now;
      FRAMES[/** @type {keyof typeof FRAMES} */ (frame.type)](s, link, frame);
      askDue(s);
    }),
  probed(s, { reachable }) {
    const [{ phase, fresh }] = s.links;
    // Only where the server was there, and refused, does a failed handshake tell of the token.
    if (!reachable || phase !== "waiting") return;
    if (fresh) refused(s, { code: "refused", message: "the handshake was refused" });
    s.token = null;
  },
  online(s) {
    s.online = true;
    cause(s, "wake");
  },
  offline(s) {
    s.online = false;
  },
  visible(s) {
    s.visible = true;
    cause(s, "wake");
  },
  hidden(s) {
    s.visible = false;
  },
  tick(s) {
    const { now } = s;
    for (const link of s.links) {
      if (link.due <= now) cause(s, "due", link);
      overdue(s, link);
    }
    for (const id in s.cancels) {
      if (s.cancels[id].due <= now) end(s, { type: "fail", id, error: { code: "unavailable", retryable: true } });
    }
    const [link, next] = s.links;
    if (link.phase === "live") {
      if (link.authAt <= now) wantToken(s);
      if (link.rotateAt <= now && !next) connect(s, (s.links[1] = blank()));
      if (syncAt(s) <= now) sync(s, link);
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
  },
  synced(s, link, { n, time, tails }) {
    const question = strike(link, n);
    if (question) measure(s, question.at, time);
    for (const [stream, tail] of Object.entries(tails)) take(s, link, stream, n, tail);
    // A stream that the answer passed over.
    release(s, link.socket, n, (tries) => backoff(tries, s.random));
    cause(s, "synced", link);
  },
  unsubscribed(s, link, { stream, n, reason }) {
    strike(link, n);
    if (reason === "forbidden") trouble(s, link, { code: reason, message: "no longer granted" }, stream);
    // An unsubscribe of before the last subscribe took nothing away.
    if (n < (link.streams.get(stream) ?? 0)) return;
    for (const [, reader] of readersOf(s, stream)) Object.assign(reader, { ask: null, gapAt: s.now });
  },
  cancelled(s, link, { n, reason = null }) {
    strike(link, n);
    for (const [id] of asking(s, link, n)) end(s, { type: "settle", id, reason });
  },
  authorized(s, link, { n, expires_at }) {
    strike(link, n);
    s.refusals = 0;
    refreshAt(s, link, expires_at);
    sync(s, link);
  },
  error(s, link, { type, stream, n, ...error }) {
    const question = strike(link, n);
    const { code, retryable } = error;
    if (question?.type === "auth") {
      // The old token may still be good: it is the server that closes.
      s.token = null;
      if (++s.refusals >= MISSES) return;
      link.authAt = s.now;
      postpone(s, link);
    } else if (code === "unauthorized") {
      retreat(s, link);
      refused(s, error);
    } else if (code === "unknown_connection" || (retryable && link.phase === "syncing" && question?.type === "sync")) {
      retreat(s, link);
    } else {
      trouble(s, link, error, stream, n);
    }
  },
  gateway(s, link) {
    // It does not say which frame it is about: all are asked again, soon, not all at once.
    const soon = s.now + ANSWER * (0.1 + 0.2 * s.random);
    delay(link, soon, ({ due }) => due > soon);
  },
};

/**
 * Somebody wants something.
 * @param {State} s
 */
function begin(s) {
  if (s.failure?.code === "closed") fatally(s, s.failure);
  else cause(s, "wanted");
  askDue(s);
}

/**
 * @param {State} s
 * @param {number} socket
 * @param {(link: Link) => void} act
 */
function on(s, socket, act) {
  for (const link of s.links) if (link.socket === socket) act(link);
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
 * Those who wait for an answer.
 * @param {State} s
 * @param {Link} link
 * @param {number | undefined} n
 */
const asking = (s, link, n) => everyone(s).filter(([, { ask }]) => ask?.n === n && ask?.socket === link.socket);

/**
 * Gives each reader of a stream a tail, as the answer to its ask or to somebody else's.
 * @param {State} s
 * @param {Link} link
 * @param {string} stream
 * @param {number} n
 * @param {import("./types.js").Tail & {error?: Failure}} tail
 */
function take(s, link, stream, n, tail) {
  if (tail.error) return trouble(s, link, tail.error, stream, n);
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
 * An error: who is concerned asks again later, or ends.
 * @param {State} s
 * @param {Link} link
 * @param {Failure} error
 * @param {string} [stream] without it, whoever asked
 * @param {number} [n] of the question
 */
function trouble(s, link, error, stream, n) {
  const concerned = asking(s, link, n);
  if (error.retryable) {
    for (const [, one] of concerned) {
      if (stream !== undefined && one.stream !== stream) continue;
      one.ask = null;
      one.gapAt = s.now + backoff(++one.tries, s.random);
    }
    return;
  }
  for (const [id, one] of stream === undefined ? concerned : readersOf(s, stream)) {
    // The server subscribed nobody.
    link.streams.delete(one.stream);
    end(s, { type: "fail", id, error });
  }
}

/**
 * @param {State} s
 * @param {import("./asks.js").Command & {id: string}} command the last about a reader or a cancel
 */
function end(s, command) {
  s.out.push(command);
  forget(s, command.id);
}

/**
 * @param {State} s
 * @param {string} id
 */
function forget(s, id) {
  const { stream } = s.readers[id] ?? {};
  delete s.readers[id];
  delete s.cancels[id];
  if (stream && !readersOf(s, stream).length) {
    for (const link of s.links) if (link.streams.has(stream)) leave(s, link, stream);
  }
  if (!everyone(s).length) cause(s, "unwanted");
}

/**
 * Gives up on questions whose time is over: on the whole link, if it is silent.
 * @param {State} s
 * @param {Link} link
 */
function overdue(s, link) {
  for (const [n, { due, at, type }] of [...link.asked]) {
    if (due > s.now) continue;
    const misses = link.misses + 1;
    if (link.heard <= at || misses >= MISSES) return retreat(s, link);
    strike(link, n);
    link.misses = misses;
    release(s, link.socket, n);
    if (type === "sync") sync(s, link);
    if (type === "auth") link.authAt = s.now;
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
