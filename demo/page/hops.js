/**
 * Where the time goes between the model and the eye. Pure.
 *
 * @typedef {object} Piece One chunk, and when it was where: milliseconds of AWS time.
 * @property {number} seq
 * @property {"live" | "replay" | "repair"} via
 * @property {number} written by the model, as the job says
 * @property {number} stored in the log
 * @property {number} received by this page
 * @property {number} shown
 */

const HOPS = /** @type {const} */ ([
  ["written", "stored", "Gather and publish"],
  ["stored", "received", "Change feed and push"],
  ["received", "shown", "Client and screen"],
]);

/**
 * @param {number[]} sorted
 * @param {number} share
 */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/**
 * For each hop, what half and what nine tenths of the live pieces took at most. A replayed
 * piece waited for its reader, which says nothing about the way.
 * @param {Piece[]} pieces
 * @returns {{name: string, half: number, most: number}[]} empty if nothing came live
 */
export function summary(pieces) {
  const live = pieces.filter(({ via }) => via === "live");
  if (!live.length) return [];
  return HOPS.map(([from, to, name]) => {
    // Clocks of two machines may disagree by more than a hop takes.
    const took = live.map((piece) => Math.max(0, piece[to] - piece[from])).sort((a, b) => a - b);
    return { name, half: quantile(took, 0.5), most: quantile(took, 0.9) };
  });
}
