/** What a `Client` meets: sockets to the server of these tests, a page, and a way to the network. */
import { createClient } from "../../src/index.js";
import { seeded, VirtualClock } from "./clock.js";
import { Server } from "./server.js";

/** A page: `online`, `offline` and `visibilitychange`, as a browser tells them. */
export class Page extends EventTarget {
  navigator = { onLine: true };
  /** What the application's own functions threw. */
  reported = [];
  reportError = (error) => this.reported.push(error);
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });

  setOnline(onLine) {
    this.navigator.onLine = onLine;
    this.dispatchEvent(new Event(onLine ? "online" : "offline"));
  }

  setVisible(visible) {
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
}

export class Network {
  page = new Page();
  /** Every socket ever made, newest last. */
  sockets = [];
  /** Handshakes find nobody. */
  cut = false;
  /** What becomes of a handshake with a token: `ok`, `refused`, or `expired` (let in without rights). */
  admit = () => "ok";
  /** Texts that came up and went down, to look at. */
  sent = [];

  constructor(seed = 1, clock = new VirtualClock()) {
    this.clock = clock;
    this.random = seeded(seed);
    this.server = new Server(this.clock, this.random);
    const network = this;
    this.WebSocket = class FakeSocket {
      readyState = 0;
      onopen = null;
      onclose = null;
      onmessage = null;
      onerror = null;

      constructor(url, protocols = []) {
        // As browsers do.
        if (!protocols.every((name) => /^[\w!#$%&'*+.^`|~-]+$/.test(name)))
          throw new SyntaxError("protocols");
        this.url = url;
        this.protocols = protocols;
        const token = protocols[1]?.replace("bearer.", "") ?? new URL(url).searchParams.get("token");
        network.sockets.push(this);
        network.server.later(() => this.#handshake(token));
      }

      get alive() {
        return this.readyState === 1;
      }

      #handshake(token) {
        if (this.readyState !== 0) return;
        const verdict = network.cut ? "refused" : network.admit(token);
        if (verdict === "refused") {
          this.fail(1006);
          return;
        }
        this.rights = verdict === "ok";
        this.readyState = 1;
        network.server.connect(this);
        this.onopen?.({ type: "open" });
      }

      /** A frame from the server. */
      receive(frame) {
        if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(frame) });
      }

      send(text) {
        if (this.readyState === 0) throw new Error("InvalidStateError");
        if (this.readyState !== 1) return;
        const frame = JSON.parse(text);
        network.sent.push(frame);
        if (Buffer.byteLength(text) > 32_000) return void this.fail(1009);
        if (!this.rights) {
          this.receive({
            type: "error",
            code: "unauthorized",
            message: "the token has expired",
            retryable: false,
            n: frame.n,
          });
          return void this.fail(1000);
        }
        network.server.handle(this, frame);
      }

      close(code = 1000) {
        if (this.readyState > 1) return;
        this.readyState = 3;
        network.server.disconnect(this);
        network.clock.setTimeout(() => this.onclose?.({ code }), 0);
      }

      /** The connection ends, by the network or by the server. */
      fail(code) {
        if (this.readyState > 1) return;
        this.readyState = 3;
        network.server.disconnect(this);
        this.onerror?.({ type: "error" });
        this.onclose?.({ code });
      }

      set alive(_) {}
    };
  }

  get open() {
    return this.sockets.filter((socket) => socket.readyState === 1);
  }

  client(options = {}) {
    return createClient({
      url: "wss://example.test/live",
      token: () => "token",
      WebSocket: this.WebSocket,
      clock: this.clock,
      random: this.random,
      page: this.page,
      fetch: async () => {
        if (this.cut) throw new TypeError("fetch failed");
      },
      ...options,
    });
  }
}
