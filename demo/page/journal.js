/** What happened: a list to read, and a voice for those who listen. */

const KEPT = 60;
/** A screen reader says one thing at a time: what comes sooner than this replaces it. */
const PAUSE = 700;

export class Journal {
  #list;
  #voice;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /**
   * @param {HTMLElement} list an `ol`; the newest comes first
   * @param {HTMLElement} voice a polite live region
   */
  constructor(list, voice) {
    this.#list = list;
    this.#voice = voice;
  }

  /**
   * @param {string} what
   * @param {string} [tone] `live`, `replay`, `repair`, `lost`
   */
  note(what, tone = "") {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const now = new Date();
    time.dateTime = now.toISOString();
    time.textContent = now.toLocaleTimeString([], { hour12: false });
    const text = document.createElement("span");
    text.textContent = what;
    item.dataset.tone = tone;
    item.append(time, text);
    this.#list.prepend(item);
    while (this.#list.childElementCount > KEPT) this.#list.lastElementChild?.remove();
  }

  /**
   * Says it to a screen reader. The text itself is not read out as it grows: it can be read
   * at one's own pace, and nobody can listen to forty pieces a second.
   * @param {string} what
   */
  say(what) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#voice.textContent = what;
    }, PAUSE);
  }
}
