/**
 * React: a client for a tree of components, and a stream as state.
 *
 * The reading lives in a store outside React, begun and ended by an effect, so that
 * StrictMode, remounts and changing names cost nothing but a subscription; what is shown is a
 * snapshot that changes at most once a frame, however fast chunks come.
 */
"use client";
import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from "react";
import { textOf } from "./text.js";

/**
 * @typedef {import("./types.js").Json} Json
 *
 * @typedef {object} StreamState
 * @property {string | null} run the run that is shown
 * @property {string} text of its chunks
 * @property {readonly Json[]} chunks
 * @property {import("./types.js").Status} status of the connection
 * @property {{reason: string, message?: string} | null} end how the run ended; null while it goes on
 * @property {{code: string, message: string, retryable: boolean} | null} error why there is no more:
 *   the run's own failure, or the reading's. After `producer_lost` the run may still go on.
 * @property {() => Promise<{reason: string | null}>} cancel stops the answer for everyone
 * @property {() => void} retry reads on after an `error` that ended the reading, such as
 *   `refused`; does nothing else
 *
 * @typedef {import("./reader.js").StreamOptions & {text?: ((chunk: Json) => string) | undefined}} HookOptions
 *   `text`: the text of a chunk. Read, as `onTail` is, when the stream or another option changes.
 */

/** @type {import("react").Context<import("./client.js").Client | null>} */
const ClientContext = createContext(/** @type {import("./client.js").Client | null} */ (null));

/**
 * Gives a client to the components below. The client is the application's to create, once,
 * and to close.
 * @param {{client: import("./client.js").Client, children?: import("react").ReactNode}} props
 */
export const TailraceProvider = ({ client, children }) =>
  createElement(ClientContext.Provider, { value: client }, children);

/** The client of the provider above. */
export function useTailrace() {
  const client = useContext(ClientContext);
  if (!client) throw new Error("useStream and useTailrace need a <TailraceProvider client={…}> above them");
  return client;
}

/** Ends that are no failure. */
const WELL = ["completed", "cancelled"];

/**
 * What the end of a run says to who waits for more.
 * @param {StreamState["end"]} end
 * @returns {StreamState["error"]}
 */
const failure = (end) =>
  end && !WELL.includes(end.reason)
    ? { code: end.reason, message: end.message ?? end.reason, retryable: end.reason === "producer_lost" }
    : null;

/** Longer than a page that is busy takes for a frame: one that is shown may paint none all the same. */
const NO_FRAME = 1_000;

/**
 * With the next frame; or soon, as a hidden page has no frames, nor one that is hidden by then.
 * @param {() => void} act
 */
function frame(act) {
  // React Native has frames and no document.
  const shown = globalThis.document?.visibilityState === "visible";
  const paints = shown && typeof requestAnimationFrame === "function";
  let done = false;
  const once = () => {
    if (done) return;
    done = true;
    clearTimeout(timer);
    if (paints) document.removeEventListener("visibilitychange", once);
    act();
  };
  const timer = setTimeout(once, paints ? NO_FRAME : 16);
  if (!paints) return;
  requestAnimationFrame(once);
  document.addEventListener("visibilitychange", once);
}

/**
 * One stream as a store for `useSyncExternalStore`.
 * @param {import("./client.js").Client} client
 * @param {string | null} name
 * @param {HookOptions} options
 */
function createStore(client, name, { text: of = textOf, ...options }) {
  /** @type {import("./reader.js").Reader | null} */
  let reader = null;
  const cancel = async () => (reader ? reader.cancel() : { reason: null });
  /** What ended the reading, if something did. @type {StreamState["error"]} */
  let broken = null;
  const retry = () => {
    if (broken && listeners.size) void read();
  };
  /** @type {StreamState} */
  const blank = { run: null, text: "", chunks: [], status: "idle", end: null, error: null, cancel, retry };
  let shown = blank;
  /** @type {Json[]} */
  let chunks = [];
  let draft = blank;
  let changed = false;
  let planned = false;
  const listeners = new Set();

  const plan = () => {
    if (planned) return;
    planned = true;
    frame(() => {
      planned = false;
      // A copy each frame, so that a snapshot never changes under a render that is going on.
      shown = { ...draft, chunks: changed ? chunks.slice() : shown.chunks };
      changed = false;
      for (const listener of listeners) listener();
    });
  };

  /** @param {import("./reader.js").StreamEvent} event */
  const take = (event) => {
    // A run that could not be continued may be shown again from its start.
    if (event.run !== draft.run || event.type === "open") {
      chunks = [];
      changed = true;
      draft = { ...blank, run: event.run, status: draft.status };
    }
    if (event.type === "chunk") {
      chunks.push(event.chunk);
      changed = true;
      draft = { ...draft, text: draft.text + of(event.chunk) };
    } else if (event.type === "end") {
      const end = { reason: event.reason, message: event.message };
      draft = { ...draft, end, error: failure(end) };
    }
    if (event.type !== "end" && draft.end) draft = { ...draft, end: null, error: null };
    plan();
  };

  const read = async () => {
    if (name === null) return;
    // What ended the reading before is over.
    broken = null;
    draft = { ...draft, error: failure(draft.end) };
    plan();
    try {
      const mine = client.stream(name, { ...options, after: reader?.cursor ?? options.after });
      reader = mine;
      for await (const event of mine.events()) take(event);
    } catch (error) {
      // What is no error of ours is thrown by `text`.
      const { code = "invalid", message, retryable = false } = /** @type {any} */ (error);
      broken = { code, message, retryable };
      draft = { ...draft, error: broken };
      plan();
    }
  };

  return {
    get: () => shown,
    server: () => blank,
    /** @param {() => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      const over = draft.end && !options.follow && draft.end.reason !== "producer_lost";
      if (listeners.size === 1 && !over) void read();
      const stop = client.subscribe((status) => {
        draft = { ...draft, status };
        plan();
      });
      draft = { ...draft, status: client.status };
      plan();
      return () => {
        listeners.delete(listener);
        stop();
        if (listeners.size === 0) reader?.close();
      };
    },
  };
}

/**
 * The stream's current run (or with `run`, `after`, `follow`: see `client.stream`) as state.
 * To unmount is to stop watching, never to cancel. With a null name nothing is read.
 * @param {string | null} name
 * @param {HookOptions} [options]
 * @returns {StreamState}
 */
export function useStream(name, options = {}) {
  const client = useTailrace();
  const { run, after, follow, smooth, compact } = options;
  // Options are compared by what they say: a new object at each render is no new stream.
  const key = JSON.stringify([run, after, follow, smooth, compact]);
  const store = useMemo(() => createStore(client, name, options), [client, name, key]);
  return useSyncExternalStore(store.subscribe, store.get, store.server);
}
