import assert from "node:assert/strict";
import { test } from "node:test";
import { textOf } from "../src/index.js";

/** What a model says, chunk by chunk, as its library gives it. */
const STREAMS = {
  "plain text": ["Hel", "lo"],
  "objects of one's own": [{ delta: "Hel" }, { text: "lo" }, { tool: "x" }, 7, null, true, ["no"], {}],
  "the AI SDK's chunks": [
    { type: "start", messageId: "m" },
    { type: "reasoning-delta", id: "r", delta: "Hm." },
    { type: "text-start", id: "t" },
    { type: "text-delta", id: "t", delta: "Hel" },
    { type: "text-delta", id: "t", delta: "lo" },
    { type: "tool-input-delta", toolCallId: "c", inputTextDelta: "{" },
    { type: "error", errorText: "no" },
  ],
  "OpenAI's responses": [
    { type: "response.reasoning_summary_text.delta", delta: "Hm." },
    { type: "response.output_text.delta", delta: "Hel" },
    { type: "response.output_text.delta", delta: "lo" },
    { type: "response.output_text.done", text: "Hello" },
    { type: "response.function_call_arguments.delta", delta: "{" },
    { type: "response.completed", response: { output_text: "Hello" } },
  ],
  "OpenAI's responses, as its library's own stream gives them": [
    { type: "response.output_text.delta", delta: "Hel", snapshot: "Hel" },
    { type: "response.output_text.delta", delta: "lo", snapshot: "Hello" },
    { type: "response.function_call_arguments.delta", delta: "{", snapshot: "{" },
    { type: "response.output_text.done", text: "Hello" },
  ],
  "OpenAI's chat completions, as its library's own stream gives them": [
    { type: "chunk", chunk: { choices: [{ delta: { content: "Hel" } }] }, snapshot: {} },
    { type: "content.delta", delta: "Hel", snapshot: "Hel", parsed: null },
    { type: "content.delta", delta: "lo", snapshot: "Hello", parsed: null },
    { type: "content.done", content: "Hello", parsed: null },
  ],
  "OpenAI's chat completions": [
    { choices: [{ index: 0, delta: { role: "assistant", content: "" } }] },
    { choices: [{ index: 0, delta: { content: "Hel" } }] },
    { choices: [{ index: 0, delta: { content: "lo" } }] },
    { choices: [{ index: 0, delta: { tool_calls: [] }, finish_reason: "stop" }] },
    { choices: [], usage: { total_tokens: 7 } },
  ],
  "Anthropic's messages": [
    { type: "message_start", message: { content: [] } },
    { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
    { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "Hm." } },
    { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "Hel" } },
    { type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "lo" } },
    { type: "content_block_delta", index: 2, delta: { type: "input_json_delta", partial_json: "{" } },
    { type: "text", text: "lo", snapshot: "Hello" },
    { type: "message_stop" },
  ],
  "Bedrock's converse": [
    { messageStart: { role: "assistant" } },
    { contentBlockDelta: { contentBlockIndex: 0, delta: { reasoningContent: { text: "Hm." } } } },
    { contentBlockDelta: { contentBlockIndex: 1, delta: { text: "Hel" } } },
    { contentBlockDelta: { contentBlockIndex: 1, delta: { text: "lo" } } },
    { messageStop: { stopReason: "end_turn" } },
  ],
};

for (const [name, chunks] of Object.entries(STREAMS))
  test(`the text of ${name} is what was answered, once`, () => {
    assert.equal(chunks.map(textOf).join(""), "Hello");
  });
