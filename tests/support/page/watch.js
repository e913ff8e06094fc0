/** Watches streams with the client, and keeps what came, for a test to look at. */
import { createClient } from "/tailrace/index.js";

const KEPT = "kept";

/**
 * @typedef {object} Seen
 * @property {any[]} chunks
 * @property {number[]} seqs
 * @property {string[]} ways
 * @property {string[]} ends
 * @property {number} count of runs that have ended
 * @property {boolean} over
 * @property {{code: string, retryable: boolean} | null} error
 */

/** @type {Record<string, Seen>} */
const seen = {};
/** @type {string[]} */
const statuses = [];
/** @type {import("/tailrace/index.js").Client} */
let client;

/** @param {{url: string, handshake?: "query" | "subprotocol"}} options */
function connect(options) {
  // `mint` is the test's: it stands for a backend.
  client = createClient({ token: () => globalThis.mint(), ...options });
  client.subscribe((status) => statuses.push(status));
}

/**
 * @param {string} stream
 * @param {{follow?: boolean, run?: string, kept?: boolean, forgetful?: boolean}} [options] `kept`: over a reload,
 *   what came is kept, and the cursor with it; `forgetful`: nothing is kept but the count
 */
function watch(stream, { kept = false, forgetful = false, ...options } = {}) {
  /** @type {Seen} */
  let mine = { chunks: [], seqs: [], ways: [], ends: [], count: 0, over: false, error: null };
  let after = null;
  if (kept && sessionStorage.getItem(KEPT)) ({ mine, after } = JSON.parse(sessionStorage.getItem(KEPT) ?? ""));
  seen[stream] = mine;
  const reader = client.stream(stream, { ...options, after });

  async function read() {
    for await (const event of reader.events()) {
      if (event.type === "end") mine.count++;
      if (forgetful) continue;
      if (event.type === "chunk") {
        mine.chunks.push(event.chunk);
        mine.seqs.push(event.seq ?? 0);
        mine.ways.push(event.via ?? "");
      }
      if (event.type === "end") mine.ends.push(event.reason);
      if (kept) sessionStorage.setItem(KEPT, JSON.stringify({ mine, after: reader.cursor }));
    }
  }
  read()
    .catch((error) => {
      mine.error = { code: error.code, retryable: error.retryable };
    })
    .finally(() => {
      mine.over = true;
    });
  return reader;
}

Object.assign(globalThis, { connect, watch, seen, statuses, ready: true });
