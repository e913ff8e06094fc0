/**
 * The strip: every piece is a line from when it was written, through when it was stored, to
 * when it was shown. Time goes to the right; a steep line was fast.
 *
 * Only a picture: what it shows is also in the page's tables and in its event list.
 */

/** @typedef {import("./hops.js").Piece} Piece */

const PIXELS_PER_SECOND = 64;
/** @type {["written" | "stored" | "shown", string][]} */
const RAILS = [
  ["written", "written"],
  ["stored", "stored"],
  ["shown", "shown"],
];
const TOP = 18;
const BOTTOM = 34;
const LABELS = 64;
/** Between two labels of marks. */
const APART = 8;
/** The picture stands still when nothing happens any more, so that it can be looked at. */
const AFTERWARDS = 2_500;
/** How often a picture is drawn for those who want no motion, in milliseconds. */
const CALM = 500;

/**
 * Where the labels of marks go: above their lines, and not over each other. What has no room of
 * its own is said with the one before.
 * @param {{column: number, label: string}[]} marks from left to right
 * @param {(text: string) => number} width of a text
 * @param {number} room
 * @returns {{text: string, start: number}[]}
 */
export function layOut(marks, width, room) {
  /** @type {{column: number, text: string, start: number, end: number}[]} */
  const labels = [];
  for (let { column, label: text } of marks) {
    for (;;) {
      const start = Math.min(column - 2, room - width(text));
      const before = labels.at(-1);
      if (!before || before.end + APART <= start) {
        labels.push({ column, text, start, end: start + width(text) });
        break;
      }
      labels.pop();
      column = before.column;
      text = `${before.text}, ${text}`;
    }
  }
  return labels;
}

export class Flow {
  #canvas;
  #now;
  /** @type {Piece[]} */ #pieces = [];
  /** @type {{at: number, label: string}[]} */ #marks = [];
  /** @type {{at: number, status: string}[]} */ #statuses = [];
  /** @type {Record<string, string>} */ #colours = {};
  #drawing = false;
  #running = false;
  #until = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => number} now AWS time, ms
   */
  constructor(canvas, now) {
    this.#canvas = canvas;
    this.#now = now;
    this.#readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#readColours();
      this.wake();
    });
    new ResizeObserver(() => this.wake()).observe(canvas);
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /** @param {Piece} piece */
  add(piece) {
    this.#pieces.push(piece);
    this.wake();
  }

  /** @param {string} label of something that happened now */
  mark(label) {
    this.#marks.push({ at: this.#now(), label });
    this.wake();
  }

  /** @param {string} status of the connection, from now on */
  status(status) {
    this.#statuses.push({ at: this.#now(), status });
    this.wake();
  }

  /** @param {boolean} running whether more is expected */
  set running(running) {
    this.#running = running;
    if (running) this.wake();
  }

  /** Draws, and goes on while there is something to wait for. */
  wake() {
    this.#until = this.#now() + AFTERWARDS;
    if (!this.#drawing) {
      this.#drawing = true;
      this.#schedule();
    }
  }

  get #span() {
    return ((this.#canvas.clientWidth - LABELS) / PIXELS_PER_SECOND) * 1000;
  }

  #schedule() {
    const next = () => {
      this.#draw();
      this.#drawing = !document.hidden && (this.#running || this.#now() < this.#until);
      if (this.#drawing) this.#schedule();
    };
    if (this.#still.matches) setTimeout(next, CALM);
    else requestAnimationFrame(next);
  }

  #readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["ink", "muted", "line", "surface", "live", "replay", "repair", "lost"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    const pen = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);

    const now = this.#now();
    const from = now - this.#span;
    this.#pieces = this.#pieces.filter(({ shown }) => shown >= from);
    this.#marks = this.#marks.filter(({ at }) => at >= from);
    // The status before the first that is seen is seen too.
    while (this.#statuses.length > 1 && this.#statuses[1].at < from) this.#statuses.shift();

    const x = (/** @type {number} */ at) => width - ((now - at) / 1000) * PIXELS_PER_SECOND;
    const y = (/** @type {number} */ rail) => TOP + ((height - TOP - BOTTOM) * rail) / (RAILS.length - 1);

    pen.save();
    pen.beginPath();
    pen.rect(LABELS, 0, width - LABELS, height);
    pen.clip();
    this.#drawSeconds(pen, x, height, from, now);
    this.#drawRails(pen, y, width);
    this.#drawPieces(pen, x, y);
    this.#drawStatuses(pen, x, height - 12, now);
    this.#drawMarks(pen, x, height);
    pen.restore();
    this.#drawLabels(pen, y, height);
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {(at: number) => number} x
   * @param {number} height
   * @param {number} from
   * @param {number} now
   */
  #drawSeconds(pen, x, height, from, now) {
    pen.strokeStyle = this.#colours.line;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let at = Math.ceil(from / 1000) * 1000; at < now; at += 1000) {
      const column = Math.round(x(at)) + 0.5;
      pen.moveTo(column, TOP);
      pen.lineTo(column, height - BOTTOM);
    }
    pen.globalAlpha = 0.6;
    pen.stroke();
    pen.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {(rail: number) => number} y
   * @param {number} width
   */
  #drawRails(pen, y, width) {
    pen.strokeStyle = this.#colours.line;
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const rail of RAILS.keys()) {
      pen.moveTo(LABELS, y(rail));
      pen.lineTo(width, y(rail));
    }
    pen.stroke();
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {(at: number) => number} x
   * @param {(rail: number) => number} y
   */
  #drawPieces(pen, x, y) {
    pen.lineWidth = 1.25;
    for (const via of /** @type {const} */ (["live", "replay", "repair"])) {
      const pieces = this.#pieces.filter((piece) => piece.via === via);
      pen.strokeStyle = pen.fillStyle = this.#colours[via];
      // A replay is a fan of lines from one point, which would be solid.
      pen.globalAlpha = via === "live" ? 0.55 : 0.28;
      pen.beginPath();
      for (const piece of pieces) {
        pen.moveTo(x(piece.written), y(0));
        // A replayed record may have been merged with later ones, whose time it then bears.
        if (via === "live") pen.lineTo(x(piece.stored), y(1));
        pen.lineTo(x(piece.shown), y(2));
      }
      pen.stroke();
      pen.globalAlpha = 1;
      for (const piece of pieces) {
        for (const [rail, [when]] of RAILS.entries()) {
          if (when === "stored" && via !== "live") continue;
          pen.fillRect(x(piece[when]) - 1, y(rail) - 2.5, 2, 5);
        }
      }
    }
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {(at: number) => number} x
   * @param {number} row
   * @param {number} now
   */
  #drawStatuses(pen, x, row, now) {
    for (const [index, { at, status }] of this.#statuses.entries()) {
      const colour = { live: "live", replaying: "replay", offline: "lost", closed: "lost" }[status] ?? "muted";
      pen.fillStyle = this.#colours[colour];
      pen.globalAlpha = status === "idle" ? 0.25 : 0.9;
      const end = this.#statuses[index + 1]?.at ?? now;
      pen.fillRect(x(at), row - 3, Math.max(1, x(end) - x(at)), 5);
    }
    pen.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {(at: number) => number} x
   * @param {number} height
   */
  #drawMarks(pen, x, height) {
    pen.font = `11px ${getComputedStyle(this.#canvas).fontFamily}`;
    pen.textBaseline = "alphabetic";
    pen.textAlign = "left";
    pen.strokeStyle = pen.fillStyle = this.#colours.ink;
    pen.setLineDash([3, 3]);
    pen.globalAlpha = 0.5;
    const marks = this.#marks.map(({ at, label }) => ({ column: Math.round(x(at)) + 0.5, label }));
    pen.beginPath();
    for (const { column } of marks) {
      pen.moveTo(column, TOP - 4);
      pen.lineTo(column, height - 8);
    }
    pen.stroke();
    pen.globalAlpha = 1;
    pen.setLineDash([]);
    const width = (/** @type {string} */ text) => pen.measureText(text).width;
    for (const { text, start } of layOut(marks, width, this.#canvas.clientWidth)) pen.fillText(text, start, 11);
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {(rail: number) => number} y
   * @param {number} height
   */
  #drawLabels(pen, y, height) {
    pen.font = `12px ${getComputedStyle(this.#canvas).fontFamily}`;
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    pen.fillStyle = this.#colours.muted;
    for (const [rail, [, label]] of RAILS.entries()) pen.fillText(label, 0, y(rail));
    pen.fillText("socket", 0, height - 13);
  }
}
