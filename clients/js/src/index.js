/** Resumable streams of LLM answers: see README.md, and PROTOCOL.md for the wire. */
export { createClient } from "./client.js";
export { TailraceError } from "./errors.js";
export { textOf } from "./text.js";

/**
 * @typedef {import("./types.js").Cursor} Cursor
 * @typedef {import("./types.js").Json} Json
 * @typedef {import("./types.js").Status} Status
 * @typedef {import("./types.js").Via} Via
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").ClientOptions} ClientOptions
 * @typedef {import("./reader.js").Reader} Reader
 * @typedef {import("./reader.js").StreamOptions} StreamOptions
 * @typedef {import("./reader.js").StreamEvent} StreamEvent
 */
