/** A virtual clock with timers, for the client, the server and the network alike. */
export class VirtualClock {
  #now = 0;
  #ids = 0;
  /** @type {Map<number, {at: number, act: () => void}>} */
  #timers = new Map();

  now = () => this.#now;

  setTimeout = (act, ms) => {
    this.#timers.set(++this.#ids, { at: this.#now + Math.max(0, ms), act });
    return this.#ids;
  };

  clearTimeout = (id) => void this.#timers.delete(id);

  /** Fires the next timer that is due by `until`; answers whether there was one. */
  #fire(until) {
    let first = null;
    for (const [id, { at }] of this.#timers) {
      if (at <= until && (first === null || at < this.#timers.get(first).at)) first = id;
    }
    if (first === null) return false;
    const { at, act } = this.#timers.get(first);
    this.#timers.delete(first);
    this.#now = Math.max(this.#now, at);
    act();
    return true;
  }

  /** Lets `ms` pass, firing what is due on the way. */
  advance(ms) {
    const until = this.#now + ms;
    for (let fired = 0; this.#fire(until); fired++) {
      if (fired > 1_000_000) throw new Error("timers without end");
    }
    this.#now = until;
  }

  /** As `advance`, and lets promises settle after each timer. */
  async run(ms) {
    const until = this.#now + ms;
    await settle();
    while (this.#fire(until)) await settle();
    this.#now = until;
    await settle();
  }

  /** Time passes while nothing runs, as in a laptop that sleeps. */
  sleep(ms) {
    this.#now += ms;
  }

  get pending() {
    return this.#timers.size;
  }
}

/** Lets all promises settle that wait for nothing but each other. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Numbers in [0, 1) from a seed (mulberry32).
 * @param {number} seed
 */
export function seeded(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
