/**
 * The edge: the only file that knows WebSocket, timers, tokens' text, the page and the
 * network. It feeds the machine of `state.js` and carries out its commands.
 */
import { errorOf, TailraceError } from "./errors.js";
import { decode, encode, SUBPROTOCOL } from "./frames.js";
import { Reader } from "./reader.js";
import { deadline, initial, status, step } from "./state.js";

/**
 * @typedef {import("./types.js").Status} Status
 *
 * @typedef {object} Clock
 * @property {() => number} now milliseconds; must never go back
 * @property {(act: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 *
 * @typedef {object} ClientOptions
 * @property {string} url `wss://…`
 * @property {string | (() => string | Promise<string>)} token A JWT, or a function that fetches
 *   one: called before the first connection, before the token expires and after a refusal.
 *   If it fails it is called again later, unless its error has `retryable: false`.
 * @property {"subprotocol" | "query"} [handshake] how the token travels; `query` where the
 *   server echoes no subprotocol. Query strings end up in access logs.
 * @property {any} [WebSocket] the constructor, where it is not global or is to be wrapped
 * @property {typeof fetch} [fetch] used to tell a refused handshake from a broken network
 * @property {Clock} [clock]
 * @property {() => number} [random] in [0, 1)
 * @property {any} [page] where `addEventListener`, `document` and `navigator` are looked for
 */

/**
 * A clock that never goes back and does not stop while a laptop sleeps: wall time may jump
 * back and the monotonic clock may pause, so the larger step of the two counts.
 * @returns {Clock}
 */
function systemClock() {
  let time = 0;
  let wall = Date.now();
  let steady = performance.now();
  return {
    now() {
      const [w, s] = [Date.now(), performance.now()];
      time += Math.max(w - wall, s - steady, 0);
      [wall, steady] = [w, s];
      return time;
    },
    setTimeout: (act, ms) => setTimeout(act, ms),
    clearTimeout: (timer) => clearTimeout(timer),
  };
}

/**
 * When a JWT expires, in seconds; null where that cannot be read.
 * @param {string} token
 */
function expiryOf(token) {
  try {
    const claims = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(claims));
    return typeof exp === "number" ? exp : null;
  } catch {
    return null;
  }
}

/** The longest that `setTimeout` can wait. */
const FAR = 2 ** 31 - 1;

const PROBE_MS = 5_000;

export class Client {
  #options;
  #clock;
  #state = initial();
  /** @type {Map<number, WebSocket>} */ #sockets = new Map();
  /** @type {Map<string, import("./reader.js").Sink>} */ #sinks = new Map();
  /** @type {Map<string, (outcome: {reason?: string | null, error?: import("./types.js").Failure}) => void>} */ #cancels = new Map();
  /** @type {Set<(status: Status) => void>} */ #listeners = new Set();
  /** @type {Status} */ #status = "idle";
  /** @type {import("./state.js").Event[]} */ #events = [];
  #busy = false;
  #ids = 0;
  /** @type {any} */ #timer = null;
  #wakeAt = Infinity;
  /** @type {(() => void) | null} */ #unlisten = null;
  /** @type {import("./reader.js").Port} */ #port;

  /** @param {ClientOptions} options */
  constructor({ page = globalThis, ...options }) {
    this.#options = {
      handshake: "subprotocol",
      WebSocket: page.WebSocket,
      fetch: page.fetch && ((/** @type {any} */ url, /** @type {any} */ init) => page.fetch(url, init)),
      random: Math.random,
      ...options,
      page,
    };
    this.#clock = options.clock ?? systemClock();
    this.#port = {
      watch: (wanted, sink) => this.#watch(wanted, sink),
      tell: (type, reader) => this.#tell(type, reader),
      cancel: (stream, run) => this.#cancel(stream, run),
      time: () => this.time(),
      pacer: {
        now: () => this.#clock.now(),
        wait: (ms) => new Promise((resolve) => this.#clock.setTimeout(() => resolve(), ms)),
        hidden: () => !this.#state.visible,
      },
    };
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /** Why the client is `closed`. */
  get error() {
    return this.#state.failure && errorOf(this.#state.failure);
  }

  /**
   * Calls `listener` at every change of `status`; answers the function that stops it.
   * @param {(status: Status) => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * A reader of a stream. Nothing is asked of the server before it is read.
   * @param {string} name
   * @param {import("./reader.js").StreamOptions} [options]
   * @returns {Reader}
   */
  stream(name, options = {}) {
    if (!/^[A-Za-z0-9._:/@=+-]{1,200}$/.test(name)) throw new TailraceError("invalid", `no stream name: ${name}`);
    return new Reader(this.#port, name, options);
  }

  /** AWS time in milliseconds, estimated from the server's answers; before the first, this machine's. */
  time() {
    const { aws } = this.#state;
    return aws ? this.#clock.now() + aws.offset : Date.now();
  }

  /** Ends every reader with the error `closed`, and the connection, for good. */
  close() {
    this.#dispatch({ type: "close" });
  }

  /**
   * @param {object} options
   * @param {import("./reader.js").Sink} sink
   */
  #watch(options, sink) {
    const reader = String(++this.#ids);
    this.#sinks.set(reader, sink);
    this.#dispatch({ type: "watch", reader, ...options });
    return reader;
  }

  /**
   * @param {"unwatch" | "pause" | "resume"} type
   * @param {string} reader
   */
  #tell(type, reader) {
    if (type === "unwatch") this.#sinks.delete(reader);
    this.#dispatch({ type, reader });
  }

  /**
   * @param {string} stream
   * @param {string} run
   * @returns {Promise<{reason: string | null}>}
   */
  #cancel(stream, run) {
    const id = String(++this.#ids);
    return new Promise((resolve, reject) => {
      this.#cancels.set(id, ({ reason = null, error }) => {
        this.#cancels.delete(id);
        if (error) reject(errorOf(error));
        else resolve({ reason });
      });
      this.#dispatch({ type: "cancel", id, stream, run });
    });
  }

  /**
   * One event at a time, also where carrying out a command brings the next.
   * @param {any} event without `now`
   */
  #dispatch(event) {
    event.now = this.#clock.now();
    event.random = this.#options.random();
    this.#events.push(event);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) {
        const { state, commands } = step(this.#state, next);
        this.#state = state;
        for (const command of commands) this.#carryOut(command);
      }
    } finally {
      this.#busy = false;
    }
    this.#arm();
    this.#observe();
  }

  #arm() {
    const at = deadline(this.#state);
    // A timer that fires early costs less than one that is set anew for every slice.
    if (at >= this.#wakeAt) return;
    this.#clock.clearTimeout(this.#timer);
    this.#wakeAt = at;
    const delay = Math.min(FAR, Math.max(0, Math.ceil(at - this.#clock.now())));
    this.#timer = this.#clock.setTimeout(() => {
      this.#wakeAt = Infinity;
      if (deadline(this.#state) <= this.#clock.now()) this.#dispatch({ type: "tick" });
      else this.#arm();
    }, delay);
  }

  #observe() {
    const now = status(this.#state);
    const active = now !== "idle" && now !== "closed";
    if (active && !this.#unlisten) {
      this.#unlisten = this.#listen();
      this.#look();
    }
    if (!active) {
      this.#unlisten?.();
      this.#unlisten = null;
      this.#clock.clearTimeout(this.#timer);
      this.#wakeAt = Infinity;
    }
    if (now === this.#status) return;
    this.#status = now;
    for (const listener of this.#listeners) listener(now);
  }

  /** @param {import("./state.js").Command} command */
  #carryOut(command) {
    switch (command.type) {
      case "deliver":
        this.#sinks.get(command.reader)?.deliver(command.slice);
        break;
      case "end":
        this.#sinks.get(command.reader)?.end(command.run, command.reason);
        break;
      case "fail":
        this.#sinks.get(command.reader)?.fail(command.error);
        break;
      case "settle":
        this.#cancels.get(command.id)?.(command);
        break;
      case "token":
        void this.#fetchToken();
        break;
      case "probe":
        void this.#probe();
        break;
      case "connect":
        this.#connect(command.socket, command.token);
        break;
      case "send":
        this.#send(command.socket, command.frame);
        break;
      case "close":
        this.#disconnect(command.socket);
        break;
    }
  }

  async #fetchToken() {
    const { token } = this.#options;
    try {
      const value = typeof token === "function" ? await token() : token;
      this.#dispatch({ type: "token", token: value, exp: expiryOf(value), fixed: typeof token !== "function" });
    } catch (error) {
      const { retryable, message } = /** @type {any} */ (error ?? {});
      this.#dispatch({ type: "tokenless", fatal: retryable === false, message });
    }
  }

  /** A browser does not say why a handshake failed; whether the server answers at all, it does. */
  async #probe() {
    let reachable = false;
    try {
      const signal = AbortSignal.timeout(PROBE_MS);
      await this.#options.fetch(this.#options.url.replace(/^ws/, "http"), { mode: "no-cors", cache: "no-store", credentials: "omit", signal });
      reachable = true;
    } catch {
      // Out of reach, or not to be asked.
    }
    this.#dispatch({ type: "probed", reachable });
  }

  /**
   * @param {number} socket
   * @param {string} token
   */
  #connect(socket, token) {
    const { url, handshake, WebSocket } = this.#options;
    const lost = () => {
      if (this.#sockets.delete(socket)) this.#dispatch({ type: "lost", socket });
    };
    /** @type {WebSocket} */
    let ws;
    try {
      ws =
        handshake === "query"
          ? new WebSocket(`${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`)
          : new WebSocket(url, [SUBPROTOCOL, `bearer.${token}`]);
    } catch {
      this.#dispatch({ type: "lost", socket });
      return;
    }
    this.#sockets.set(socket, ws);
    ws.onopen = () => this.#dispatch({ type: "opened", socket });
    ws.onclose = lost;
    ws.onerror = () => {};
    ws.onmessage = ({ data }) => {
      const frame = decode(data);
      if (frame) this.#dispatch({ type: "frame", socket, frame });
    };
  }

  /**
   * @param {number} socket
   * @param {import("./types.js").ClientFrame} frame
   */
  #send(socket, frame) {
    let text;
    try {
      text = encode(frame);
    } catch (error) {
      const { code, message, retryable } = /** @type {TailraceError} */ (error);
      this.#dispatch({ type: "frame", socket, frame: { type: "error", code, message, retryable, n: frame.n } });
      return;
    }
    // A socket that is closing drops it; its `close` event is on the way.
    this.#sockets.get(socket)?.send(text);
  }

  /** @param {number} socket */
  #disconnect(socket) {
    const ws = this.#sockets.get(socket);
    if (!ws) return;
    this.#sockets.delete(socket);
    ws.onopen = ws.onclose = ws.onmessage = null;
    ws.close(1000);
  }

  /** Hears of the network and the page, where there is one. */
  #listen() {
    const { page } = this.#options;
    const look = () => this.#look();
    /** @type {[any, string][]} */
    const places = [
      [page, "online"],
      [page, "offline"],
      [page.document, "visibilitychange"],
    ];
    for (const [target, type] of places) target?.addEventListener?.(type, look);
    return () => {
      for (const [target, type] of places) target?.removeEventListener?.(type, look);
    };
  }

  #look() {
    const { document, navigator } = this.#options.page;
    const { online, visible } = this.#state;
    const there = navigator?.onLine !== false;
    const seen = document?.visibilityState !== "hidden";
    if (there !== online) this.#dispatch({ type: there ? "online" : "offline" });
    if (seen !== visible) this.#dispatch({ type: seen ? "visible" : "hidden" });
  }
}

/**
 * A client: one connection, opened when first something is read, for any number of readers.
 * @param {ClientOptions} options
 * @returns {Client}
 */
export const createClient = (options) => new Client(options);
