/**
 * The text of a chunk: of a string, or of an object with `delta` or `text`. Else none.
 * @param {import("./types.js").Json} chunk
 * @returns {string}
 */
export function textOf(chunk) {
  if (typeof chunk === "string") return chunk;
  if (chunk === null || typeof chunk !== "object" || Array.isArray(chunk)) return "";
  const text = chunk.delta ?? chunk.text;
  return typeof text === "string" ? text : "";
}
