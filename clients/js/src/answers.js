/**
 * What each server frame means (PROTOCOL.md §3.4). Part of the pure machine of `machine.js`.
 */
import { ANSWER, everyone, leave, readersOf, release, sync } from "./asks.js";
import { answered, backoff, noted, receive } from "./cursor.js";
import { cause, postpone, REFUSALS, refreshAt, refused, retreat } from "./links.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Link} Link
 * @typedef {import("./types.js").Failure} Failure
 */

/** @type {Record<import("./types.js").ServerFrame["type"], (s: State, link: Link, frame: any) => void>} */
export const FRAMES = {
  slice(s, link, slice) {
    const readers = readersOf(s, slice.stream);
    if (!readers.length) leave(s, link, slice.stream);
    if (slice.replay) {
      // While slices of an answer come, the answer is on its way.
      delay(
        link,
        s.now + ANSWER,
        ({ type, stream }) => type === "sync" || (type === "subscribe" && stream === slice.stream),
      );
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
    if (reason === "forbidden") trouble(s, link, { code: reason, message: "not granted" }, stream);
    // An unsubscribe of before the last subscribe took nothing away.
    if (n < (link.streams.get(stream) ?? 0)) return;
    for (const [, reader] of readersOf(s, stream)) Object.assign(reader, { ask: null, gapAt: s.now });
  },
  cancelled: settle,
  sent: settle,
  authorized(s, link, { n, expires_at }) {
    strike(link, n);
    s.refusals = 0;
    refreshAt(s, link, expires_at);
    sync(s, link);
  },
  error(s, link, { type: _, stream, n, ...error }) {
    const question = strike(link, n);
    const { code } = error;
    // Where the server counts what was left already: there will be room.
    error.retryable ||= code === "too_many" && !!question;
    // It is asked again when its time is over.
    if (error.retryable && question?.type === "unsubscribe") link.asked.set(n, question);
    if (question?.type === "auth") {
      // The old token may still be good: it is the server that closes.
      s.token = null;
      // What may be repeated says nothing of the new one.
      if (error.retryable || ++s.refusals < REFUSALS) {
        link.authAt = s.now;
        postpone(s, link);
      }
    } else if (code === "unauthorized") {
      retreat(s, link);
      refused(s, error);
    } else if (
      code === "unknown_connection" ||
      (error.retryable && link.phase === "syncing" && question?.type === "sync")
    ) {
      retreat(s, link);
    } else {
      // What else is refused says nothing of those who read; nor what was given up, and asked again.
      trouble(s, link, error, question?.type === "subscribe" && stream, n);
    }
  },
  gateway(s, link) {
    // It does not say which frame it is about: all are asked again, soon, not all at once.
    const soon = s.now + ANSWER * (0.1 + 0.2 * s.random);
    delay(link, soon, ({ due }) => due > soon);
  },
};

/**
 * A call is answered.
 * @param {State} s
 * @param {Link} link
 * @param {any} answer
 */
function settle(s, link, { type: _, n, ...answer }) {
  strike(link, n);
  for (const [id] of asking(s, link, n)) end(s, { type: "settle", id, answer });
}

/**
 * Takes a question off the list: it is answered.
 * @param {Link} link
 * @param {number} n
 */
export function strike(link, n) {
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
const asking = (s, link, n) =>
  everyone(s).filter(([, { ask }]) => ask?.n === n && ask?.socket === link.socket);

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
  leave(s, link, stream);
  for (const [id, reader] of readersOf(s, stream)) {
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
 * @param {string | false} [stream] without it, whoever asked
 * @param {number} [n] of the question
 */
function trouble(s, link, error, stream, n) {
  const concerned = asking(s, link, n);
  if (error.retryable) {
    for (const [, one] of concerned) {
      if (stream && /** @type {import("./cursor.js").Reader} */ (one).stream !== stream) continue;
      one.ask = null;
      one.gapAt = s.now + backoff(++one.tries, s.random);
    }
    return;
  }
  // The server subscribed nobody.
  if (stream) link.streams.delete(stream);
  for (const [id] of stream ? readersOf(s, stream) : concerned) end(s, { type: "fail", id, error });
}

/**
 * @param {State} s
 * @param {import("./state.js").Command & {id: string}} command the last about a reader or a call
 */
export function end(s, command) {
  s.out.push(command);
  forget(s, command.id);
}

/**
 * @param {State} s
 * @param {string} id
 */
export function forget(s, id) {
  const { stream } = s.readers[id] ?? {};
  delete s.readers[id];
  delete s.calls[id];
  for (const link of s.links) if (link.streams.has(stream)) leave(s, link, stream);
  if (!everyone(s).length) cause(s, "unwanted");
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
