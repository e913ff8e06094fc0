/**
 * The shapes that the modules share; no code. Words are those of PROTOCOL.md §1.
 *
 * @typedef {null | boolean | number | string | Json[] | {[key: string]: Json}} Json
 *   What a chunk may be.
 *
 * @typedef {{run: string | null, seq: number, ended?: boolean, lost?: boolean, start?: string}} Cursor
 *   The last thing received in order. `run` null: whatever holds `seq + 1`. `ended`: `seq` is
 *   the end of its run, so that a later `open` supersedes nothing; but `lost`: it is presumed
 *   dead, and may go on. Plain JSON, to be kept.
 *   `start`: an `open` must follow, of this run or a later one; never in what a reader hands out.
 *
 * @typedef {null | [string] | [string | null, number]} Position PROTOCOL.md §3.2, as in `sync`.
 *
 * @typedef {{code: string, message?: string, retryable?: boolean}} Failure
 *
 * @typedef {{
 *   type: "slice", stream: string, run: string, seq: number, next: number, at: number,
 *   open?: {meta?: Record<string, Json>, prev?: string | null}, claim?: {epoch: number}, chunks?: Json[],
 *   end?: {reason: string, message?: string}, replay?: boolean, size?: number,
 *   counts?: number[], compact?: Compact,
 * }} Slice `size`: characters of its frame, for backpressure; not on the wire.
 *
 * @typedef {"ui-message" | "text"} Compact how a replay is compacted: PROTOCOL.md §3.6.
 *
 * @typedef {"live" | "replay" | "repair"} Via
 *   How a slice came: pushed as it was written; read from the log to catch up; or read from
 *   the log because a gap was found.
 *
 * @typedef {{run: string | null, tail: number, from: number, active: boolean, more: boolean, again?: number}} Tail
 *   What `subscribed` and each tail of `synced` say.
 *
 * @typedef {Tail & {type: "subscribed", stream: string, n: number, protocol?: number}} Subscribed
 * @typedef {{type: "synced", n: number, time: number, tails: Record<string, Tail | {error: Failure}>}} Synced
 * @typedef {{type: "unsubscribed", stream: string, n?: number, reason?: string}} Unsubscribed
 * @typedef {{type: "cancelled", stream: string, run: string, reason: string | null, n: number}} Cancelled
 * @typedef {{type: "sent", stream: string, run: string, seq: number, requestId: string, n: number}} Sent
 * @typedef {{type: "authorized", expires_at: number, n: number}} Authorized
 * @typedef {{type: "error", code: string, message: string, retryable: boolean, stream?: string, n?: number, requestId?: string}} Refusal
 * @typedef {{type: "gateway", message: string}} Gateway A frame of API Gateway itself.
 * @typedef {Slice | Subscribed | Synced | Unsubscribed | Cancelled | Sent | Authorized | Refusal | Gateway} ServerFrame
 *
 * @typedef {{type: "subscribe", stream: string, run?: string, after?: number, compact?: Compact}
 *   | {type: "unsubscribe", stream: string}
 *   | {type: "sync", streams: Record<string, Position>, compact?: Record<string, Compact>}
 *   | {type: "cancel", stream: string, run: string}
 *   | ({type: "send"} & Send)
 *   | {type: "auth", token: string}} Question
 * @typedef {Question & {n: number}} ClientFrame
 * @typedef {{requestId: string} & Turn} Send
 * @typedef {{
 *   stream: string, requestId?: string | undefined, trigger?: string | undefined,
 *   messageId?: string | undefined, messages?: unknown, headers?: object | undefined,
 *   body?: object | undefined, metadata?: unknown,
 * }} Turn what the job is told. `requestId`: up to 64 of `[A-Za-z0-9._:/@=+-]`, minted if there is none.
 *
 * @typedef {"idle" | "connecting" | "replaying" | "live" | "offline" | "closed"} Status
 *   `idle`: nothing is watched and no socket is open.
 */
export {};
