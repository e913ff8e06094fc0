/**
 * A bad network, for the client to live with: it is given to `createClient` in the place of
 * the real one. The client has no part in it, and does not know.
 */

/**
 * @typedef {{type: "opened"}
 *   | {type: "closed", code: number}
 *   | {type: "sent" | "received" | "dropped", frame: any}} Trace
 */

export class Network {
  /** What the client gets as its `page`. */
  page;
  /** @type {(trace: Trace) => void} */ ontrace = () => {};
  #events = new EventTarget();
  #online = true;
  #asleep = false;
  #drop = 0;
  /** @type {Set<Socket>} */ #sockets = new Set();

  constructor() {
    const network = this;
    const tell = (/** @type {Event} */ { type }) => this.#events.dispatchEvent(new Event(type));
    window.addEventListener("online", tell);
    window.addEventListener("offline", tell);
    document.addEventListener("visibilitychange", tell);
    const ears = {
      addEventListener: this.#events.addEventListener.bind(this.#events),
      removeEventListener: this.#events.removeEventListener.bind(this.#events),
    };
    this.page = {
      ...ears,
      document: {
        ...ears,
        get visibilityState() {
          return network.#asleep ? "hidden" : document.visibilityState;
        },
      },
      navigator: {
        get onLine() {
          return network.#online && navigator.onLine;
        },
      },
      WebSocket: class extends Socket {
        /** @param {string} url @param {string | string[]} [protocols] */
        constructor(url, protocols) {
          super(network, url, protocols);
        }
      },
      /** @param {string} url @param {RequestInit} init */
      fetch: (url, init) => (this.#online ? fetch(url, init) : Promise.reject(new TypeError("offline"))),
    };
  }

  get online() {
    return this.#online;
  }

  /** Whether anything is connected, and so can be broken. */
  get connected() {
    return this.#sockets.size > 0;
  }

  /** Every connection dies, as in a tunnel. */
  cut() {
    for (const socket of [...this.#sockets]) socket.die(1006);
  }

  /** @param {boolean} online */
  set online(online) {
    this.#online = online;
    if (!online) this.cut();
    this.#events.dispatchEvent(new Event(online ? "online" : "offline"));
  }

  /**
   * The next slices are lost on the way.
   * @param {number} count
   */
  drop(count) {
    this.#drop = count;
  }

  /**
   * The server is given another token for the living connections, and nobody tells the client.
   * @param {string} token of the same visitor
   */
  replaceToken(token) {
    for (const socket of this.#sockets) socket.authorize(token);
  }

  /**
   * What a page notices of a laptop's lid.
   * @param {boolean} asleep
   */
  set asleep(asleep) {
    this.#asleep = asleep;
    this.#events.dispatchEvent(new Event("visibilitychange"));
  }

  /** @param {Socket} socket @param {boolean} open */
  noteSocket(socket, open, code = 1000) {
    if (open) this.#sockets.add(socket);
    else if (!this.#sockets.delete(socket)) return;
    this.ontrace(open ? { type: "opened" } : { type: "closed", code });
  }

  /** @param {any} frame */
  isLost(frame) {
    if (frame?.type !== "slice" || this.#drop === 0) return false;
    this.#drop--;
    return true;
  }
}

/** The part of a WebSocket that the client uses. */
class Socket {
  /** @type {((event: any) => void) | null} */ onopen = null;
  /** @type {((event: any) => void) | null} */ onclose = null;
  /** @type {((event: any) => void) | null} */ onerror = null;
  /** @type {((event: any) => void) | null} */ onmessage = null;
  /** @type {WebSocket | null} */ #real = null;
  #network;
  #n = 0;
  #hidden = 0;

  /**
   * @param {Network} network
   * @param {string} url
   * @param {string | string[]} [protocols]
   */
  constructor(network, url, protocols) {
    this.#network = network;
    if (!network.online) {
      setTimeout(() => this.die(1006), 0);
      return;
    }
    const real = new WebSocket(url, protocols);
    this.#real = real;
    real.onopen = (event) => {
      network.noteSocket(this, true);
      this.onopen?.(event);
    };
    real.onclose = ({ code }) => this.die(code);
    real.onmessage = ({ data }) => this.#receive(data);
  }

  /** @param {string} data */
  send(data) {
    const frame = JSON.parse(data);
    this.#n = frame.n;
    this.#network.ontrace({ type: "sent", frame });
    this.#real?.send(data);
  }

  /** @param {number} [code] */
  close(code) {
    this.#network.noteSocket(this, false, code);
    this.#detach();
  }

  /** @param {number} code that the client sees */
  die(code) {
    this.#network.noteSocket(this, false, code);
    this.#detach();
    this.onclose?.({ code });
  }

  /** @param {string} token */
  authorize(token) {
    this.#hidden++;
    this.#real?.send(JSON.stringify({ type: "auth", token, n: this.#n }));
  }

  /** @param {string} data */
  #receive(data) {
    const frame = JSON.parse(data);
    if (frame.type === "authorized" && this.#hidden > 0) {
      this.#hidden--;
      return;
    }
    const lost = this.#network.isLost(frame);
    this.#network.ontrace({ type: lost ? "dropped" : "received", frame });
    if (!lost) this.onmessage?.({ data });
  }

  #detach() {
    if (!this.#real) return;
    this.#real.onopen = this.#real.onclose = this.#real.onmessage = null;
    this.#real.close();
    this.#real = null;
  }
}
