/** The page's parts, and manners: nobody's focus or place in the text is taken away. */

/** @param {string} id of an element that is in index.html */
export const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Whether the reader follows the text: then what grows below must not be hidden. */
export function isAtEnd() {
  const { top } = $("end").getBoundingClientRect();
  return top < $("composer").getBoundingClientRect().top + 120;
}

export const scrollToEnd = () => $("end").scrollIntoView({ block: "end" });

/**
 * The line below the answer, or none.
 * @param {string} text
 * @param {string} [tone]
 */
export function outcome(text, tone = "") {
  const follows = isAtEnd();
  $("outcome").hidden = !text;
  $("outcome").dataset.tone = tone;
  $("outcome-text").textContent = text;
  if (follows && text) scrollToEnd();
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
