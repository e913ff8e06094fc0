/**
 * `useChat` over Tailrace: a transport for the AI SDK, of its majors 5, 6 and 7.
 *
 * A turn is one run. Its chunks reach the SDK as one `ReadableStream`, which lives on through
 * lost connections, so that the SDK never sees one. Whoever asks for a turn that goes on
 * (after a reload, in StrictMode, in a second component) gets it from its first chunk on, and
 * all share one subscription. To abort is to look away: the answer goes on, and `cancel`
 * stops it.
 */
import { createClient } from "./client.js";
import { CLOCK } from "./clock.js";
import { TailraceError } from "./errors.js";
import { aborted, Turn } from "./turn.js";

/** @typedef {import("./client.js").Client} Client */

/**
 * @template T
 * @typedef {T | (() => T | PromiseLike<T>)} Resolvable
 */

/**
 * @typedef {object} SendRequest
 * @property {string} api
 * @property {string} id of the chat
 * @property {any[]} messages
 * @property {any} requestMetadata
 * @property {Record<string, any>} body
 * @property {Record<string, string>} headers
 * @property {RequestCredentials | undefined} credentials
 * @property {"submit-message" | "regenerate-message"} trigger
 * @property {string | undefined} messageId
 *
 * @typedef {{
 *   api?: string | undefined, body?: object | undefined, headers?: HeadersInit | undefined,
 *   credentials?: RequestCredentials | undefined, messages?: any[] | undefined,
 * }} Prepared `messages`: where it is sent by the socket; by POST they are in the body
 *
 * @typedef {object} TransportOptions
 * @property {Client | import("./client.js").ClientOptions} client a client, which stays the
 *   application's, or the options of one, which `close` closes
 * @property {((chatId: string) => string) | undefined} [stream] the stream of a chat; by default `chat:<id>`
 * @property {"post" | "socket" | undefined} [send] how a turn is sent: by POST to `api`, the default; or by
 *   the socket, to the stack's job function. There a turn is refused over 32,000 bytes, as
 *   `too_large`, so that only the last message goes unless `prepareSendMessagesRequest` says
 *   otherwise; and the token must grant `send`.
 * @property {string | undefined} [api] where a turn is sent to by POST; it answers with JSON
 *   `{run: string, stream?: string}` once the job is on its way. By default `/api/chat`.
 * @property {Resolvable<HeadersInit> | undefined} [headers]
 * @property {Resolvable<object> | undefined} [body] what is added to the body
 * @property {Resolvable<RequestCredentials> | undefined} [credentials]
 * @property {((request: SendRequest) => Prepared | PromiseLike<Prepared>) | undefined} [prepareSendMessagesRequest]
 * @property {typeof globalThis.fetch | undefined} [fetch]
 * @property {boolean | undefined} [cancelOnAbort] lets `stop()` cancel the answer, for everyone who watches.
 *   `useChat` stops also when it unmounts.
 * @property {number | undefined} [patience] milliseconds without a connection, awake, after which a turn
 *   fails; by default two minutes
 * @property {number | undefined} [startWithin] milliseconds for a job to begin its run; by default one minute
 * @property {import("./clock.js").Clock | undefined} [clock]
 */

/**
 * What a promise gives, unless the request is aborted before.
 * @template T
 * @param {AbortSignal | undefined} signal
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
const unless = (signal, promise) =>
  new Promise((resolve, reject) => {
    const leave = () => reject(aborted());
    if (signal?.aborted) leave();
    signal?.addEventListener("abort", leave);
    promise.then(resolve, reject).then(() => signal?.removeEventListener("abort", leave));
  });

/**
 * @template T
 * @param {Resolvable<T>} value
 * @returns {T | PromiseLike<T>}
 */
const resolve = (value) =>
  typeof value === "function" ? /** @type {() => T | PromiseLike<T>} */ (value)() : value;

/** @param {HeadersInit} [headers] */
const plain = (headers) => Object.fromEntries(new Headers(headers));

/** A `ChatTransport` of the AI SDK. */
export class TailraceChatTransport {
  /** The SDK must begin the message anew before it applies what `reconnectToStream` gives. */
  resumeStreamIsReplay = true;

  /** @type {Map<string, Turn>} */
  #turns = new Map();
  /** The turn of a chat that is on its way to its job. @type {Map<string, Promise<Turn>>} */
  #sending = new Map();
  #closed = false;
  #own;

  /** @param {TransportOptions} options */
  constructor({
    client,
    stream = (chatId) => `chat:${chatId}`,
    api = "/api/chat",
    patience = 120_000,
    startWithin = 60_000,
    clock = CLOCK,
    ...others
  }) {
    this.#own = "url" in client;
    /** @type {Client} */
    this.client = "url" in client ? createClient(client) : client;
    this.options = { stream, api, patience, startWithin, clock, ...others };
  }

  /**
   * Sends a turn, and answers its chunks.
   * @param {{
   *   trigger: "submit-message" | "regenerate-message", chatId: string, messageId: string | undefined,
   *   messages: any[], abortSignal: AbortSignal | undefined,
   *   headers?: HeadersInit, body?: object, metadata?: unknown,
   * }} turn
   * @returns {Promise<ReadableStream<any>>}
   */
  async sendMessages({ chatId, abortSignal, ...turn }) {
    /** @type {ReadableStream<any>} */
    let chunks;
    const sending = this.#send(chatId, abortSignal, turn).then(({ run, stream }) => {
      if (this.#closed) throw new TailraceError("closed", "transport closed");
      const begun = this.#begin(chatId, run, stream);
      // Also where nobody waits for it any more: then it is left, or stopped.
      chunks = this.#tap(begun, abortSignal);
      return begun;
    });
    this.#sending.set(chatId, sending);
    const sent = () => {
      if (this.#sending.get(chatId) === sending) this.#sending.delete(chatId);
    };
    sending.then(sent, sent);
    return unless(
      abortSignal,
      sending.then(() => chunks),
    );
  }

  /**
   * The turn of a chat that is going on, from its first chunk; null if there is none.
   * @param {{chatId: string, abortSignal?: AbortSignal}} options
   * @returns {Promise<ReadableStream<any> | null>}
   */
  async reconnectToStream({ chatId, abortSignal }) {
    const turn = this.#turns.get(chatId) ?? this.#begin(chatId, null);
    // Tapped at once, so that nobody's leaving ends what another waits for.
    const chunks = this.#tap(turn, abortSignal);
    if (await unless(abortSignal, turn.active)) return chunks;
    await chunks.cancel();
    return null;
  }

  /**
   * Stops the answer that is being made in a chat, or asked for, for everyone who watches, and
   * its job.
   * @param {string} chatId
   * @returns {Promise<{reason: string | null} | null>} how it ended; null if none was going on
   */
  async cancel(chatId) {
    const sending = this.#sending.get(chatId);
    const before = this.#turns.get(chatId);
    // It may be long until the one that is asked for is known.
    const stopped = before && this.#stop(before);
    stopped?.catch(() => {});
    const sent = sending && (await sending.catch(() => null));
    if (sent) return this.#stop(sent);
    return stopped ?? this.#stop(this.#turns.get(chatId) ?? this.#begin(chatId, null));
  }

  /** @param {Turn} turn */
  async #stop(turn) {
    const held = turn.tap();
    try {
      return turn.run || (await turn.active) ? await turn.reader.cancel() : null;
    } finally {
      await held.cancel().catch(() => {});
    }
  }

  /**
   * Ends every turn here, also one that is on its way, and the client if this transport made it.
   * The answers go on.
   */
  close() {
    this.#closed = true;
    for (const turn of [...this.#turns.values()]) turn.close(aborted());
    if (this.#own) this.client.close();
  }

  /**
   * @param {string} chatId
   * @param {string | null} run
   * @param {string} [stream]
   */
  #begin(chatId, run, stream = this.options.stream(chatId)) {
    const turn = new Turn(this.client, stream, run, {
      ...this.options,
      done: () => {
        if (this.#turns.get(chatId) === turn) this.#turns.delete(chatId);
      },
    });
    this.#turns.set(chatId, turn);
    return turn;
  }

  /**
   * @param {Turn} turn
   * @param {AbortSignal} [signal]
   */
  #tap(turn, signal) {
    return turn.tap(signal, () => {
      if (this.options.cancelOnAbort) this.#stop(turn).catch(() => {});
    });
  }

  /**
   * @param {string} id
   * @param {AbortSignal | undefined} signal
   * @param {any} turn
   * @returns {Promise<{run: string, stream?: string}>}
   */
  async #send(id, signal, { messages, trigger, messageId, metadata, ...request }) {
    const { options } = this;
    const headers = { ...plain(await resolve(options.headers)), ...plain(request.headers) };
    const body = { ...(await resolve(options.body)), ...request.body };
    const credentials = await resolve(options.credentials);
    const { api } = options;
    const asked = { api, id, messages, requestMetadata: metadata, body, headers, credentials };
    const prepared = await options.prepareSendMessagesRequest?.({ ...asked, trigger, messageId });
    signal?.throwIfAborted();
    // Only a run that is known can be cancelled.
    if (options.cancelOnAbort) signal = undefined;
    if (options.send === "socket") {
      const turn = {
        stream: options.stream(id),
        trigger,
        messageId,
        messages: prepared?.messages ?? messages.slice(-1),
        headers: plain(prepared?.headers ?? headers),
        body: prepared?.body ?? body,
        metadata,
      };
      return this.client.send(turn, signal);
    }
    const answer = await (options.fetch ?? globalThis.fetch)(prepared?.api ?? api, {
      method: "POST",
      headers: { "content-type": "application/json", ...plain(prepared?.headers ?? headers) },
      body: JSON.stringify(prepared?.body ?? { ...body, id, messages, trigger, messageId }),
      credentials: prepared?.credentials ?? credentials,
      signal,
    });
    const { ok, status } = answer;
    if (!ok) {
      const passes = status >= 500 || status === 429;
      throw new TailraceError("backend", (await answer.text()) || `HTTP ${status}`, passes);
    }
    const { run, stream } = await answer.json();
    if (typeof run !== "string") throw new TailraceError("invalid", `${api} must answer {"run": "…"}`);
    return { run, stream };
  }
}
