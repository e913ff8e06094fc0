/**
 * One reader's place in the log: which slices it takes, holds and drops, when it must ask,
 * and which ends it concludes (PROTOCOL.md §3.5, rules 1 to 7).
 *
 * Pure: it changes the reader that it is given, a draft that `machine.js` made for this step,
 * and answers what the application is told. It knows no connection; `ask.socket` and `ask.n`
 * are kept here only to match an answer to its question.
 */

/**
 * @typedef {import("./types.js").Cursor} Cursor
 * @typedef {import("./types.js").Slice} Slice
 * @typedef {import("./types.js").Tail} Tail
 * @typedef {Slice & {via: import("./types.js").Via}} Came
 *
 * @typedef {object} Reader
 * @property {string} stream
 * @property {boolean} follow goes on through later runs
 * @property {import("./types.js").Compact} [compact] how it wants its replay
 * @property {string | null} wanted the run asked for by name, until it begins
 * @property {Cursor | null} cursor null until something places it; replaced, never changed
 * @property {string | null} shown the run begun that may go on
 * @property {readonly Came[]} held slices that lie ahead, by seq; replaced, never changed
 * @property {number} tail last seq known to exist
 * @property {number} gapAt when to ask, or Infinity
 * @property {number} again when to ask although nothing seems to be missing, because somebody
 *   may not push to this reader yet; or Infinity
 * @property {{socket: number, n: number, cursor: Cursor | null} | null} ask in flight
 * @property {number} tries asks in a row that brought nothing
 * @property {boolean} catching until an answer has told all: what comes is no repair
 * @property {boolean} paused its queue is full: what comes is let go, and asked for later
 * @property {boolean} done nothing more will come
 *
 * @typedef {{type: "deliver", slice: Came} | {type: "end", run: string, reason: string}
 *   | {type: "tail", tail: Tail}} Output
 */

/** Milliseconds. */
export const GAP = 300;
const BACKOFF = 500;
const LONGEST = 30_000;

/** Slices of at most 32 KB each: what lies further ahead is asked for when its turn comes. */
const HELD = 256;

/**
 * The delay before attempt number `attempt`, with full jitter.
 * @param {number} attempt
 * @param {number} random in [0, 1)
 */
export const backoff = (attempt, random) => random * doubled(BACKOFF, attempt);

/**
 * A time that was doubled so often, at most 30 s: by then API Gateway has given up too.
 * @param {number} ms
 * @param {number} times
 */
export const doubled = (ms, times) => Math.min(LONGEST, ms * 2 ** times);

/**
 * What becomes of a slice: by whose run it is of, seen from the cursor, and by where it
 * lies. `opens`: at exactly cursor + 1, with its run's `open`; `next`: there, without.
 * `across`: begins at or before the cursor and ends behind it.
 *
 * A later run may only follow with its `open`. Where it does not lie beyond the cursor, the
 * log was begun anew: only an answer can say where it goes on. `start`: the server has placed
 * the cursor before an `open`; what is found there instead is of another log, so the place
 * is lost. `any`: a cursor without a run, from the application.
 */
export const RULES = {
  start: { behind: "drop", across: "anew", opens: "take", next: "anew", ahead: "hold" },
  any: { behind: "drop", across: "take", opens: "take", next: "take", ahead: "hold" },
  same: { behind: "drop", across: "take", opens: "take", next: "take", ahead: "hold" },
  later: { behind: "hold", across: "hold", opens: "take", next: "hold", ahead: "hold" },
  earlier: { behind: "drop", across: "drop", opens: "drop", next: "drop", ahead: "drop" },
};

/**
 * @param {{stream: string, after?: Cursor | null, run?: string | null, follow?: boolean,
 *   compact?: import("./types.js").Compact}} options
 * @param {number} now
 * @returns {Reader}
 */
export const watch = ({ stream, after = null, run = null, follow = false, compact }, now) => ({
  stream,
  follow,
  compact,
  wanted: after ? null : run,
  cursor: after,
  shown: after && (!after.ended || (after.lost && !follow)) ? after.run : null,
  held: [],
  tail: 0,
  gapAt: now,
  again: Infinity,
  ask: null,
  tries: 0,
  catching: true,
  paused: false,
  done: false,
});

/**
 * @param {Reader} reader
 * @returns {import("./types.js").Position}
 */
export function position({ cursor, wanted }) {
  if (cursor) return [cursor.run, cursor.seq];
  return wanted === null ? null : [wanted];
}

/**
 * @param {Reader} reader
 * @param {string} run
 * @returns {keyof typeof RULES}
 */
function kin({ cursor, wanted }, run) {
  const known = cursor ? cursor.run : wanted;
  if (run === known) return "same";
  const from = known ?? cursor?.start;
  if (from === undefined || from === null) return "any";
  if (run < from) return "earlier";
  return known === null ? "start" : "later";
}

/**
 * Without a cursor only the `open` that is waited for has a place; all else is ahead.
 * @param {Reader} reader
 * @param {Slice} slice
 * @returns {keyof typeof RULES.any}
 */
function place({ cursor, wanted }, { run, seq, next, open, counts }) {
  const begins = open && (wanted ?? run) === run ? seq : 0;
  const due = cursor ? cursor.seq + 1 : begins;
  if (next <= due) return "behind";
  if (seq > due) return "ahead";
  // A chunk that stands for several cannot be taken in part: what is lacking is asked for anew.
  if (seq < due) return counts ? "behind" : "across";
  return open ? "opens" : "next";
}

/**
 * @param {Reader} reader
 * @param {Slice} slice
 */
const fate = (reader, slice) => RULES[kin(reader, slice.run)][place(reader, slice)];

/**
 * The part of a slice that begins at `from`.
 * @param {Came} slice
 * @param {number} from
 * @returns {Came}
 */
function trim({ open, claim, chunks = [], ...rest }, from) {
  return { ...rest, seq: from, chunks: chunks.slice(from - rest.seq - (open || claim ? 1 : 0)) };
}

/**
 * @param {Reader} reader
 * @param {Came} slice that continues the cursor
 * @param {Output[]} out
 */
function take(reader, slice, out) {
  const { cursor, wanted, shown } = reader;
  const { run, end } = slice;
  if (run !== shown) {
    // Another run begins here, so the one that was shown or waited for is over.
    if (shown !== null) conclude(reader, shown, "superseded", out);
    else if (wanted !== null && run !== wanted) conclude(reader, wanted, "expired", out);
    if (reader.done) return;
  }
  const due = cursor ? cursor.seq + 1 : 0;
  out.push({ type: "deliver", slice: slice.seq < due ? trim(slice, due) : slice });
  reader.wanted = null;
  reader.shown = run;
  reader.cursor = { run, seq: slice.next - 1, ...(end && { ended: true }) };
  // A run presumed dead may still be claimed: who reads no other waits for that.
  if (end && (reader.follow || end.reason !== "producer_lost")) {
    reader.shown = null;
    reader.done = !reader.follow;
  }
}

/**
 * @param {Reader} reader
 * @param {string} run
 * @param {string} reason
 * @param {Output[]} out
 */
function conclude(reader, run, reason, out) {
  out.push({ type: "end", run, reason });
  reader.shown = reader.wanted = null;
  reader.done = !reader.follow;
}

/**
 * Takes from the held slices what has its place now.
 * @param {Reader} reader
 * @param {Output[]} out
 */
function release(reader, out) {
  for (let index = 0; index < reader.held.length && !reader.done;) {
    const slice = reader.held[index++];
    const what = fate(reader, slice);
    if (what === "take") take(reader, slice, out);
    if (what !== "take" && what !== "drop") continue;
    reader.held = reader.held.filter((other) => other !== slice);
    index = 0;
  }
}

/** @param {Reader} reader */
const behind = ({ cursor, held, tail }) => held.length > 0 || (cursor !== null && tail > cursor.seq);

/**
 * A slice came, live or replayed.
 * @param {Reader} reader
 * @param {Slice} slice
 * @param {number} now
 * @returns {Output[]}
 */
export function receive(reader, slice, now) {
  /** @type {Output[]} */
  const out = [];
  const mine = !slice.compact || slice.compact === reader.compact;
  const what = reader.paused || !mine ? "drop" : fate(reader, slice);
  if (what === "drop") return out;
  const came = { ...slice, via: via(reader, slice) };
  if (what === "take") {
    take(reader, came, out);
    release(reader, out);
    reader.tries = 0;
    reader.gapAt = reader.again;
  } else {
    if (what === "anew") reader.cursor = null;
    const { run, seq, next } = came;
    // A repeat must not take the place of another.
    if (!reader.held.some((held) => held.run === run && held.seq === seq && held.next >= next))
      reader.held = [...reader.held, came].sort((a, b) => a.seq - b.seq).slice(0, HELD);
  }
  if (behind(reader)) reader.gapAt = Math.min(reader.gapAt, now + GAP);
  return out;
}

/**
 * @param {Reader} reader
 * @param {Slice} slice
 * @returns {import("./types.js").Via}
 */
function via({ catching }, { replay }) {
  if (!replay) return "live";
  return catching ? "replay" : "repair";
}

/**
 * The answer to this reader's ask. Its slices came before it, if they came at all.
 * @param {Reader} reader
 * @param {Tail} answer
 * @param {number} now
 * @param {number} random
 * @returns {Output[]}
 */
export function answered(reader, answer, now, random) {
  /** @type {Output[]} */
  const out = [];
  const asked = reader.ask?.cursor ?? null;
  reader.ask = null;
  if (answer.again) reader.again = now + answer.again;
  reader.gapAt = reader.again;
  reader.tail = answer.tail;
  // A cursor that has moved since was continued by the log: `from` is old news.
  if (reader.cursor === asked && !reader.paused) {
    // What has expired is followed by an `open` at most: nothing shown goes on.
    const over = answer.run === null && reader.shown;
    if (asked ? over || asked.seq !== answer.from : !awaited(reader, answer)) relocate(reader, answer, out);
    else if (asked) confirm(reader, asked, answer);
  }
  const moved = reader.cursor !== asked;
  reader.tries = moved ? 0 : reader.tries + 1;
  reader.catching &&= answer.more;
  if (behind(reader) || (moved && !reader.cursor)) {
    // An answer that brings nothing must not be asked for again at the speed of the network.
    reader.gapAt = now + (moved ? 0 : backoff(reader.tries, random)) + (answer.more ? 0 : GAP);
  }
  out.push({ type: "tail", tail: answer });
  return out;
}

/**
 * The log goes on elsewhere than at the cursor, or tells where it begins.
 * @param {Reader} reader
 * @param {Tail} answer
 * @param {Output[]} out
 */
function relocate(reader, { run, from, tail }, out) {
  // What was shown cannot be continued, not even where its run is served again.
  if (reader.shown) conclude(reader, reader.shown, "expired", out);
  const waits = run !== null && from === tail;
  // Where no run is left, only a later one than was seen can begin; `!` sorts below any id.
  const start = reader.wanted ?? run ?? `${reader.cursor?.run ?? ""}!`;
  reader.cursor = waits ? { run, seq: from, ended: true } : { run: null, seq: from, start };
  release(reader, out);
}

/**
 * The log goes on from the cursor.
 * @param {Reader} reader
 * @param {Cursor} asked
 * @param {Tail} answer
 */
function confirm(reader, asked, { run, tail, active }) {
  // A held slice that disputes this place is of no log.
  reader.held = reader.held.filter((slice) => slice.seq > asked.seq + 1);
  if (run === null) return;
  if (asked.start !== undefined) {
    // Where an open should follow, a run lies behind, or none that could open here goes on:
    // of a log begun anew.
    if (tail === asked.seq || run < asked.start) reader.cursor = null;
  } else if (tail === asked.seq && reader.shown && run === asked.run && !active && !asked.ended) {
    // The run ended at a cursor that was kept without its `ended`.
    reader.shown = null;
    reader.cursor = { ...asked, ended: true };
  }
}

/**
 * Whether the run that is waited for has not opened yet, as far as the answer knows.
 * @param {Reader} reader
 * @param {Tail} answer
 */
const awaited = ({ wanted }, { run }) => wanted !== null && (run === null || run < wanted);

/**
 * The answer to somebody else's question: where it does not agree with the cursor, this
 * reader asks for itself.
 * @param {Reader} reader
 * @param {Tail} answer
 * @param {number} now
 */
export function noted(reader, answer, now) {
  const { cursor } = reader;
  const { run, tail } = answer;
  // An answer may be older than the cursor; a log begun anew has a later run.
  const agrees = cursor
    ? tail <= cursor.seq && (run === null || (cursor.run !== null && run <= cursor.run))
    : awaited(reader, answer);
  if (!agrees) reader.gapAt = Math.min(reader.gapAt, now + GAP);
}
