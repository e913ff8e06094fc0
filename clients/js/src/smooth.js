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
 * @property {() => boolean} over nothing more will come
 * @property {() => Promise<unknown>} arrival settles when there may be more
 * @property {() => Promise<IteratorResult<StreamEvent>>} next
 */

/** Milliseconds that a chunk may be late. */
export const LATE = 500;
/** Between two looks. */
const FRAME = 16;

/**
 * @param {Source} source
 * @param {Pacer} pacer
 * @param {number} rate characters a second; 0: as even as the arrivals allow
 * @param {(chunk: import("./types.js").Json) => string} textOf
 * @returns {{next: () => Promise<IteratorResult<StreamEvent>>}}
 */
export function smoothed(source, pacer, rate, textOf) {
  /** @type {{event: StreamEvent, weight: number, due: number}[]} */
  const queue = [];
  let backlog = 0;
  let ends = 0;
  let credit = 0;
  let pace = 0;
  let gap = 0;
  let looked = pacer.now();
  let arrived = looked;

  /** @param {number} now */
  function drain(now) {
    const idle = queue.length === 0;
    const before = backlog;
    for (let event = source.pull(); event; event = source.pull()) {
      // What is read from the log was late before it came.
      const weight =
        event.type === "chunk" && event.via === "live" ? Math.max(1, textOf(event.chunk).length) : 0;
      queue.push({ event, weight, due: now + LATE });
      backlog += weight;
      if (event.type === "end") ends++;
    }
    if (backlog === before) return;
    // What waits now is spread over the time until more may be expected.
    gap = Math.min(LATE - 2 * FRAME, Math.max(now - arrived, gap * 0.9));
    arrived = now;
    pace = rate ? rate / 1000 : backlog / Math.max(gap, FRAME);
    if (idle) credit = queue[0].weight;
  }

  return {
    async next() {
      for (;;) {
        const now = pacer.now();
        credit += (now - looked) * pace;
        looked = now;
        // Where the reader is too slow the rest waits in the source, which asks for no more.
        if (!queue.length || now < queue[0].due) drain(now);
        const [head] = queue;
        if (!head) {
          if (source.over()) return source.next();
          await source.arrival();
          continue;
        }
        const free = head.weight === 0 || ends > 0 || source.over() || pacer.hidden();
        if (free || credit >= head.weight || now >= head.due) {
          queue.shift();
          credit = Math.max(0, credit - head.weight);
          backlog -= head.weight;
          if (head.event.type === "end") ends--;
          return { done: false, value: head.event };
        }
        await pacer.wait(Math.min(FRAME, head.due - now));
      }
    },
  };
}
