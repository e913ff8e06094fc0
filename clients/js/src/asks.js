/**
 * What is asked of the server and kept in mind until it is answered: `sync`, `subscribe`,
 * `unsubscribe`, `cancel`, `auth`, and whom an answer serves. Part of the pure machine of
 * `machine.js`; knows nothing of how links come and go.
 */
import { doubled, position } from "./cursor.js";
import { MAX_STREAMS } from "./frames.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Link} Link
 * @typedef {import("./types.js").Position} Position
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
 * Whether the server is sure to have room for a stream: what it has not answered may be handled
 * in any order.
 * @param {Link} link
 * @param {string} stream
 */
function hasRoom({ streams, asked }, stream) {
  if (streams.has(stream)) return true;
  const counted = new Set(streams.keys());
  for (const question of asked.values()) {
    if ("streams" in question) for (const name in question.streams) counted.add(name);
    else if ("stream" in question) counted.add(question.stream);
  }
  return counted.add(stream).size <= MAX_STREAMS;
}

/**
 * Whether one has to wait for nothing but its time.
 * @param {Link} link
 * @param {import("./state.js").Call | import("./cursor.js").Reader} one
 */
export const isFree = (link, one) => !one.ask && !one.paused && ("due" in one || hasRoom(link, one.stream));

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
    // What its successor has asked is not asked on a connection that is about to be closed.
    if (reader.paused || (reader.ask?.socket ?? 0) >= link.socket || !hasRoom(link, reader.stream)) continue;
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
    if (one.gapAt > s.now || !isFree(link, one)) continue;
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
 * Stops watching what nobody reads. Frames still on their way are no reason to say it twice.
 * @param {State} s
 * @param {Link} link
 * @param {string} stream
 */
export function leave(s, link, stream) {
  if (readersOf(s, stream).length) return;
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
