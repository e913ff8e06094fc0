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

/** Required fields of each frame: s(tring), n(umber), b(oolean), o(bject), ?(string or null). */
const SHAPES = {
  slice: { stream: "s", run: "s", seq: "n", next: "n", at: "n" },
  subscribed: { stream: "s", n: "n", run: "?", tail: "n", from: "n" },
  synced: { n: "n", time: "n", tails: "o" },
  unsubscribed: { stream: "s" },
  cancelled: { stream: "s", run: "s", n: "n" },
  authorized: { expires_at: "n", n: "n" },
  error: { code: "s" },
};

/** @type {Record<string, (value: any) => boolean>} */
const KINDS = {
  s: (value) => typeof value === "string",
  n: (value) => typeof value === "number",
  o: (value) => typeof value === "object" && value !== null,
  "?": (value) => value === null || typeof value === "string",
};

/**
 * @param {Record<string, any>} frame
 * @param {Record<string, string>} shape
 */
function fits(frame, shape) {
  for (const key in shape) if (!KINDS[shape[key]](frame[key])) return false;
  return true;
}

/** @param {any} tail */
const sane = (tail) =>
  KINDS.o(tail) && (KINDS.o(tail.error) || fits(tail, { run: "?", tail: "n", from: "n" }));

/**
 * Whether a slice covers exactly the seqs that it says: one that does not would put chunks
 * under wrong seqs, so it counts as lost and is asked for again.
 * @param {any} slice
 */
function dense({ seq, next, open, claim, chunks = [], end }) {
  const length = (open || claim ? 1 : 0) + chunks.length + (end ? 1 : 0);
  return Array.isArray(chunks) && seq > 0 && length > 0 && seq + length === next;
}

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
  if (typeof text !== "string") return null;
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return null;
  }
  if (!KINDS.o(frame)) return null;
  if (frame.type === undefined) {
    return "message" in frame ? { type: "gateway", message: String(frame.message) } : null;
  }
  const shape = Object.hasOwn(SHAPES, frame.type) && SHAPES[/** @type {keyof typeof SHAPES} */ (frame.type)];
  if (!shape || !fits(frame, shape)) return null;
  if (frame.type === "synced" && !Object.values(frame.tails).every(sane)) return null;
  if (frame.type === "slice") {
    if (!dense(frame)) return null;
    frame.size = text.length;
  }
  return frame;
}
