/**
 * How connections come and go (PROTOCOL.md §3.1 and §3.5, rules 8 to 10), on the draft of a
 * state. During rotation there are two links, `link` and `next`. What a link does about each
 * cause in each phase is `TABLE`: a phase or a cause without an entry does not compile.
 */
import { ANSWER, ask, askDue, isOpen, isWanted, KEYS, leave, patch, put, readersOf, release, sendCancel, sync } from "./asks.js";
import { backoff } from "./cursor.js";

/**
 * @typedef {import("./asks.js").Draft} Draft
 * @typedef {import("./asks.js").Key} Key
 * @typedef {import("./asks.js").Link} Link
 * @typedef {"wanted" | "unwanted" | "token" | "tokenless" | "opened" | "synced" | "lost" | "due" | "wake"} Cause
 *   `tokenless`: there is no token to be had now. `wake`: the page or the network came back.
 */

/** Milliseconds. */
const HANDSHAKE = 10_000;
const LINGER = 60_000;
const MINUTE = 60_000;
/** A connection that lived this long ends the back-off. */
const STEADY = 10_000;
/** Between two attempts, however often the page comes back. */
const HURRY = 1_000;
const REFUSALS = 3;

/** @type {Link} */
export const BLANK = {
  phase: "idle",
  socket: 0,
  due: null,
  n: 0,
  heard: 0,
  questions: new Map(),
  misses: 0,
  streams: new Map(),
  leaving: new Map(),
  syncedAt: 0,
  liveAt: Infinity,
  rotateAt: Infinity,
  authAt: Infinity,
  exp: null,
  fresh: false,
};

/** @type {(d: Draft, key: Key) => void} */
const stay = () => {};

/** @type {Record<Cause, (d: Draft, key: Key) => void>} */
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

/** @typedef {(d: Draft, key: Key) => void} Act */
/** @type {Record<import("./asks.js").Phase, Record<Cause, Act>>} */
export const TABLE = {
  idle: { ...STAY, wanted: connect },
  token: { ...STAY, token: open, tokenless: retreat, due: retreat },
  // A socket that nobody wants any more is let open: closing it early is an error in a browser's console.
  opening: { ...STAY, opened: greet, lost: rejected, due: abandon },
  syncing: { ...STAY, synced: settle, lost: dropped },
  live: {
    wanted: unlinger,
    unwanted: linger,
    token: authorize,
    tokenless: postpone,
    opened: stay,
    synced: stay,
    lost: dropped,
    due: rest,
    wake: test,
  },
  waiting: { ...STAY, wanted: hurry, unwanted: rest, due: connect, wake: hurry },
  closed: { ...STAY, wanted: reopen },
};

/**
 * @param {Draft} d
 * @param {Key} key
 * @param {Cause} cause
 */
export function cause(d, key, cause) {
  const link = d.s[key];
  if (link) TABLE[link.phase][cause](d, key);
}

/**
 * @param {Draft} d
 * @param {Key} key
 */
export function connect(d, key) {
  const { token, aws, now } = d.s;
  const stale = token?.exp && aws && now + aws.offset > token.exp * 1000 - HANDSHAKE;
  d.s[key] = { ...BLANK, phase: "token", due: now + HANDSHAKE };
  if (token && !stale) open(d, key);
  else wantToken(d);
}

/** @param {Draft} d */
export function wantToken(d) {
  if (d.s.asking) return;
  d.s.asking = true;
  d.out.push({ type: "token" });
}

/**
 * @param {Draft} d
 * @param {Key} key
 */
function open(d, key) {
  const token = /** @type {import("./asks.js").Token} */ (d.s.token);
  const socket = ++d.s.sockets;
  const fresh = token.fixed || !token.used;
  d.s[key] = { ...BLANK, phase: "opening", socket, due: d.s.now + HANDSHAKE, exp: token.exp, fresh };
  d.s.token = { ...token, used: true };
  d.s.triedAt = d.s.now;
  d.out.push({ type: "connect", socket, token: token.value });
}

/**
 * `sync` is the first frame on every new socket.
 * @param {Draft} d
 * @param {Key} key
 */
function greet(d, key) {
  const rotateAt = d.s.now + (100 + 15 * d.random) * MINUTE;
  patch(d, key, { phase: "syncing", due: null, heard: d.s.now, rotateAt });
  sync(d, key, key === "link");
  askDue(d);
}

/**
 * The first `synced`: this link carries the client from now on.
 * @param {Draft} d
 * @param {Key} key
 */
function settle(d, key) {
  patch(d, key, { phase: "live", liveAt: d.s.now });
  if (key === "next") {
    const { socket } = d.s.link;
    d.s.link = /** @type {Link} */ (d.s.next);
    d.s.next = null;
    d.out.push({ type: "close", socket });
    release(d, socket, null, () => 0);
  }
  d.s.refusals = 0;
  refreshAt(d, d.s.link.exp);
  for (const id in d.s.cancels) sendCancel(d, id);
  const { streams } = d.s.link;
  const wanted = new Set();
  for (const [id, { stream, ask }] of readersOf(d.s)) {
    wanted.add(stream);
    if (!ask && !streams.has(stream)) put(d, id, { gapAt: d.s.now });
  }
  for (const stream of streams.keys()) if (!wanted.has(stream)) leave(d, "link", stream);
  askDue(d);
  if (!isWanted(d.s)) linger(d);
}

/**
 * The link is given up.
 * @param {Draft} d
 * @param {Key} key
 * @param {boolean} [open] as far as is known
 */
export function retreat(d, key, open = true) {
  const { now, next } = d.s;
  const gone = /** @type {Link} */ (d.s[key]);
  if (gone.phase === "token") d.s.asking = false;
  if (gone.socket && open) d.out.push({ type: "close", socket: gone.socket });
  if (key === "next") {
    d.s.next = null;
    patch(d, "link", { rotateAt: now + MINUTE * (0.5 + d.random) });
  } else if (next) {
    d.s.link = next;
    d.s.next = null;
  } else if (isWanted(d.s)) {
    if (now - gone.liveAt >= STEADY) d.s.attempt = 0;
    d.s.link = { ...BLANK, phase: "waiting", due: now + backoff(d.s.attempt++, d.random) };
  } else {
    d.s.link = BLANK;
  }
  release(d, gone.socket, null, () => 0);
  askDue(d);
}

/**
 * @param {Draft} d
 * @param {Key} key
 */
function dropped(d, key) {
  retreat(d, key, false);
}

/**
 * @param {Draft} d
 * @param {Key} key
 */
function abandon(d, key) {
  rejected(d, key, true);
}

/**
 * A handshake failed, by the network or by the server: a browser does not say which.
 * @param {Draft} d
 * @param {Key} key
 * @param {boolean} [open]
 */
function rejected(d, key, open = false) {
  const { fresh } = /** @type {Link} */ (d.s[key]);
  retreat(d, key, open);
  if (key === "next" || d.s.link.phase !== "waiting") return;
  patch(d, "link", { fresh });
  d.out.push({ type: "probe" });
}

/**
 * @param {Draft} d
 * @param {Key} key
 */
function hurry(d, key) {
  const due = Math.max(d.s.now, d.s.triedAt + HURRY);
  if (due <= d.s.now) connect(d, key);
  else patch(d, key, { due: Math.min(due, d.s[key]?.due ?? due) });
}

/** @param {Draft} d */
function reopen(d) {
  d.s.failure = null;
  d.s.refusals = d.s.attempt = 0;
  connect(d, "link");
}

/** @param {Draft} d */
function linger(d) {
  patch(d, "link", { due: d.s.now + LINGER });
}

/** @param {Draft} d */
function unlinger(d) {
  patch(d, "link", { due: null });
}

/** @param {Draft} d */
function rest(d) {
  for (const key of KEYS) {
    const socket = d.s[key]?.socket;
    if (socket) d.out.push({ type: "close", socket });
  }
  d.s.link = BLANK;
  d.s.next = null;
}

/**
 * Does the socket still live?
 * @param {Draft} d
 */
function test(d) {
  const { questions, syncedAt } = d.s.link;
  if (questions.size === 0 && syncedAt + HURRY <= d.s.now) sync(d, "link", false);
}

/**
 * @param {Draft} d
 * @param {import("./types.js").Failure} error
 */
export function fatally(d, error) {
  rest(d);
  for (const reader in d.s.readers) d.out.push({ type: "fail", reader, error });
  for (const id in d.s.cancels) d.out.push({ type: "settle", id, error });
  d.s = { ...d.s, readers: {}, cancels: {}, token: null, asking: false, failure: error };
  d.s.link = { ...BLANK, phase: "closed" };
}

/**
 * A token was refused: another one is fetched, but not for ever.
 * @param {Draft} d
 * @param {import("./types.js").Failure} error
 */
export function refused(d, error) {
  d.s.refusals++;
  const hopeless = d.s.token?.fixed && error.code === "unauthorized";
  if (hopeless || d.s.refusals >= REFUSALS) fatally(d, error);
  else forgetToken(d);
}

/** @param {Draft} d */
export function forgetToken(d) {
  if (!d.s.token?.fixed) d.s.token = null;
}

/**
 * Plans the next `auth`, at 80 % of what is left of the token.
 * @param {Draft} d
 * @param {number | null} exp
 */
export function refreshAt(d, exp) {
  const { aws, now, token } = d.s;
  if (exp === null || !aws || token?.fixed) return;
  patch(d, "link", { exp, authAt: now + 0.8 * Math.max(0, exp * 1000 - now - aws.offset) });
}

/** @param {Draft} d */
function authorize(d) {
  const { token, link, now } = d.s;
  if (!token || link.authAt > now) return;
  d.s.token = { ...token, used: true };
  ask(d, "link", { type: "auth", token: token.value });
  patch(d, "link", { authAt: Infinity });
}

/** @param {Draft} d */
export function postpone(d) {
  if (isOpen(d.s.link) && d.s.link.authAt <= d.s.now) patch(d, "link", { authAt: d.s.now + ANSWER * (1 + d.random) });
}
