/**
 * The edge: it feeds the machine of `machine.js` and carries out its commands, with WebSocket,
 * timers, tokens' text, the page and the network. Of these the machine knows nothing, and
 * `reader.js` only its `port`; `react.js` and `ai.js` stand on the client, and have timers,
 * frames and requests of their own.
 */
import { CLOCK } from "./clock.js";
import { errorOf, TailraceError } from "./errors.js";
import { decode, encode, SUBPROTOCOL } from "./frames.js";
import { deadline, initial, status, step } from "./machine.js";
import { createReader } from "./reader.js";

/**
 * @typedef {import("./types.js").Status} Status
 *
 * @typedef {object} ClientOptions
 * @property {string} url `wss://…`
 * @property {string | (() => string | Promise<string>)} token A JWT, or a function that fetches
 *   one: called before the first connection, before the token expires and after a refusal.
 *   If it fails, or what it gives can be none, it is called again later, unless its error has
 *   `retryable: false`.
 * @property {"subprotocol" | "query" | undefined} [handshake] how the token travels; `query` where the
 *   server echoes no subprotocol. Query strings end up in access logs.
 * @property {any} [page] where `addEventListener`, `document` and `navigator` are looked for
 * @property {any} [WebSocket] the constructor, where it is not global or is to be wrapped
 * @property {typeof globalThis.fetch | undefined} [fetch] used to tell a refused handshake from a broken network
 * @property {import("./clock.js").Clock | undefined} [clock]
 * @property {(() => number) | undefined} [random] in [0, 1)
 *
 * @typedef {object} Client One connection, opened when first something is read, for any number
 *   of readers.
 * @property {Status} status
 * @property {TailraceError | null} error why the client is `closed`. One that was refused is
 *   tried again with the next reading; one that `close` closed is not.
 * @property {(listener: (status: Status) => void) => () => void} subscribe calls `listener` at
 *   every change of `status`; answers the function that stops it
 * @property {(name: string, options?: import("./reader.js").StreamOptions) => import("./reader.js").Reader} stream
 *   a reader of a stream. Nothing is asked of the server before it is read.
 * @property {(turn: import("./types.js").Turn, signal?: AbortSignal) => Promise<{stream: string, run: string}>} send
 *   has the stack's job function begin an answer, and tells its run. `turn` reaches the job
 *   unchecked; the token must grant `send` for its `stream`. Sent anew, under the same
 *   `requestId`, until it is answered, for at most 30 s, so that it begins one answer however
 *   often the connection breaks. Before anything is sent, `too_large` over 32,000 bytes, and
 *   `invalid` for a `requestId` that can be none.
 * @property {() => number} time AWS time in milliseconds, estimated from the server's answers;
 *   before the first, this machine's
 * @property {() => void} close ends every reader with the error `closed`, and the connection,
 *   for good
 */

/**
 * When a JWT expires, in seconds; null where that cannot be read.
 * @param {string} token
 * @returns {number | null}
 */
function expiryOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).exp;
  } catch {
    return null;
  }
}

/**
 * @param {boolean} fine
 * @param {string} what it is, if it is not
 * @param {boolean} [retryable]
 */
function check(fine, what, retryable) {
  if (!fine) throw new TailraceError("invalid", what, retryable);
}

/**
 * @param {unknown} name
 * @param {number} most characters
 */
const isName = (name, most) => typeof name === "string" && name.length <= most && /^[\w.:/@=+-]+$/.test(name);

/** @param {unknown} run */
const isRun = (run) => /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/.test(`${run}`);

/** About the longest that `setTimeout` can wait. */
const FAR = 2e9;

const PROBE_MS = 5_000;

/**
 * @param {ClientOptions} options
 * @returns {Client}
 * @throws {TailraceError} `invalid` for a `url` that is none of a socket
 */
export function createClient({
  url,
  token,
  handshake,
  page = globalThis,
  WebSocket = page.WebSocket,
  fetch = page.fetch,
  clock = CLOCK,
  random = Math.random,
}) {
  check(/^wss?:/.test(url), `no socket url: ${url}`);
  let state = initial();
  let warned = false;
  /** @type {Map<number, WebSocket>} */
  const sockets = new Map();
  /** @type {Map<string, (command: any) => void>} */
  const sinks = new Map();
  /** @type {Set<(status: Status) => void>} */
  const listeners = new Set();
  /** @type {any[]} */
  const events = [];
  /** @type {Status} */
  let told = "idle";
  let busy = false;
  let ids = 0;
  /** @type {any} */
  let timer;
  let wakeAt = Infinity;
  let listening = false;

  /**
   * One event at a time, also where carrying out a command brings the next.
   * @param {any} event without `now`
   */
  function dispatch(event) {
    event.now = clock.now();
    event.random = random();
    events.push(event);
    if (busy) return;
    busy = true;
    try {
      for (let next = events.shift(); next; next = events.shift()) {
        const after = step(state, next);
        state = after.state;
        for (const command of after.commands) (ACTS[command.type] ?? pass)(command);
        // While it is busy: what a listener does comes when all have been told.
        if (!events.length) observe();
      }
    } finally {
      busy = false;
    }
    arm();
  }

  function arm() {
    const at = deadline(state);
    // A timer that fires early costs less than one that is set anew for every slice.
    if (at >= wakeAt) return;
    clock.clearTimeout(timer);
    wakeAt = at;
    const act = () => {
      wakeAt = Infinity;
      if (deadline(state) <= clock.now()) dispatch({ type: "tick" });
      else arm();
    };
    timer = clock.setTimeout(act, Math.min(FAR, at - clock.now()));
  }

  function observe() {
    const now = status(state);
    const active = now !== "idle" && now !== "closed";
    // What the page was while nobody listened to it comes first.
    if (active !== listening) return listen(active);
    if (!active) {
      clock.clearTimeout(timer);
      wakeAt = Infinity;
    }
    if (now === told) return;
    told = now;
    for (const listener of listeners) safely(listener, now);
  }

  /**
   * What the application does wrong must harm nobody else.
   * @param {(what: any) => void} act
   * @param {any} what
   */
  function safely(act, what) {
    try {
      act(what);
    } catch (error) {
      (page.reportError ?? console.error)(error);
    }
  }

  /**
   * Hears of the network and the page, where there is one and while it matters.
   * @param {boolean} active
   */
  function listen(active) {
    listening = active;
    const how = active ? "addEventListener" : "removeEventListener";
    page[how]?.("online", look);
    page[how]?.("offline", look);
    page.document?.[how]("visibilitychange", look);
    look();
  }

  function look() {
    const online = page.navigator?.onLine !== false;
    const visible = page.document?.visibilityState !== "hidden";
    dispatch({ type: "page", online, visible });
  }

  /** @param {any} command about a reader or a call */
  const pass = (command) => {
    const { type, id } = command;
    safely(sinks.get(id) ?? Object, command);
    if (type === "settle" || type === "fail") sinks.delete(id);
  };

  /** @type {Record<string, (command: any) => void>} */
  const ACTS = {
    async token() {
      const fetched = typeof token === "function";
      try {
        const value = fetched ? await token() : token;
        // What else a backend says in its place, a socket may refuse for good.
        check(/^[\w.-]+$/.test(value ?? ""), "malformed token", fetched);
        warned = false;
        dispatch({ type: "token", token: value, exp: expiryOf(value) });
      } catch (error) {
        const { retryable, message } = /** @type {any} */ (error ?? {});
        // Nobody else would hear of the first, however long it goes on.
        if (!warned) console.warn("no token:", error);
        warned = true;
        dispatch({ type: "tokenless", fatal: retryable === false, message });
      }
    },
    async probe() {
      // A browser does not say why a handshake failed; whether the server answers at all, it does.
      let reachable = true;
      try {
        const signal = AbortSignal.timeout(PROBE_MS);
        await fetch(url.replace(/^ws/, "http"), { mode: "no-cors", cache: "no-store", signal });
      } catch {
        reachable = false;
      }
      dispatch({ type: "probed", reachable });
    },
    connect({ socket, token }) {
      /** @type {WebSocket} */
      let ws;
      try {
        check(!!WebSocket, "no global WebSocket: give one as the option WebSocket");
        ws =
          handshake === "query"
            ? new WebSocket(`${url}${url.includes("?") ? "&" : "?"}token=${token}`)
            : new WebSocket(url, [SUBPROTOCOL, `bearer.${token}`]);
      } catch (error) {
        // None, or a URL or token that it cannot take: it would never get better.
        const { message } = /** @type {Error} */ (error);
        dispatch({ type: "close", error: { code: "invalid", message } });
        return;
      }
      sockets.set(socket, ws);
      ws.onopen = () => dispatch({ type: "opened", socket });
      // In Node 22 no close follows the error of a handshake.
      ws.onclose = ws.onerror = () => {
        sockets.delete(socket);
        dispatch({ type: "lost", socket });
      };
      ws.onmessage = ({ data }) => {
        const frame = decode(data);
        if (frame) dispatch({ type: "frame", socket, frame });
      };
    },
    send({ socket, frame }) {
      try {
        // A socket that is closing drops it; its `close` event is on the way.
        sockets.get(socket)?.send(encode(frame));
      } catch (error) {
        dispatch({
          type: "frame",
          socket,
          frame: { type: "error", n: frame.n, .../** @type {object} */ (error) },
        });
      }
    },
    close({ socket }) {
      const ws = sockets.get(socket);
      if (!ws) return;
      sockets.delete(socket);
      ws.onopen = ws.onclose = ws.onmessage = null;
      ws.close(1000);
    },
  };

  const time = () => (state.aws ? clock.now() + state.aws.offset : Date.now());

  /** @type {import("./reader.js").Port} */
  const port = {
    open(event, sink) {
      const id = String(++ids);
      sinks.set(id, sink);
      dispatch({ ...event, id });
      return id;
    },
    tell(event) {
      if (event.type === "unwatch") sinks.delete(event.id);
      dispatch(event);
    },
    call: (frame, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        // Refused here and now, not when there is a connection.
        encode({ ...frame, n: 1e9 });
        let id = "";
        const leave = () => {
          port.tell({ type: "unwatch", id });
          reject(signal?.reason);
        };
        signal?.addEventListener("abort", leave);
        id = port.open({ type: "call", frame }, ({ answer, error }) => {
          signal?.removeEventListener("abort", leave);
          if (error) reject(errorOf(error));
          else resolve(answer);
        });
      }),
    time,
    pacer: {
      now: clock.now,
      wait: (ms) => new Promise((resolve) => clock.setTimeout(() => resolve(), ms)),
      hidden: () => !state.visible,
    },
  };

  return {
    get status() {
      return told;
    },
    get error() {
      return state.failure && errorOf(state.failure);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    stream(name, options = {}) {
      check(isName(name, 200), `no stream name: ${name}`);
      // The server's refusal would end all who read this stream.
      const { run = null, after = null } = options;
      check(run === null || isRun(run), `no run id: ${run}`);
      check(after === null || (isRun(after.run) && after.seq > 0), "after: no cursor of a reader");
      return createReader(port, name, options);
    },
    async send({ requestId = `${Date.now()}.${random()}`, ...turn }, signal) {
      check(isName(requestId, 64), `no request id: ${requestId}`);
      return port.call({ requestId, ...turn, type: "send" }, signal);
    },
    time,
    close: () => dispatch({ type: "close" }),
  };
}
