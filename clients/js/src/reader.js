/**
 * What an application reads: chunks, events, a `ReadableStream` or the text of a stream.
 *
 * It queues what the machine delivers and knows what was handed out, which is the cursor that
 * a page keeps. It knows no connection: `port` is all that it has of the client.
 */
import { errorOf, TailraceError } from "./errors.js";
import { smoothed } from "./smooth.js";
import { textOf } from "./text.js";

/**
 * @typedef {import("./types.js").Cursor} Cursor
 * @typedef {import("./types.js").Json} Json
 * @typedef {import("./types.js").Failure} Failure
 * @typedef {import("./cursor.js").Came} Came
 *
 * @typedef {{deliver: (slice: Came) => void, end: (run: string, reason: string) => void, fail: (error: Failure) => void}} Sink
 *
 * @typedef {object} Port
 * @property {(options: object, sink: Sink) => string} watch answers the id of the reader
 * @property {(type: "unwatch" | "pause" | "resume", id: string) => void} tell
 * @property {(stream: string, run: string) => Promise<{reason: string | null}>} cancel
 * @property {() => number} time AWS time, as far as it is known
 * @property {import("./smooth.js").Pacer} pacer
 *
 * @typedef {object} StreamOptions
 * @property {Cursor | null} [after] where to go on: a reader's `cursor`, perhaps kept over a reload
 * @property {string | null} [run] the run to read, also one that has not opened yet; without
 *   it, the stream's current run from its start. Of no effect beside `after`.
 * @property {boolean} [follow] go on through later runs; runs that fail are then no errors
 * @property {boolean | number} [smooth] hand bursts out at an even pace: `true`, or so many
 *   characters a second; never more than half a second late
 *
 * @typedef {object} Told
 * @property {string} run
 * @property {number | null} seq null for an end that was concluded, not read
 * @property {number | null} at when it was appended, AWS time in ms
 * @property {import("./types.js").Via | null} via
 * @property {number} received AWS time in ms, as this client estimates it
 * @property {number} shown when it was handed to the application, likewise
 *
 * @typedef {{type: "open", meta?: Record<string, Json>, prev?: string | null} & Told} OpenEvent
 * @typedef {{type: "claim", epoch: number} & Told} ClaimEvent
 * @typedef {{type: "chunk", chunk: Json} & Told} ChunkEvent
 * @typedef {{type: "end", reason: string, message?: string} & Told} EndEvent
 * @typedef {OpenEvent | ClaimEvent | ChunkEvent | EndEvent} StreamEvent
 */

/** Characters queued: above the first the server is asked for no more, below the second it is again. */
const FULL = 1_000_000;
const LOW = 250_000;

/** Ends after which only a later run can follow. */
const isFinal = (/** @type {string} */ reason) => reason !== "producer_lost";

/**
 * One reader of one stream. To read it is to watch; to leave the loop is to stop watching,
 * and to read again is to go on. One thing reads it at a time.
 */
export class Reader {
  /** @type {Port} */ #port;
  /** @type {StreamOptions} */ #options;
  /** @type {Cursor | null} */ #cursor;
  /** @type {string | null} The latest run received, shown or not. */ #latest = null;
  /** @type {(() => void)[]} */ #awaitingRun = [];
  /** @type {Tap | null} */ #tap = null;
  /** @type {{run: string, reason: string, message?: string} | null} */ #end = null;

  /**
   * @param {Port} port
   * @param {string} name
   * @param {StreamOptions} options
   */
  constructor(port, name, options) {
    this.#port = port;
    this.#options = options;
    this.#cursor = options.after ?? null;
    /** The name of the stream. */
    this.name = name;
  }

  /** What to hand back as `after`: plain JSON, null until something was read. */
  get cursor() {
    return this.#cursor;
  }

  /** How the last run that was read ended; null while one goes on. */
  get end() {
    return this.#end;
  }

  /**
   * Everything that happens, failed runs included; throws only what ends the reading.
   * @returns {AsyncIterableIterator<StreamEvent>}
   */
  events() {
    if (this.#tap) throw new TailraceError("invalid", "this reader is being read already");
    const tap = new Tap(this.#port, {
      ...this.#options,
      stream: this.name,
      after: this.#cursor,
      onrun: (run) => this.#received(run),
      onclose: () => this.#close(),
    });
    this.#tap = tap;
    const { smooth } = this.#options;
    const events = smooth ? smoothed(tap, this.#port.pacer, smooth === true ? 0 : smooth, textOf) : tap;
    /** @type {AsyncIterableIterator<StreamEvent>} */
    const outlet = {
      next: async () => {
        const result = await events.next();
        if (!result.done) this.#show(result.value);
        return result;
      },
      return: async () => {
        tap.close();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => outlet,
    };
    return outlet;
  }

  /**
   * The chunks of the run. Ends where the run is `completed`; any other end is thrown as a
   * `TailraceError` with the reason as its `code`. With `follow`, of all runs, and without end.
   * @returns {AsyncIterableIterator<Json>}
   */
  [Symbol.asyncIterator]() {
    const events = this.events();
    /** @type {AsyncIterableIterator<Json>} */
    const chunks = {
      next: async () => {
        for (;;) {
          const { done, value } = await events.next();
          if (done) return { done, value: undefined };
          if (value.type === "chunk") return { done, value: value.chunk };
          if (value.type !== "end" || this.#options.follow) continue;
          this.close();
          if (value.reason === "completed") continue;
          throw new TailraceError(value.reason, value.message, !isFinal(value.reason));
        }
      },
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => chunks,
    };
    return chunks;
  }

  /**
   * The chunks as a `ReadableStream` that is read no faster than its consumer.
   * @returns {ReadableStream<Json>}
   */
  readable() {
    const chunks = this[Symbol.asyncIterator]();
    return new ReadableStream(
      {
        async pull(controller) {
          const { done, value } = await chunks.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: () => this.close(),
      },
      { highWaterMark: 0 },
    );
  }

  /**
   * The whole text of the run, when it is complete.
   * @param {(chunk: Json) => string} [text] of a chunk
   * @returns {Promise<string>}
   */
  async text(text = textOf) {
    let whole = "";
    for await (const chunk of this) whole += text(chunk);
    return whole;
  }

  /**
   * Stops the answer for everyone who watches, and the job that writes it. Waits for the run,
   * if none is known yet. Answers how the run ended: `cancelled`, or whatever came first.
   * @returns {Promise<{reason: string | null}>}
   */
  async cancel() {
    if (!this.#latest && !this.#options.run && !this.#cursor?.run) {
      await new Promise((resolve) => this.#awaitingRun.push(() => resolve(undefined)));
    }
    const run = this.#latest ?? (this.#cursor?.run || this.#options.run);
    if (!run) throw new TailraceError("invalid", "no run to cancel");
    return this.#port.cancel(this.name, run);
  }

  /** Stops watching. The answer goes on, and can be read on. */
  close() {
    this.#tap?.close();
  }

  #close() {
    this.#tap = null;
    for (const resolve of this.#awaitingRun.splice(0)) resolve();
  }

  /** @param {string} run */
  #received(run) {
    this.#latest = run;
    for (const resolve of this.#awaitingRun.splice(0)) resolve();
  }

  /** @param {StreamEvent} event */
  #show(event) {
    event.shown = this.#port.time();
    const { run, seq } = event;
    const ended = event.type === "end";
    this.#end = event.type === "end" ? { run, reason: event.reason, message: event.message } : null;
    if (seq !== null) this.#cursor = ended ? { run, seq, ended } : { run, seq };
    else if (this.#cursor) this.#cursor = { ...this.#cursor, ended };
  }
}

/**
 * One reading: from the machine's deliveries to single events.
 * @implements {AsyncIterator<StreamEvent>}
 */
class Tap {
  /** @type {Port} */ #port;
  /** @type {string} */ #id;
  /** @type {() => void} */ #onclose;
  /** @type {{events: Iterator<StreamEvent>, size: number}[]} */ #queue = [];
  #head = 0;
  #size = 0;
  #paused = false;
  #over = false;
  #closed = false;
  /** @type {Error | null} */ #error = null;
  /** @type {(() => void)[]} */ #waiting = [];

  /**
   * @param {Port} port
   * @param {StreamOptions & {stream: string, onrun: (run: string) => void, onclose: () => void}} options
   */
  constructor(port, { stream, after, run, follow, onrun, onclose }) {
    this.#port = port;
    this.#onclose = onclose;
    this.#id = port.watch({ stream, after, run, follow }, {
      deliver: (slice) => {
        onrun(slice.run);
        this.#push(expand(slice, port.time()), slice.size ?? 0, !!slice.end && isFinal(slice.end.reason) && !follow);
      },
      end: (run, reason) => {
        const received = port.time();
        const event = { type: /** @type {const} */ ("end"), run, reason, seq: null, at: null, via: null, received, shown: 0 };
        this.#push([event].values(), 0, !follow);
      },
      fail: (error) => {
        this.#error = errorOf(error);
        this.#over = true;
        this.#wake();
      },
    });
  }

  /**
   * @param {Iterator<StreamEvent>} events
   * @param {number} size
   * @param {boolean} over nothing can follow
   */
  #push(events, size, over) {
    this.#queue.push({ events, size });
    this.#size += size;
    this.#over ||= over;
    if (!this.#paused && this.#size > FULL) this.#pause(true);
    this.#wake();
  }

  /** @param {boolean} paused */
  #pause(paused) {
    this.#paused = paused;
    this.#port.tell(paused ? "pause" : "resume", this.#id);
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /**
   * The next event, if it is here.
   * @returns {StreamEvent | null}
   */
  pull() {
    while (!this.#closed && this.#head < this.#queue.length) {
      const { done, value } = this.#queue[this.#head].events.next();
      if (!done) return value;
      this.#size -= this.#queue[this.#head].size;
      if (++this.#head > 1_000 || this.#head === this.#queue.length) {
        this.#queue.splice(0, this.#head);
        this.#head = 0;
      }
      if (this.#paused && this.#size < LOW) this.#pause(false);
    }
    return null;
  }

  /** Whether nothing more will come. */
  get over() {
    return this.#closed || this.#over;
  }

  /** Settles when there may be more to pull. */
  arrival() {
    return new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
  }

  /** @returns {Promise<IteratorResult<StreamEvent>>} */
  async next() {
    for (;;) {
      const value = this.pull();
      if (value) return { done: false, value };
      if (this.over) {
        const error = this.#closed ? null : this.#error;
        this.close();
        if (error) throw error;
        return { done: true, value: undefined };
      }
      await this.arrival();
    }
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.#port.tell("unwatch", this.#id);
    this.#onclose();
    this.#wake();
  }
}

/**
 * @param {Came} slice
 * @param {number} received
 * @returns {Iterator<StreamEvent>}
 */
function* expand({ run, seq, at, via, open, claim, chunks, end }, received) {
  const shown = 0;
  if (open) yield { type: "open", ...open, run, seq: seq++, at, via, received, shown };
  if (claim) yield { type: "claim", ...claim, run, seq: seq++, at, via, received, shown };
  if (chunks) for (const chunk of chunks) yield { type: "chunk", chunk, run, seq: seq++, at, via, received, shown };
  if (end) yield { type: "end", ...end, run, seq, at, via, received, shown };
}
