/**
 * Shows bursts at an even pace: whole chunks, in order, each at most half a second late.
 *
 * Chunks are never cut, so that a cursor taken between two of them is exact.
 */

/**
 * @typedef {import("./reader.js").StreamEvent} StreamEvent
 *
 * @typedef {object} Pacer
 * @property {() => number} now milliseconds
 * @property {(ms: number) => Promise<void>} wait
 * @property {() => boolean} hidden nobody looks: hold nothing back
 *
 * @typedef {object} Source
 * @property {() => StreamEvent | null} pull the next event, if it is here
 * @property {boolean} over nothing more will come
 * @property {() => Promise<unknown>} arrival settles when there may be more
 * @property {() => Promise<IteratorResult<StreamEvent>>} next
 */

/** Milliseconds that a chunk may be late, and between two steps. */
export const LATE = 500;
const FRAME = 16;

/**
 * @param {Source} source
 * @param {Pacer} pacer
 * @param {number} rate characters a second at most; Infinity: as even as the arrivals allow
 * @param {(chunk: import("./types.js").Json) => string} textOf
 * @returns {{next: () => Promise<IteratorResult<StreamEvent>>}}
 */
export function smoothed(source, pacer, rate, textOf) {
  /** @type {{event: StreamEvent, weight: number, due: number}[]} */
  const queue = [];
  let backlog = 0;
  let credit = 0;
  let last = pacer.now();

  function drain() {
    for (let event = source.pull(); event; event = source.pull()) {
      const weight = event.type === "chunk" ? Math.max(1, textOf(event.chunk).length) : 0;
      queue.push({ event, weight, due: pacer.now() + LATE });
      backlog += weight;
    }
  }

  return {
    async next() {
      for (;;) {
        drain();
        const head = queue[0];
        if (!head) {
          if (source.over) return source.next();
          await source.arrival();
          last = pacer.now();
          credit = 0;
          continue;
        }
        const now = pacer.now();
        // Fast enough that what waits now is gone when the last of it is due.
        const pace = Math.min(backlog / LATE, rate / 1000);
        credit += (now - last) * pace;
        last = now;
        const free = head.weight === 0 || source.over || pacer.hidden();
        if (free || credit >= head.weight || now >= head.due) {
          credit = Math.max(0, credit - head.weight);
          backlog -= head.weight;
          queue.shift();
          return { done: false, value: head.event };
        }
        await pacer.wait(Math.min(FRAME, head.due - now));
      }
    },
  };
}
