/**
 * How connections come and go (PROTOCOL.md §3.1 and §3.5, rules 8 to 10). What a link does
 * about each cause in each phase is `TABLE`: a phase or a cause without an entry does not
 * compile.
 */
import { ANSWER, ask, askDue, everyone, leave, release, sync } from "./asks.js";
import { backoff, doubled } from "./cursor.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Link} Link
 * @typedef {"wanted" | "unwanted" | "token" | "tokenless" | "opened" | "synced" | "lost" | "due" | "wake"} Cause
 *   `tokenless`: there is no token to be had now. `wake`: the page or the network came back.
 * @typedef {(s: State, link: Link) => void} Act
 */

/** Milliseconds. */
const HANDSHAKE = 10_000;
const LINGER = 60_000;
const MINUTE = 60_000;
/** A connection that lived this long ends the back-off. */
const STEADY = 10_000;
/** Between two attempts, however often the page comes back. */
const HURRY = 1_000;
export const REFUSALS = 3;

/** @returns {Link} */
export const blank = () => ({
  phase: "idle",
  socket: 0,
  due: Infinity,
  n: 0,
  heard: 0,
  asked: new Map(),
  misses: 0,
  streams: new Map(),
  syncedAt: 0,
  liveAt: Infinity,
  rotateAt: Infinity,
  authAt: Infinity,
  exp: null,
  fresh: false,
});

/** @type {Act} */
const stay = () => {};

/** @type {Record<Cause, Act>} */
const STAY = {
  wanted: stay,
  unwanted: stay,
  token: stay,
  tokenless: stay,
  opened: stay,
  synced: stay,
  lost: stay,
  due: stay,
  wake: stay,
};

/** @type {Record<import("./state.js").Phase, Record<Cause, Act>>} */
export const TABLE = {
  idle: { ...STAY, wanted: connect },
  token: { ...STAY, token: open, tokenless: retreat, due: retreat },
  // A socket that nobody wants any more is let open: closing it early is an error in a browser's console.
  opening: { ...STAY, opened: greet, lost: rejected, due: retreat },
  syncing: { ...STAY, synced: settle, lost: retreat },
  live: {
    ...STAY,
    wanted: unlinger,
    unwanted: linger,
    token: authorize,
    tokenless: postpone,
    lost: retreat,
    due: rest,
    wake: test,
  },
  waiting: { ...STAY, wanted: hurry, unwanted: rest, due: connect, wake: hurry },
  closed: { ...STAY, wanted: reopen },
};

/**
 * @param {State} s
 * @param {Cause} cause
 * @param {Link} [link]
 */
export const cause = (s, cause, link = s.links[0]) => TABLE[link.phase][cause](s, link);

/** @type {Act} */
export function connect(s, link) {
  const { token, aws, now } = s;
  const stale = token?.exp && aws && now + aws.offset > token.exp * 1000 - HANDSHAKE;
  Object.assign(link, blank(), { phase: "token", due: now + HANDSHAKE });
  if (token && !stale) open(s, link);
  else wantToken(s);
}

/**
 * One that is too long in coming is asked for again, and is welcome all the same.
 * @param {State} s
 */
export function wantToken(s) {
  if (s.fetching > s.now) return;
  s.out.push({ type: "token" });
  s.fetching = s.now + HANDSHAKE * (1 + s.random);
}

/** @type {Act} */
function open(s, link) {
  const { token, now } = s;
  if (!token) return;
  const socket = ++s.sockets;
  const due = now + doubled(HANDSHAKE, s.attempt);
  Object.assign(link, { phase: "opening", socket, due, exp: token.exp, fresh: !token.used });
  s.token = { ...token, used: true };
  s.triedAt = now;
  s.out.push({ type: "connect", socket, token: token.value });
}

/**
 * `sync` is the first frame on every new socket.
 * @type {Act}
 */
function greet(s, link) {
  const rotateAt = s.now + (100 + 15 * s.random) * MINUTE;
  Object.assign(link, { phase: "syncing", due: Infinity, heard: s.now, rotateAt });
  sync(s, link, link === s.links[0]);
  askDue(s);
}

/**
 * The first `synced`: this link carries the client from now on.
 * @type {Act}
 */
function settle(s, link) {
  link.phase = "live";
  link.liveAt = s.now;
  const [{ socket }] = s.links;
  if (socket !== link.socket) {
    s.out.push({ type: "close", socket });
    release(s, socket);
  }
  s.links = [link];
  s.refusals = 0;
  s.rejected = false;
  refreshAt(s, link, link.exp);
  // What began or ended to be watched since the `sync`.
  for (const [, reader] of Object.entries(s.readers))
    if (!reader.ask && !link.streams.has(reader.stream)) reader.gapAt = s.now;
  for (const stream of link.streams.keys()) leave(s, link, stream);
  askDue(s);
  if (!everyone(s).length) linger(s, link);
}

/**
 * The link is gone, or given up.
 * @type {Act}
 */
export function retreat(s, link) {
  const { socket, liveAt, phase } = link;
  if (phase === "token") s.fetching = 0;
  if (socket) s.out.push({ type: "close", socket });
  s.links = s.links.filter((other) => other !== link);
  if (s.links.length) {
    s.links[0].rotateAt = s.now + MINUTE * (0.5 + s.random);
  } else {
    s.links = [blank()];
    if (everyone(s).length) {
      if (s.now - liveAt >= STEADY) s.attempt = 0;
      Object.assign(s.links[0], { phase: "waiting", due: s.now + backoff(s.attempt++, s.random) });
    }
  }
  release(s, socket);
  askDue(s);
}

/**
 * A handshake failed, by the network or by the server: a browser does not say which. (One that
 * was only not answered tells nothing of the token.)
 * @type {Act}
 */
function rejected(s, link) {
  retreat(s, link);
  if (s.links[0].phase !== "waiting") return;
  s.rejected ||= link.fresh;
  s.out.push({ type: "probe" });
}

/** @type {Act} */
function hurry(s, link) {
  const due = s.triedAt + HURRY;
  if (due <= s.now) connect(s, link);
  else link.due = Math.min(due, link.due);
}

/** @type {Act} */
function reopen(s, link) {
  s.failure = null;
  s.refusals = s.attempt = 0;
  connect(s, link);
}

/** @type {Act} */
function linger(s, link) {
  link.due = s.now + LINGER;
}

/** @type {Act} */
function unlinger(_, link) {
  link.due = Infinity;
}

/** @param {State} s */
function rest(s) {
  for (const { socket } of s.links) if (socket) s.out.push({ type: "close", socket });
  s.links = [blank()];
}

/**
 * Does the socket still live?
 * @type {Act}
 */
function test(s, link) {
  if (!link.asked.size && link.syncedAt + HURRY <= s.now) sync(s, link);
}

/**
 * @param {State} s
 * @param {import("./types.js").Failure} failure
 */
export function fatally(s, failure) {
  rest(s);
  for (const [id] of everyone(s)) s.out.push({ type: "fail", id, error: failure });
  Object.assign(s, { readers: {}, calls: {}, token: null, fetching: 0, failure });
  s.links[0].phase = "closed";
}

/**
 * A token was refused: another one is fetched, but not for ever.
 * @param {State} s
 * @param {import("./types.js").Failure} error
 */
export function refused(s, error) {
  s.token = null;
  if (++s.refusals >= REFUSALS) fatally(s, error);
}

/**
 * Plans the next `auth`, at 80 % of what is left of the token.
 * @param {State} s
 * @param {Link} link
 * @param {number | null} exp
 */
export function refreshAt({ now, aws }, link, exp) {
  if (exp && aws) link.authAt = now + Math.max(1000, 0.8 * (exp * 1000 - now - aws.offset));
}

/** @type {Act} */
function authorize(s, link) {
  const { token, now } = s;
  if (!token || link.authAt > now) return;
  s.token = { ...token, used: true };
  ask(s, link, { type: "auth", token: token.value });
  link.authAt = Infinity;
}

/** @type {Act} */
export function postpone(s, link) {
  if (link.authAt <= s.now) link.authAt = s.now + ANSWER * (1 + s.random);
}
