/**
 * The text of an answer, as it grows. What the model wrote is text and only text: it enters
 * the page through text nodes.
 */

export class Answer {
  #root;
  /** @type {HTMLElement | null} */ #paragraph = null;
  /** @type {HTMLElement | null} */ #span = null;
  /** @type {unknown} */ #group = null;
  #newlines = 0;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  clear() {
    this.#root.replaceChildren();
    this.#paragraph = this.#span = this.#group = null;
    this.#newlines = 0;
  }

  /**
   * @param {string} text
   * @param {string} via by which way it came
   * @param {unknown} group pieces of one group, which came together, share an element
   */
  append(text, via, group) {
    for (const part of text.match(/\n+|[^\n]+/g) ?? []) {
      if (part.startsWith("\n")) this.#newlines += part.length;
      else this.#write(part, via, group);
    }
  }

  /**
   * @param {string} text
   * @param {string} via
   * @param {unknown} group
   */
  #write(text, via, group) {
    // An empty line may come in two pieces, so what a line break means shows behind it.
    if (!this.#paragraph || this.#newlines > 1) {
      this.#paragraph = document.createElement("p");
      this.#root.append(this.#paragraph);
      this.#span = null;
    } else if (this.#newlines === 1) {
      text = `\n${text}`;
    }
    this.#newlines = 0;
    if (!this.#span || this.#group !== group) {
      this.#span = document.createElement("span");
      this.#span.dataset.via = via;
      this.#group = group;
      this.#paragraph.append(this.#span);
    }
    this.#span.append(text);
  }

  get text() {
    return [...this.#root.children].map((paragraph) => paragraph.textContent).join("\n\n");
  }
}
