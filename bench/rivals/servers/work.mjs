// The work that every server is given, for Node: as bench/rivals/work.py has it.

import readline from "node:readline";

/**
 * @typedef {{sids: string[], n: number, rate: number, start_at: number,
 *   hold?: boolean}} Job
 * @typedef {{n: number, rate: number, startAt: number}} Pace
 */

const BASE_US = Number(BigInt(process.env.BENCH_BASE_NS ?? "0") / 1000n);
const YIELD_EVERY = 50;

/** CLOCK_MONOTONIC, as Python's time.monotonic_ns reads it. */
function nowUs() {
  const [seconds, ns] = process.hrtime();
  return seconds * 1e6 + Math.floor(ns / 1000) - BASE_US;
}

/** @param {number} number */
const chunk = (number) => `{"i":${number},"t":${nowUs()}}`;

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const turn = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Emit `n` chunks at their pace.
 *
 * @param {Pace} pace
 * @param {(text: string) => void} emit
 */
export async function pace({ n, rate, startAt }, emit) {
  const wait = (startAt - nowUs()) / 1000;
  if (wait > 0) await sleep(wait);
  if (!rate) {
    for (let number = 0; number < n; number++) {
      emit(chunk(number));
      if (number % YIELD_EVERY === YIELD_EVERY - 1) await turn();
    }
    return;
  }
  let number = 0;
  while (number < n) {
    const due = Math.min(n, Math.floor(((nowUs() - startAt) * rate) / 1e6) + 1);
    while (number < due) emit(chunk(number++));
    if (number < n) {
      await sleep(Math.max(0, (startAt + (number * 1e6) / rate - nowUs()) / 1000));
    }
  }
}

/**
 * Each stream of a job, and its pace: the starts are spread over one period.
 *
 * @param {Job} job
 * @returns {[string, Pace][]}
 */
export function paces({ sids, n, rate, start_at }) {
  return sids.map((sid, place) => {
    const late = rate ? Math.floor(((place / sids.length) * 1e6) / rate) : 0;
    return [sid, { n, rate, startAt: start_at + late }];
  });
}

/**
 * Take commands as lines of JSON, until the input ends.
 *
 * @param {Record<string, (command: any) => Promise<void>>} handlers
 */
export function control(handlers) {
  const say = (/** @type {object} */ answer) =>
    process.stdout.write(JSON.stringify(answer) + "\n");
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const command = JSON.parse(line);
    try {
      await handlers[command.cmd](command);
      say({ id: command.id });
    } catch (error) {
      say({ id: command.id, error: String(error) });
    }
  });
  process.stdin.on("end", () => process.exit(0));
  say({ ready: true });
}
