/**
 * What is asked of the server and kept in mind until it is answered, on the draft of a
 * state: `sync`, `subscribe`, `unsubscribe`, `cancel`, and which reader an answer serves.
 * Part of the pure machine of `state.js`; knows nothing of how links come and go.
 */
import { position } from "./cursor.js";

/**
 * @typedef {import("./cursor.js").Reader} Reader
 * @typedef {import("./types.js").Failure} Failure
 * @typedef {import("./types.js").Position} Position
 *
 * @typedef {"idle" | "token" | "opening" | "syncing" | "live" | "waiting" | "closed"} Phase
 * @typedef {"link" | "next"} Key
 *
 * @typedef {{type: string, cancel?: string, stream?: string, at: number, due: number}} Question
 *   A frame that wants an answer.
 *
 * @typedef {object} Link A connection, or one in the making.
 * @property {Phase} phase
 * @property {number} socket
 * @property {number | null} due when its phase ends by itself
 * @property {number} n of the last frame sent
 * @property {number} heard when the last frame came
 * @property {Map<number, Question>} questions unanswered, by their `n`
 * @property {number} misses questions in a row that stayed without an answer
 * @property {Map<string, number>} streams subscribed here, with the `n` that did it
 * @property {Map<string, number>} leaving `unsubscribe` in flight
 * @property {number} syncedAt when the last `sync` was sent
 * @property {number} liveAt
 * @property {number} rotateAt
 * @property {number} authAt when to fetch a fresh token
 * @property {number | null} exp of its token, seconds
 * @property {boolean} fresh its token had never been used before
 *
 * @typedef {{value: string, exp: number | null, fixed: boolean, used: boolean}} Token
 *
 * @typedef {object} State
 * @property {number} now
 * @property {Link} link
 * @property {Link | null} next its successor, while rotating
 * @property {number} sockets how many were opened
 * @property {Record<string, Reader>} readers
 * @property {Record<string, {stream: string, run: string, due: number}>} cancels
 * @property {Token | null} token
 * @property {boolean} asking for a token
 * @property {number} attempt of the reconnect
 * @property {number} triedAt when the last socket was opened
 * @property {number} refusals in a row, each of a fresh token
 * @property {boolean} online
 * @property {boolean} visible
 * @property {{offset: number, trip: number} | null} aws what to add to `now` for AWS time
 * @property {Failure | null} failure why it is closed
 *
 * @typedef {{type: "token"} | {type: "probe"}
 *   | {type: "connect", socket: number, token: string}
 *   | {type: "close", socket: number}
 *   | {type: "send", socket: number, frame: import("./types.js").ClientFrame}
 *   | ({reader: string} & import("./cursor.js").Output)
 *   | {type: "fail", reader: string, error: Failure}
 *   | {type: "settle", id: string, reason?: string | null, error?: Failure}} Command
 *   `probe`: find out whether the server can be reached although a handshake failed.
 *
 * @typedef {{s: State, out: Command[], random: number}} Draft
 *   `s` is this step's own copy; what it refers to is replaced, never changed.
 */

/** Milliseconds without an answer, and without anything else, until a connection is dead. */
export const ANSWER = 5_000;

/** @type {Key[]} */
export const KEYS = ["link", "next"];

/** @param {Link | null} link */
export const isOpen = (link) => link !== null && (link.phase === "live" || link.phase === "syncing");

/** @param {State} state */
export const isWanted = ({ readers, cancels }) => Object.keys(readers).length + Object.keys(cancels).length > 0;

/**
 * @param {Draft} d
 * @param {Key} key
 * @param {Partial<Link>} change
 */
export function patch(d, key, change) {
  d.s[key] = { .../** @type {Link} */ (d.s[key]), ...change };
}

/**
 * @param {Draft} d
 * @param {string} id
 * @param {Partial<Reader>} change
 */
export function put(d, id, change) {
  d.s.readers = { ...d.s.readers, [id]: { ...d.s.readers[id], ...change } };
}

/**
 * The readers of a stream, or all.
 * @param {State} state
 * @param {string} [stream]
 */
export const readersOf = ({ readers }, stream) =>
  Object.entries(readers).filter(([, reader]) => stream === undefined || reader.stream === stream);

/**
 * @param {Draft} d
 * @param {Key} key
 * @param {import("./types.js").Question} frame
 * @param {string} [cancel] its id
 * @returns {number} its `n`
 */
export function ask(d, key, frame, cancel) {
  const link = /** @type {Link} */ (d.s[key]);
  const n = link.n + 1;
  const stream = "stream" in frame ? frame.stream : undefined;
  const question = { type: frame.type, stream, cancel, at: d.s.now, due: d.s.now + ANSWER };
  patch(d, key, { n, questions: new Map(link.questions).set(n, question) });
  d.out.push({ type: "send", socket: link.socket, frame: { ...frame, n } });
  return n;
}

/**
 * Takes a question off the list.
 * @param {Draft} d
 * @param {Key} key
 * @param {number | undefined} n
 * @param {number} [misses]
 * @returns {Question | undefined}
 */
export function strike(d, key, n = 0, misses = 0) {
  const questions = new Map(/** @type {Link} */ (d.s[key]).questions);
  const question = questions.get(n);
  questions.delete(n);
  patch(d, key, { questions, misses });
  return question;
}

/**
 * Asks for everything that is watched. `catching`: after an absence, so that what it brings
 * is no repair.
 * @param {Draft} d
 * @param {Key} key
 * @param {boolean} catching
 */
export function sync(d, key, catching) {
  const { socket } = /** @type {Link} */ (d.s[key]);
  /** @type {Map<string, Position>} */
  const streams = new Map();
  for (const [id, reader] of readersOf(d.s)) {
    if (reader.paused || reader.ask?.socket === socket) continue;
    if (catching) put(d, id, { catching });
    if (!streams.has(reader.stream)) streams.set(reader.stream, position(reader));
  }
  patch(d, key, { syncedAt: d.s.now });
  const n = ask(d, key, { type: "sync", streams: Object.fromEntries(streams) });
  for (const [stream, where] of streams) mark(d, key, stream, where, n);
}

/**
 * Asks for each reader whose gap is due.
 * @param {Draft} d
 */
export function askDue(d) {
  if (!isOpen(d.s.link)) return;
  for (const [id, { stream }] of readersOf(d.s)) {
    // Looked up again: the ask for one reader may serve the next.
    const reader = d.s.readers[id];
    if (reader.ask || reader.paused || reader.gapAt === null || reader.gapAt > d.s.now) continue;
    const where = position(reader);
    const [run, after] = where ?? [];
    const n = ask(d, "link", {
      type: "subscribe",
      stream,
      ...(run && { run }),
      ...(after !== undefined && { after }),
    });
    mark(d, "link", stream, where, n);
  }
}

/**
 * Notes a question with every reader that its answer will serve.
 * @param {Draft} d
 * @param {Key} key
 * @param {string} stream
 * @param {Position} where
 * @param {number} n
 */
function mark(d, key, stream, where, n) {
  const { socket, streams } = /** @type {Link} */ (d.s[key]);
  for (const [id, reader] of readersOf(d.s, stream)) {
    if (reader.paused || String(position(reader)) !== String(where)) continue;
    put(d, id, { ask: { socket, n, cursor: reader.cursor }, gapAt: null });
  }
  patch(d, key, { streams: new Map(streams).set(stream, n) });
}

/**
 * Stops watching. Frames still on their way are no reason to say it twice.
 * @param {Draft} d
 * @param {Key} key
 * @param {string} stream
 */
export function leave(d, key, stream) {
  const link = /** @type {Link} */ (d.s[key]);
  if (!isOpen(link) || link.leaving.has(stream)) return;
  const n = ask(d, key, { type: "unsubscribe", stream });
  const streams = new Map(link.streams);
  streams.delete(stream);
  patch(d, key, { streams, leaving: new Map(link.leaving).set(stream, n) });
}

/**
 * @param {Draft} d
 * @param {string} id
 */
export function sendCancel(d, id) {
  const { stream, run } = d.s.cancels[id];
  ask(d, "link", { type: "cancel", stream, run }, id);
}

/**
 * Lets go of a question that will not be answered: its readers ask again after `delay`.
 * @param {Draft} d
 * @param {number} socket
 * @param {number | null} n null: every question on that socket
 * @param {(reader: Reader) => number} delay
 */
export function release(d, socket, n, delay) {
  for (const [id, reader] of readersOf(d.s)) {
    if (reader.ask?.socket !== socket || (n !== null && reader.ask.n !== n)) continue;
    put(d, id, { ask: null, gapAt: d.s.now + delay(reader) });
  }
}
