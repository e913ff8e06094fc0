/**
 * The time that passes here, and timers; a test gives a clock of its own.
 *
 * @typedef {object} Clock
 * @property {() => number} now milliseconds; must never go back
 * @property {(act: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 */

/** @type {Clock} */
export const CLOCK = {
  now: () => performance.now(),
  setTimeout: (act, ms) => setTimeout(act, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};
