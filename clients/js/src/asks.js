/**
 * What is asked of the server and kept in mind until it is answered: `sync`, `subscribe`,
 * `unsubscribe`, `cancel`, `auth`, and whom an answer serves. Part of the pure machine of
 * `state.js`; knows nothing of how links come and go.
 */
import { doubled, position } from "./cursor.js";

/**
 * @typedef {import("./cursor.js").Reader} Reader
 * @typedef {import("./types.js").Failure} Failure
 * @typedef {import("./types.js").Position} Position
 *
 * @typedef {"idle" | "token" | "opening" | "syncing" | "live" | "waiting" | "closed"} Phase
 *
 * @typedef {{frame: Extract<import("./types.js").Question, {type: "cancel" | "send"}>, due: number} & Pick<Reader, "gapAt" | "ask" | "tries" | "paused">} Call
 *   It asks as a reader does, until it is answered or due.
 *
 * @typedef {import("./types.js").Question & {at: number, due: number}} Asked
 *   A frame that wants an answer. Replaced, never changed.
 *
 * @typedef {object} Link A connection, or one in the making.
 * @property {Phase} phase
 * @property {number} socket
 * @property {number} due when its phase ends by itself
 * @property {number} n of the last frame sent
 * @property {number} heard when the last frame came
 * @property {Map<number, Asked>} asked and unanswered, by `n`
 * @property {number} misses questions in a row that stayed without an answer
 * @property {Map<string, number>} streams subscribed here, with the `n` that did it
 * @property {number} syncedAt when the last `sync` was sent
 * @property {number} liveAt
 * @property {number} rotateAt
 * @property {number} authAt when to fetch a fresh token
 * @property {number | null} exp of its token, seconds
 * @property {boolean} fresh its token had never been used before
 *
 * @typedef {object} State
 * @property {number} now
 * @property {number} random
 * @property {Command[]} out commands of this step
 * @property {Link[]} links the one in use, and while rotating its successor
 * @property {number} sockets how many were opened
 * @property {Record<string, Reader>} readers
 * @property {Record<string, Call>} calls
 * @property {{value: string, exp: number | null, used: boolean} | null} token
 * @property {boolean} fetching a token
 * @property {number} attempt of the reconnect
 * @property {number} triedAt when the last socket was opened
 * @property {number} refusals in a row, each of a fresh token
 * @property {boolean} rejected a handshake with a fresh token failed, nobody knows yet why
 * @property {boolean} online
 * @property {boolean} visible
 * @property {{offset: number, trip: number} | null} aws what to add to `now` for AWS time
 * @property {Failure | null} failure why it is closed
 *
 * @typedef {{type: "token"} | {type: "probe"}
 *   | {type: "connect", socket: number, token: string}
 *   | {type: "close", socket: number}
 *   | {type: "send", socket: number, frame: import("./types.js").ClientFrame}
 *   | ({id: string} & import("./cursor.js").Output)
 *   | {type: "fail", id: string, error: Failure}
 *   | {type: "settle", id: string, answer: object}} Command
 *   `probe`: find out whether the server can be reached although a handshake failed. `fail`:
 *   of a reader or a call; `settle`: a call is answered.
 */

/** Milliseconds without an answer, and without anything else, until a connection is dead. */
export const ANSWER = 5_000;

/** @param {Link} link */
export const isOpen = ({ phase }) => phase === "live" || phase === "syncing";

/** @param {State} s */
export const everyone = ({ readers, calls }) => Object.entries({ ...readers, ...calls });

/**
 * The readers of a stream.
 * @param {State} s
 * @param {string} stream
 */
export const readersOf = ({ readers }, stream) =>
  Object.entries(readers).filter(([, reader]) => reader.stream === stream);

/**
 * @param {State} s
 * @param {Link} link
 * @param {import("./types.js").Question} frame
 * @returns {number} its `n`
 */
export function ask(s, link, frame) {
  const n = ++link.n;
  // A server that is slow with everybody must let somebody in.
  const due = s.now + doubled(ANSWER, link.phase === "syncing" ? s.attempt : 0);
  link.asked.set(n, { ...frame, at: s.now, due });
  s.out.push({ type: "send", socket: link.socket, frame: { ...frame, n } });
  return n;
}

/**
 * Asks for everything that is watched. `catching`: after an absence, so that what it brings
 * is no repair.
 * @param {State} s
 * @param {Link} link
 * @param {boolean} [catching]
 */
export function sync(s, link, catching = false) {
  /** @type {Map<string, Position>} */
  const streams = new Map();
  /** @type {Record<string, import("./types.js").Compact>} */
  const compact = {};
  for (const [, reader] of Object.entries(s.readers)) {
    if (reader.paused || reader.ask?.socket === link.socket) continue;
    reader.catching ||= catching;
    if (streams.has(reader.stream)) continue;
    streams.set(reader.stream, position(reader));
    if (reader.compact) compact[reader.stream] = reader.compact;
  }
  link.syncedAt = s.now;
  const modes = Object.keys(compact).length ? { compact } : {};
  const n = ask(s, link, { type: "sync", streams: Object.fromEntries(streams), ...modes });
  for (const [stream, where] of streams) mark(s, link, stream, where, n, compact[stream]);
}

/**
 * Asks for everyone whose time to ask has come.
 * @param {State} s
 */
export function askDue(s) {
  const [link] = s.links;
  if (!isOpen(link)) return;
  for (const [, one] of everyone(s)) {
    if (one.ask || one.paused || one.gapAt > s.now) continue;
    if ("due" in one) {
      one.ask = { socket: link.socket, n: ask(s, link, one.frame), cursor: null };
    } else {
      const { stream } = one;
      const where = position(one);
      const [run, after] = where ?? [];
      const mode = one.compact && { compact: one.compact };
      // JSON leaves out what is undefined.
      const n = ask(s, link, { type: "subscribe", stream, run: run ?? undefined, after, ...mode });
      mark(s, link, stream, where, n, one.compact);
    }
  }
}

/**
 * Notes a question with every reader that its answer will serve.
 * @param {State} s
 * @param {Link} link
 * @param {string} stream
 * @param {Position} where
 * @param {number} n
 * @param {import("./types.js").Compact} [mode]
 */
function mark(s, { socket, streams }, stream, where, n, mode) {
  streams.set(stream, n);
  for (const [, reader] of readersOf(s, stream)) {
    if (reader.paused || reader.compact !== mode || String(position(reader)) !== String(where)) continue;
    reader.ask = { socket, n, cursor: reader.cursor };
    reader.gapAt = Infinity;
    if (reader.again <= s.now) reader.again = Infinity;
  }
}

/**
 * Stops watching. Frames still on their way are no reason to say it twice.
 * @param {State} s
 * @param {Link} link
 * @param {string} stream
 */
export function leave(s, link, stream) {
  link.streams.delete(stream);
  for (const asked of link.asked.values())
    if (asked.type === "unsubscribe" && asked.stream === stream) return;
  if (isOpen(link)) ask(s, link, { type: "unsubscribe", stream });
}

/**
 * Lets go of a question that will not be answered: who waits for it asks again, after a delay.
 * @param {State} s
 * @param {number} socket
 * @param {number} [n] without it, every question on that socket
 * @param {(tries: number) => number} [delay]
 */
export function release(s, socket, n, delay = () => 0) {
  for (const [, one] of everyone(s)) {
    if (one.ask?.socket !== socket || one.ask.n !== (n ?? one.ask.n)) continue;
    one.ask = null;
    one.gapAt = s.now + delay(one.tries);
  }
}
