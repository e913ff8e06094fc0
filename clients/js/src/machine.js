/**
 * The client as a pure machine: (state, event) → (state, commands).
 *
 * It has no clock, no randomness and no sockets: an event carries `now` (milliseconds of any
 * clock that never goes back) and, where delays are drawn, `random`; `deadline` says when the
 * next `tick` is due; commands are carried out by `client.js`. A step works on a draft of the
 * state, `s`, that nobody else has. `state.js` says what is in it, `links.js` knows connections,
 * `asks.js` what was asked on them, `answers.js` what server frames mean, `cursor.js` each
 * reader's place in the log.
 */
import { end, forget, FRAMES, strike } from "./answers.js";
import { askDue, everyone, isFree, isOpen, leave, release, sync } from "./asks.js";
import { watch } from "./cursor.js";
import { MAX_STREAMS } from "./frames.js";
import { blank, cause, connect, fatally, refused, retreat, wantToken } from "./links.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Link} Link
 * @typedef {import("./state.js").Command} Command
 * @typedef {import("./types.js").Failure} Failure
 *
 * @typedef {{now: number, random?: number} & (
 *   {type: "watch", id: string, stream: string, after?: import("./types.js").Cursor | null, run?: string | null, follow?: boolean, compact?: import("./types.js").Compact}
 *   | {type: "unwatch" | "pause" | "resume", id: string}
 *   | {type: "call", id: string, frame: import("./state.js").Call["frame"]}
 *   | {type: "token", token: string, exp?: number | null}
 *   | {type: "tokenless", fatal?: boolean, message?: string}
 *   | {type: "opened" | "lost", socket: number}
 *   | {type: "frame", socket: number, frame: import("./types.js").ServerFrame}
 *   | {type: "probed", reachable: boolean}
 *   | {type: "page", online: boolean, visible: boolean}
 *   | {type: "tick"}
 *   | {type: "close", error?: Failure})} Event
 *   `fatal`: nor will there ever be a token.
 */

/** Milliseconds. */
const SYNC = 25_000;
const IDLE_SYNC = 300_000;
const CALL = 30_000;
const MISSES = 3;

/** @returns {State} */
export const initial = () => ({
  now: 0,
  random: 0,
  out: [],
  links: [blank()],
  sockets: 0,
  readers: {},
  calls: {},
  token: null,
  fetching: 0,
  attempt: 0,
  triedAt: -Infinity,
  refusals: 0,
  rejected: false,
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
    links: state.links.map((link) => ({
      ...link,
      asked: new Map(link.asked),
      streams: new Map(link.streams),
    })),
    readers: copies(state.readers),
    calls: copies(state.calls),
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
  const at = Object.values(s.calls).map(({ due }) => due);
  for (const { due, asked } of s.links) {
    at.push(due);
    for (const question of asked.values()) at.push(question.due);
  }
  if (isOpen(link)) for (const [, one] of everyone(s)) if (isFree(link, one)) at.push(one.gapAt);
  if (link.phase === "live") {
    at.push(syncAt(s), next ? Infinity : link.rotateAt, Math.max(link.authAt, s.fetching));
  }
  return Math.min(...at);
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
    const { shown, cursor } = readers[id];
    if (visible || (shown && !cursor?.ended)) return syncedAt + SYNC;
    every = IDLE_SYNC;
  }
  return syncedAt + every;
}

/** @type {Record<Event["type"], (s: State, event: any) => void>} */
const EVENTS = {
  watch(s, { id, ...options }) {
    const names = new Set(Object.values(s.readers).map((r) => r.stream)).add(options.stream);
    if (names.size > MAX_STREAMS) {
      s.out.push({
        type: "fail",
        id,
        error: { code: "too_many", message: `at most ${MAX_STREAMS} streams` },
      });
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
  call(s, { id, frame }) {
    s.calls[id] = { frame, due: s.now + CALL, gapAt: s.now, ask: null, tries: 0, paused: false };
    begin(s);
  },
  token(s, { token, exp = null }) {
    s.fetching = 0;
    s.token = { value: token, exp, used: false };
    for (const link of s.links) cause(s, "token", link);
  },
  tokenless(s, { fatal, message }) {
    if (fatal && s.fetching) fatally(s, { code: "unauthorized", message });
    s.fetching = 0;
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
    // Only where the server was there, and refused, does a failed handshake tell of the token. It
    // looks the same where too many come at once; whom it has let in before, it will again.
    if (!reachable || isOpen(s.links[0])) return;
    if (s.rejected && !s.aws) refused(s, { code: "refused", message: "handshake refused" });
    s.rejected = false;
    s.token = null;
  },
  page(s, { online, visible }) {
    const back = (online && !s.online) || (visible && !s.visible);
    s.online = online;
    s.visible = visible;
    if (back) cause(s, "wake");
  },
  tick(s) {
    const { now } = s;
    for (const link of s.links) {
      if (link.due <= now) cause(s, "due", link);
      if (s.links.includes(link)) overdue(s, link);
    }
    for (const id in s.calls) {
      if (s.calls[id].due <= now)
        end(s, { type: "fail", id, error: { code: "unavailable", retryable: true } });
    }
    const [link, next] = s.links;
    if (link.phase === "live") {
      if (link.authAt <= now) wantToken(s);
      if (link.rotateAt <= now && !next) connect(s, (s.links[1] = blank()));
      if (syncAt(s) <= now) sync(s, link);
    }
    askDue(s);
  },
  close: (s, { error = { code: "closed", message: "client closed" } }) => fatally(s, error),
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
 * Gives up on questions whose time is over: on the whole link, if it is silent.
 * @param {State} s
 * @param {Link} link
 */
function overdue(s, link) {
  for (const [n, question] of [...link.asked]) {
    const { due, at, type } = question;
    if (due > s.now) continue;
    const misses = link.misses + 1;
    if (link.heard <= at || misses >= MISSES) return retreat(s, link);
    strike(link, n);
    link.misses = misses;
    release(s, link.socket, n);
    if (type === "sync") sync(s, link);
    if (type === "auth") link.authAt = s.now;
    if (type === "unsubscribe") leave(s, link, question.stream);
  }
}
