/** What the deltas of an answer are called; all else that has a type is no text of it. */
const DELTA = /^(text(-delta)?|content\.delta|response\.output_text\.delta)$/;

/**
 * The text of a chunk: of a string; of an object's `delta` or `text`, if it has no `type` or
 * that of a text; and of the text deltas of OpenAI, Anthropic and Bedrock, as they come. Else
 * none: providers say all again at the end, and reasoning is no answer.
 * @param {import("./types.js").Json} chunk
 * @returns {string}
 */
export function textOf(chunk) {
  if (typeof chunk === "string") return chunk;
  const { type, delta, text, choices, contentBlockDelta, snapshot } = /** @type {any} */ (chunk ?? {});
  const found =
    choices?.[0]?.delta?.content ??
    contentBlockDelta?.delta?.text ??
    (type === "content_block_delta" ? delta?.text : !type || DELTA.test(type) ? (delta ?? text) : null);
  // With each delta Anthropic's library tells the delta again, as a `text` with all so far.
  const again = type === "text" && snapshot !== undefined;
  return typeof found === "string" && !again ? found : "";
}
