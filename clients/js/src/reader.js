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
 * @typedef {import("./cursor.js").Came} Came
 *
 * @typedef {object} Port
 * @property {(event: any, sink: (command: any) => void) => string} open gives the machine a
 *   reader or a call; `sink` gets the commands about it. Answers its id.
 * @property {(event: any) => void} tell
 * @property {(frame: any, signal?: AbortSignal) => Promise<any>} call sends a frame until it is answered
 * @property {() => number} time AWS time, as far as it is known
 * @property {import("./smooth.js").Pacer} pacer
 *
 * @typedef {object} StreamOptions
 * @property {Cursor | null | undefined} [after] where to go on: a reader's `cursor`, perhaps kept over a reload
 * @property {string | null | undefined} [run] the run to read, also one that has not opened yet; without
 *   it, the stream's current run from its start. Of no effect beside `after`.
 * @property {boolean | undefined} [follow] go on through later runs; runs that fail are then no errors
 * @property {boolean | number | undefined} [smooth] hand bursts out at an even pace: `true`, or so many
 *   characters a second; never more than half a second late
 * @property {((tail: {run: string | null, active: boolean}) => void) | undefined} [onTail] called with what the
 *   server answers of the stream: its current run, and whether that goes on
 * @property {import("./types.js").Compact | undefined} [compact] merges what is replayed: `"ui-message"` for
 *   chunks of the AI SDK, `"text"` for texts. Chunks that are live come as they were written.
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
 *
 * @typedef {ReaderMembers & {[Symbol.asyncIterator](): AsyncIterableIterator<Json>}} Reader
 *   One reader of one stream. To read it is to watch; to leave the loop is to stop watching,
 *   and to read again is to go on. One thing reads it at a time. Iterated itself it gives the
 *   chunks of the run: it ends where the run is `completed`, and throws any other end as a
 *   `TailraceError` with the reason as its `code`. With `follow`, the chunks of all runs,
 *   without end.
 *
 * @typedef {object} ReaderMembers
 * @property {string} name of the stream
 * @property {Cursor | null} cursor what to hand back as `after`: plain JSON, null until
 *   something was read
 * @property {{run: string, reason: string, message?: string} | null} end how the last run that
 *   was read ended; null while one goes on
 * @property {() => AsyncIterableIterator<StreamEvent>} events everything that happens, failed
 *   runs included; throws only what ends the reading
 * @property {() => ReadableStream<Json>} readable the chunks, read no faster than their consumer
 * @property {(text?: (chunk: Json) => string) => Promise<string>} text the whole text of the
 *   run, when it is complete; `text` of a chunk is by default what `textOf` says
 * @property {() => Promise<{reason: string | null}>} cancel stops the answer for everyone who
 *   watches, and the job that writes it. While it is read it waits for the run, if none is
 *   known yet. Answers how the run ended: `cancelled`, or whatever came first.
 * @property {() => void} close stops watching. The answer goes on, and can be read on.
 */

/** Characters queued: above the first the server is asked for no more, below the second it is again. */
const FULL = 1_000_000;
const LOW = 250_000;

/** A run presumed dead may still go on. */
const LOST = "producer_lost";

/**
 * An iterator that may be iterated, from its `next` and what is to be done on leaving it.
 * @template T
 * @param {() => Promise<IteratorResult<T>>} next
 * @param {() => void} close
 * @returns {AsyncIterableIterator<T>}
 */
function iterator(next, close) {
  /** @type {AsyncIterableIterator<T>} */
  const self = {
    next,
    async return() {
      close();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => self,
  };
  return self;
}

/**
 * @param {Port} port
 * @param {string} name
 * @param {StreamOptions} options
 * @returns {Reader}
 */
export function createReader(port, name, options) {
  const { after = null, run: wanted = null, follow, smooth, compact, onTail } = options;
  let cursor = after;
  /** @type {Reader["end"]} */
  let end = null;
  /** The latest run received, shown or not. */
  let latest = after ? after.run : wanted;
  /** @type {ReturnType<typeof tap> | null} */
  let reading = null;
  /** What `text` has of a run, which may be lost and go on. */
  let said = "";

  /** One reading: from the machine's deliveries to single events. */
  function tap() {
    /** @type {{events: Iterator<StreamEvent>, size: number}[]} */
    const queue = [];
    let size = 0;
    let paused = false;
    let over = false;
    let closed = false;
    /** @type {import("./types.js").Failure | null} */
    let failure = null;
    /** @type {(() => void)[]} */
    const waiting = [];

    const wake = () => {
      for (const resolve of waiting.splice(0)) resolve();
    };
    /** @param {boolean} full */
    const pause = (full) => {
      paused = full;
      port.tell({ type: full ? "pause" : "resume", id });
    };

    const id = port.open(
      { type: "watch", stream: name, after: cursor, run: wanted, follow, compact },
      ({ type, slice, run, reason, error, tail }) => {
        if (type === "tail") return onTail?.(tail);
        const received = port.time();
        if (type === "fail") {
          failure = error;
        } else if (type === "end") {
          const concluded = { type, run, reason, seq: null, at: null, via: null, received, shown: 0 };
          queue.push({ events: [concluded].values(), size: 0 });
        } else {
          queue.push({ events: expand(slice, received), size: slice.size });
          size += slice.size;
          latest = slice.run;
          reason = slice.end?.reason;
        }
        over = failure !== null || (reason && reason !== LOST && !follow);
        if (!paused && size > FULL) pause(true);
        wake();
      },
    );

    const self = {
      /** @returns {StreamEvent | null} the next event, if it is here */
      pull() {
        while (queue.length) {
          const { done, value } = queue[0].events.next();
          if (!done) return value;
          size -= /** @type {{size: number}} */ (queue.shift()).size;
          if (paused && size < LOW) pause(false);
        }
        return null;
      },
      /** Whether nothing more will come. */
      over: () => closed || over,
      /** Settles when there may be more to pull. */
      arrival: () => new Promise((resolve) => waiting.push(() => resolve(undefined))),
      /** @returns {Promise<IteratorResult<StreamEvent>>} */
      async next() {
        for (;;) {
          const value = self.pull();
          if (value) return { done: false, value };
          if (self.over()) {
            const left = closed;
            self.close();
            if (failure && !left) throw errorOf(failure);
            return { done: true, value: undefined };
          }
          await self.arrival();
        }
      },
      close() {
        if (closed) return;
        closed = true;
        reading = null;
        queue.length = 0;
        port.tell({ type: "unwatch", id });
        wake();
      },
    };
    return self;
  }

  /** @param {StreamEvent} event */
  function show(event) {
    const { type, run, seq } = event;
    event.shown = port.time();
    if (type === "open" && !follow) said = "";
    end = type === "end" ? { run, reason: event.reason, message: event.message } : null;
    if (seq !== null || cursor) {
      cursor = { run, seq: seq ?? cursor?.seq ?? 0, ...(end && { ended: true }) };
      if (end?.reason === LOST) cursor.lost = true;
    }
  }

  function events() {
    if (reading) throw new TailraceError("invalid", "this reader is being read already");
    const source = (reading = tap());
    const paced = smooth ? smoothed(source, port.pacer, smooth === true ? 0 : smooth, textOf) : source;
    return iterator(async () => {
      const result = await paced.next();
      // What was not shown when the reader was closed is for the next reading.
      if (result.done || reading !== source) return { done: true, value: undefined };
      show(result.value);
      return result;
    }, source.close);
  }

  /** @returns {AsyncIterableIterator<Json>} */
  function chunks() {
    const all = events();
    // Its own reading, not one that was begun since.
    const leave = () => void all.return?.();
    /** @returns {Promise<IteratorResult<Json>>} */
    const next = async () => {
      for (;;) {
        const { done, value } = await all.next();
        if (done) return { done, value: undefined };
        if (value.type === "chunk") return { done, value: value.chunk };
        if (value.type !== "end" || follow) continue;
        leave();
        if (value.reason !== "completed")
          throw new TailraceError(value.reason, value.message, value.reason === LOST);
      }
    };
    return iterator(next, leave);
  }

  const close = () => reading?.close();

  return {
    name,
    get cursor() {
      return cursor;
    },
    get end() {
      return end;
    },
    events,
    [Symbol.asyncIterator]: chunks,
    readable() {
      const all = chunks();
      return new ReadableStream(
        {
          async pull(controller) {
            const { done, value } = await all.next();
            if (done) controller.close();
            else controller.enqueue(/** @type {Json} */ (value));
          },
          cancel: () => void all.return?.(),
        },
        { highWaterMark: 0 },
      );
    },
    async text(text = textOf) {
      for await (const chunk of chunks()) said += text(/** @type {Json} */ (chunk));
      return said;
    },
    async cancel() {
      while (!latest && reading) await reading.arrival();
      if (!latest) throw new TailraceError("invalid", "no run is known");
      const { reason = null } = await port.call({ type: "cancel", stream: name, run: latest });
      return { reason };
    },
    close,
  };
}

/**
 * @param {Came} slice
 * @param {number} received
 * @returns {Iterator<StreamEvent>}
 */
function* expand({ run, seq, next, at, via, open, claim, chunks = [], counts = [], end }, received) {
  const tell = (/** @type {any} */ event) => {
    event.run = run;
    event.seq = seq++;
    event.at = at;
    event.via = via;
    event.received = received;
    event.shown = 0;
    return event;
  };
  if (open) yield tell({ type: "open", ...open });
  if (claim) yield tell({ type: "claim", ...claim });
  for (const [i, chunk] of chunks.entries()) {
    // The seq of what stands for several is the last of them.
    seq += (counts[i] ?? 1) - 1;
    yield tell({ type: "chunk", chunk });
  }
  seq = next - 1;
  if (end) yield tell({ type: "end", ...end });
}
