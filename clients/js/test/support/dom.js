/** A light DOM, with frames that come when the test says so. */
import { Window } from "happy-dom";

const window = new Window({ url: "https://example.test/" });
const frames = [];

// Newer Nodes have a navigator of their own, which does as well.
if (!globalThis.navigator) globalThis.navigator = window.navigator;
Object.assign(globalThis, {
  window,
  document: window.document,
  IS_REACT_ACT_ENVIRONMENT: true,
  requestAnimationFrame: (act) => frames.push(act),
});

/** Paints: runs what asked for a frame. */
export function frame() {
  for (const act of frames.splice(0)) act();
}
