/**
 * The wire: frames to text and back (PROTOCOL.md §3). Knows the shape of every frame and
 * the size limit; knows nothing of order, time or sockets.
 */
import { TailraceError } from "./errors.js";

/** @typedef {import("./types.js").ServerFrame} ServerFrame */

export const SUBPROTOCOL = "tailrace.v1";

/** Bytes of UTF-8. API Gateway closes the connection (1009) on a longer frame. */
export const MAX_FRAME = 32_000;

/** Streams of one connection. */
export const MAX_STREAMS = 50;

/**
 * What must be a number in each frame. A type that is not here is unknown.
 * @type {Record<string, string[]>}
 */
const NUMBERS = {
  // @ts-ignore: no type is inherited from Object
  __proto__: null,
  slice: ["seq", "next", "at"],
  subscribed: ["n", "tail", "from"],
  synced: ["n", "time"],
  unsubscribed: [],
  cancelled: ["n"],
  sent: ["n"],
  authorized: ["n", "expires_at"],
  error: [],
  gateway: [],
};

/**
 * @param {any} frame
 * @param {string[]} keys
 */
const numbers = (frame, keys) => keys.every((key) => typeof frame[key] === "number");

/**
 * Whether a slice covers exactly the seqs that it says: one that does not would put chunks
 * under wrong seqs, so it counts as lost and is asked for again.
 * @param {any} slice
 */
const dense = ({ stream, run, seq, next, open, claim, chunks = [], counts, end }) => {
  let covered = (open || claim ? 1 : 0) + (end ? 1 : 0);
  for (const i in chunks) covered += counts ? counts[i] : 1;
  // Compaction may have left out all of them.
  const fits = next - seq === covered || counts?.length === 0;
  return stream && run && Array.isArray(chunks) && seq > 0 && next > seq && fits;
};

/**
 * The text of a frame.
 * @param {import("./types.js").ClientFrame} frame
 * @returns {string}
 * @throws {TailraceError} `too_large` over 32,000 bytes: sending it would cost the connection.
 */
export function encode(frame) {
  const text = JSON.stringify(frame);
  // A UTF-16 unit is at most three bytes of UTF-8, so most frames need no count.
  if (text.length * 3 > MAX_FRAME && new TextEncoder().encode(text).length > MAX_FRAME) {
    throw new TailraceError("too_large", `a frame is at most ${MAX_FRAME} bytes`);
  }
  return text;
}

/**
 * The frame in a text, or null where there is nothing for this client: an unknown type, or
 * a frame that cannot be right.
 * @param {unknown} text
 * @returns {ServerFrame | null}
 */
export function decode(text) {
  try {
    const frame = JSON.parse(/** @type {string} */ (text));
    const { type = "gateway", message } = frame;
    const known = numbers(frame, NUMBERS[type]);
    if (!frame.type) return message ? { type, message } : null;
    const sane =
      type === "slice"
        ? dense(frame)
        : type !== "synced" ||
          Object.values(frame.tails).every((t) => t.error || numbers(t, NUMBERS.subscribed.slice(1)));
    return known && sane ? Object.assign(frame, { size: /** @type {string} */ (text).length }) : null;
  } catch {
    return null;
  }
}
