/**
 * A turn of a chat: what of its run is kept for those who come later, how long it is waited for,
 * and what it ends with. Part of `ai.js`, which says whose turn it is.
 */
import { errorOf } from "./errors.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {{type: string, [key: string]: any}} Chunk a `UIMessageChunk`
 */

const BROKE_OFF = "The answer broke off.";
const NO_MESSAGE = "This answer is not made of the AI SDK's chunks.";
/** What the SDK would else take for done: behind a tool of the page it sends the next turn by itself. */
const BROKEN_OFF = ["cancelled", "superseded"];
const TICK = 1_000;
/** A run presumed dead may have been taken over: then the claim comes right behind. */
const GRACE = 2_000;

/**
 * What each delta continues, and its text: `DELTAS` of `tailrace.compaction` in JavaScript.
 * @type {Record<string, [of: string, text: string]>}
 */
const DELTAS = {
  "text-delta": ["id", "delta"],
  "reasoning-delta": ["id", "delta"],
  "tool-input-delta": ["toolCallId", "inputTextDelta"],
};

/**
 * Keeps a chunk for those who come later, merged with what it continues.
 * @param {Chunk[]} kept
 * @param {Chunk} chunk
 */
function keep(kept, chunk) {
  const last = kept.at(-1);
  const [of, text] = DELTAS[chunk.type] ?? [];
  const merges =
    last && of && last.type === chunk.type && last[of] === chunk[of] && [last, chunk].every(isPlain);
  if (merges) kept[kept.length - 1] = { ...last, [text]: last[text] + chunk[text] };
  else if (!chunk.transient) kept.push(chunk);
}

/** What the SDK takes as it does its own `stop`. */
export const aborted = () => new DOMException("The request was aborted.", "AbortError");

/** @param {Chunk} chunk */
const isPlain = (chunk) => Object.keys(chunk).length === 3;

/**
 * What a turn ends with that its job did not say: a turn that was cut short must not look whole.
 * @param {{reason: string, message?: string}} end
 * @param {Set<string>} said types of the chunks that came
 * @returns {Chunk | null}
 */
function conclusion({ reason, message }, said) {
  const over = ["finish", "abort", "error"].some((type) => said.has(type));
  if (reason === "completed") return over ? null : { type: "finish", finishReason: "other" };
  if (reason === "cancelled") return over ? null : { type: "abort", reason };
  if (reason === "superseded") return over ? null : { type: "finish", finishReason: "interrupted" };
  return said.has("error") ? null : { type: "error", errorText: message || BROKE_OFF };
}

/** One run on its way into any number of `ReadableStream`s. */
export class Turn {
  /** @type {Chunk[]} */
  #kept = [];
  /** @type {Set<string>} */
  #said = new Set();
  /** @type {Set<ReadableStreamDefaultController<Chunk>>} */
  #taps = new Set();
  /** @type {any} */
  #timer;
  /** @type {any} */
  #lost;
  #over = false;
  /** @type {unknown} */
  #cause = null;
  /** Whether something came since it was last looked at. */
  #came = false;
  /** @type {(active: boolean) => void} */
  #answer = () => {};

  /**
   * @param {Client} client
   * @param {string} stream
   * @param {string | null} run null: whatever is active
   * @param {{clock: import("./clock.js").Clock, patience: number, startWithin: number, done: () => void}} how
   */
  constructor(client, stream, run, how) {
    this.client = client;
    this.how = how;
    this.run = run;
    /** Whether there is a turn to be shown; settles with the server's first answer. */
    this.active = new Promise((found, failed) => {
      this.#answer = found;
      this.failed = failed;
    });
    this.active.catch(() => {});
    this.reader = client.stream(stream, {
      run,
      compact: "ui-message",
      onTail: (tail) => this.#answer(run !== null || tail.active),
    });
    this.#pump();
    this.#watch(0, 0);
  }

  /**
   * The turn from its first chunk on, until `signal`.
   * @param {AbortSignal} [signal]
   * @param {() => void} [onAbort]
   * @returns {ReadableStream<Chunk>}
   */
  tap(signal, onAbort) {
    /** @type {ReadableStreamDefaultController<Chunk>} */
    let tap;
    const leave = () => {
      signal?.removeEventListener("abort", look);
      if (this.#taps.delete(tap) && !this.#taps.size) this.close();
    };
    const look = () => {
      if (!this.#taps.has(tap)) return;
      tap.close();
      onAbort?.();
      leave();
    };
    return new ReadableStream({
      start: (controller) => {
        tap = controller;
        for (const chunk of this.#kept) tap.enqueue(chunk);
        if (this.#over) return this.#finish(tap);
        this.#taps.add(tap);
        if (signal?.aborted) look();
        else signal?.addEventListener("abort", look);
      },
      pull: async () => {
        // Chromium's pipes lose a chunk that is being read when the error comes.
        await null;
        if (this.#cause) this.#finish(tap);
      },
      cancel: leave,
    });
  }

  /**
   * An error would take away what is not read yet, so it waits for that.
   * @param {ReadableStreamDefaultController<Chunk>} tap
   */
  #finish(tap) {
    if (!this.#cause) tap.close();
    else if (/** @type {number} */ (tap.desiredSize) > 0) tap.error(this.#cause);
  }

  async #pump() {
    const { clock } = this.how;
    /** @type {{reason: string} | null} */
    let lost = null;
    try {
      for await (const event of this.reader.events()) {
        this.run = event.run;
        this.#came = true;
        clock.clearTimeout(this.#lost);
        if (event.type === "chunk") {
          const chunk = /** @type {Chunk | null} */ (event.chunk);
          // The SDK would fail of it, and say what nobody understands.
          if (typeof chunk?.type !== "string") return this.#end({ reason: "error", message: NO_MESSAGE });
          this.#give(chunk);
        }
        if (event.type !== "end") {
          lost = null;
          continue;
        }
        // Another run has begun behind one that was lost: the job failed, nobody replaced it.
        if (event.reason !== "producer_lost") return this.#end(lost ?? event);
        lost = event;
        this.#lost = clock.setTimeout(() => this.#end(event), GRACE);
      }
      if (!this.#over) this.close();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @param {Chunk} chunk */
  #give(chunk) {
    this.#said.add(chunk.type);
    keep(this.#kept, chunk);
    for (const tap of this.#taps) tap.enqueue(chunk);
  }

  /** @param {{reason: string, message?: string}} end */
  #end(end) {
    const last = conclusion(end, this.#said);
    if (last) this.#give(last);
    this.close(BROKEN_OFF.includes(end.reason) ? aborted() : null);
  }

  /** @param {unknown} error */
  #fail(error) {
    this.failed?.(error);
    this.close(error);
  }

  /**
   * Counts what it waits in vain, only while time passes here: a laptop that sleeps loses none.
   * @param {number} offline
   * @param {number} unopened
   */
  #watch(offline, unopened) {
    const { clock, patience, startWithin } = this.how;
    const message =
      offline >= patience
        ? "The network has been away for too long."
        : unopened >= startWithin && "The answer was not begun in time.";
    if (message) return this.#fail(errorOf({ code: "unavailable", message, retryable: true }));
    this.#timer = clock.setTimeout(() => {
      // A browser may say that it is offline while a connection lives.
      const connected = this.#came || ["live", "replaying"].includes(this.client.status);
      this.#came = false;
      const waits = connected && !this.reader.cursor?.run;
      this.#watch(connected ? 0 : offline + TICK, waits ? unopened + TICK : 0);
    }, TICK);
  }

  /**
   * Nothing more comes. What the taps have they keep.
   * @param {unknown} [cause] what they end by, if not well
   */
  close(cause = null) {
    if (this.#over) return;
    this.#over = true;
    this.#cause = cause;
    this.how.clock.clearTimeout(this.#timer);
    this.how.clock.clearTimeout(this.#lost);
    for (const tap of this.#taps) this.#finish(tap);
    this.#taps.clear();
    this.reader.close();
    this.#answer(false);
    this.how.done();
  }
}
