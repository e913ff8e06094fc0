/** The page's parts, and manners: nobody's focus or place in the text is taken away. */

/** @param {string} id of an element that is in index.html */
export const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

function isAtEnd() {
  const { top } = $("end").getBoundingClientRect();
  return top < $("composer").getBoundingClientRect().top + 120;
}

/** Whether the reader follows the text: then what grows below must not be hidden. */
let follows = true;
let last = 0;

/** What scrolls: the stage, or in a narrow window the page. */
function scroller() {
  const stage = /** @type {Element} */ ($("end").closest(".stage"));
  return getComputedStyle(stage).overflowY === "auto" ? stage : document.documentElement;
}

const onScroll = () => {
  const { scrollTop, scrollHeight, clientHeight } = scroller();
  // Up, and not because the text became shorter: by the first pixel, or the next piece would take back who scrolls slowly.
  if (scrollTop < last) follows = scrollHeight - clientHeight - scrollTop < 2;
  else if (isAtEnd()) follows = true;
  last = scrollTop;
};
addEventListener("scroll", onScroll, { capture: true, passive: true });

export function scrollToEnd() {
  $("end").scrollIntoView({ block: "end" });
  follows = true;
  // It may have been up, from below the end.
  last = scroller().scrollTop;
}

/** Shows what has grown at the end to who follows it. */
export function follow() {
  if (follows) scrollToEnd();
}

/**
 * The line below the answer, or none.
 * @param {string} text
 * @param {string} [tone]
 */
export function outcome(text, tone = "") {
  $("outcome").hidden = !text;
  $("outcome").dataset.tone = tone;
  $("outcome-text").textContent = text;
  if (text) follow();
}

/**
 * Whoever pressed a button that goes away is taken to the answer, not to the top of the page.
 * @param {string} id
 * @param {boolean} hidden
 */
export function hide(id, hidden) {
  const focused = hidden && document.activeElement === $(id);
  $(id).hidden = hidden;
  if (focused) $("answer").focus({ preventScroll: true });
}

/**
 * Marks a button as of no use now. It keeps the focus, which a disabled one would lose.
 * @param {string} id
 * @param {boolean} enabled
 */
export function enable(id, enabled) {
  $(id).setAttribute("aria-disabled", String(!enabled));
}

/** @param {ReturnType<typeof import("./hops.js").summary>} hops */
export function showHops(hops) {
  const rows = hops.map(({ name, half, most }) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    for (const value of [half, most]) row.insertCell().textContent = `${Math.round(value)} ms`;
    return row;
  });
  $("hops").replaceChildren(...rows);
  for (const [index, part] of [...$("bar").children].entries()) {
    /** @type {HTMLElement} */ (part).style.setProperty("--share", String(hops[index]?.half ?? 0));
  }
}
