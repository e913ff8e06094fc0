/** The demo's page: wires a stream to what is seen, and the buttons to what can go wrong. */
import { createClient, textOf } from "/tailrace/index.js";
import { Answer } from "./answer.js";
import * as backend from "./api.js";
import { Flow } from "./flow.js";
import { summary } from "./hops.js";
import { Journal } from "./journal.js";
import { Network } from "./network.js";
import { $, enable, follow, hide, outcome, scrollToEnd, showHops } from "./screen.js";

/** @typedef {import("/tailrace/index.js").StreamEvent} StreamEvent */

const input = /** @type {HTMLInputElement} */ ($("input"));

const network = new Network();
const journal = new Journal($("journal"), $("voice"));
const answer = new Answer($("answer"));
/** @type {import("/tailrace/index.js").Client} */ let client;
/** @type {Flow} */ let flow;
/** @type {{url: string, stream: string, questions: string[], lease: number}} */ let session;
/** @type {import("/tailrace/index.js").Reader | undefined} */ let reader;

/** What is shown: one run, or none yet. */
const view = {
  /** @type {string | null} */ run: null,
  /** @type {string | null} asked for here, and not opened yet */ awaited: null,
  active: false,
  /** @type {string | null} how it ended */ reason: null,
  killed: false,
  lastAt: 0,
  count: { live: 0, replay: 0, repair: 0 },
  /** @type {import("./hops.js").Piece[]} */ pieces: [],
};

/** @type {(StreamEvent & {type: "chunk"})[]} not on the screen yet */
let waiting = [];

const ASLEEP = 4_000;

const STATUS = {
  idle: "Idle",
  connecting: "Connecting",
  replaying: "Catching up",
  live: "Live",
  offline: "Offline",
  closed: "Closed",
};

// --- reading -----------------------------------------------------------------

/** Reads for as long as the page lives; anew, from its cursor, when its options change. */
async function watch() {
  for (;;) {
    const smooth = /** @type {HTMLInputElement} */ ($("smooth")).checked;
    // Without a cursor the current run is read from its start: a reload needs no memory.
    reader = client.stream(session.stream, { follow: true, smooth, after: reader?.cursor });
    for await (const event of reader.events()) show(event);
  }
}

/** @param {StreamEvent} event */
function show(event) {
  if (event.type === "chunk") {
    waiting.push(event);
    if (waiting.length === 1) whenPainted(paint);
    return;
  }
  paint();
  if (event.seq !== null) $("fact-seq").textContent = String(event.seq);
  if (event.type === "open") begin(event);
  if (event.type === "claim") goOn(event);
  if (event.type === "end") conclude(event);
}

/** @param {StreamEvent & {type: "open"}} event */
function begin(event) {
  // A run that was stopped before its job began was opened by who stopped it, who knows no question.
  const asked = view.awaited === null ? null : $("question").textContent;
  Object.assign(view, {
    run: event.run,
    awaited: null,
    active: true,
    reason: null,
    killed: false,
    lastAt: client.time(),
    count: { live: 0, replay: 0, repair: 0 },
    pieces: [],
  });
  answer.clear();
  $("question").textContent = String(event.meta?.question ?? asked ?? "An answer without a question");
  $("fact-run").textContent = event.run;
  journal.note(event.via === "live" ? "A run was opened" : "The run is read from its start", event.via ?? "");
  journal.say("The answer begins.");
  refresh();
}

/** @param {StreamEvent & {type: "claim"}} event */
function goOn(event) {
  Object.assign(view, { active: true, reason: null, killed: false, lastAt: client.time() });
  journal.note(`Another attempt has claimed the run (epoch ${event.epoch})`, "live");
  journal.say("The answer goes on.");
  refresh();
}

/** @param {StreamEvent & {type: "end"}} event */
function conclude(event) {
  Object.assign(view, { active: false, reason: event.reason });
  const pieces = total();
  const seconds = ((event.at ?? client.time()) - namedAt(event.run)) / 1000;
  const [text, tone] = {
    completed: [`Complete: ${pieces} pieces in ${seconds.toFixed(1)} s, each of them once.`, "live"],
    cancelled: ["Stopped, for everyone who watches, and for the job.", ""],
    superseded: ["Another answer has taken its place.", ""],
    producer_lost: ["The job is presumed dead. What it wrote is safe.", "lost"],
    expired: ["The rest is no longer kept.", "lost"],
    error: [event.message || "The job has failed.", "lost"],
  }[event.reason] ?? [`Ended: ${event.reason}.`, ""];
  hide("redeliver", event.reason !== "producer_lost");
  outcome(text, tone);
  journal.note(`end/${event.reason}`, tone);
  journal.say(event.reason === "completed" ? `The answer is complete: ${words(answer.text)} words.` : text);
  refresh();
}

/**
 * When the question was asked (ms): a UUIDv7 begins with it. After a reload the events do not tell,
 * since what is read from the log has the time of the last record read with it.
 *
 * @param {string} run
 */
const namedAt = (run) => Number.parseInt(run.replace("-", "").slice(0, 12), 16);

/** The pieces that have come since the last frame. */
function paint() {
  if (!waiting.length) return;
  const events = waiting;
  waiting = [];
  for (const event of events) {
    const via = event.via ?? "live";
    answer.append(textOf(event.chunk), via, event.received);
    view.count[via]++;
  }
  follow();
  const { seq } = events[events.length - 1];
  $("fact-seq").textContent = String(seq);
  view.lastAt = client.time();
  // Read in the frame after the one that draws it: then it can be seen.
  whenPainted(() => {
    const shown = client.time();
    for (const { seq, via, at, received, chunk } of events) {
      const stored = at ?? received;
      const written = /** @type {{at?: number}} */ (chunk)?.at ?? stored;
      const piece = { seq: seq ?? 0, via: via ?? "live", written, stored, received, shown };
      view.pieces.push(piece);
      flow.add(piece);
    }
    refreshSoon();
  });
}

/** @param {() => void} act before the next frame; at once where none will come */
function whenPainted(act) {
  if (document.hidden) queueMicrotask(act);
  else requestAnimationFrame(act);
}

// --- what is seen ------------------------------------------------------------

const total = () => view.count.live + view.count.replay + view.count.repair;
const words = (/** @type {string} */ text) => text.split(/\s+/).filter(Boolean).length;

const ended = () => ({ completed: "Answered", cancelled: "Stopped", superseded: "Replaced" })[view.reason ?? ""] ?? "Broken off";

let soon = false;

/** Numbers that change forty times a second cannot be read. */
function refreshSoon() {
  if (soon) return;
  soon = true;
  setTimeout(() => {
    soon = false;
    refresh();
  }, 200);
}

function refresh() {
  const { active, awaited, run } = view;
  const busy = active || awaited !== null;
  const fresh = run === null && awaited === null;
  $("intro").hidden = !fresh;
  $("composer").classList.toggle("fresh", fresh);
  $("answer").setAttribute("aria-busy", String(busy));
  $("eyebrow").textContent = awaited !== null ? "A job is being started" : active ? "Being written now" : run ? ended() : "A demonstration";
  flow.running = busy;
  hide("stop", !busy);
  hide("submit", busy);
  enable("kill", active && !view.killed);
  for (const id of ["cut", "drop", "expire"]) enable(id, network.connected);
  $("fact-pieces").textContent = run ? `${total()}` : "–";
  for (const via of /** @type {const} */ (["live", "replay", "repair"])) $(`count-${via}`).textContent = String(view.count[via]);
  showHops(summary(view.pieces));
  if (active) refreshSilence();
  if (busy && !active) outcome("");
}

/** A pause of the model and a dead job look alike, and so the page says what it knows. */
function refreshSilence() {
  const silent = Math.floor((client.time() - view.lastAt) / 1000);
  $("answer").classList.toggle("quiet", silent >= 3);
  if (view.killed) {
    outcome(`The job was killed, and nobody knows. Its lease is ${session.lease} s; whoever looks after that finds it dead, and this page looks every 25 s.`, "lost");
  } else {
    outcome(silent >= 3 ? `Nothing new for ${silent} s.` : "");
  }
}

/** @param {import("/tailrace/index.js").Status} status */
function showStatus(status) {
  const before = $("status").dataset.status;
  $("status").dataset.status = status;
  $("status-word").textContent = STATUS[status];
  flow.status(status);
  if (status === "offline") journal.say("Offline.");
  if (status === "live" && before !== "idle") journal.say("Connected.");
  if (status === "closed") fail(client.error);
  refresh();
}

/** @param {unknown} error that ends what was being done */
function fail(error) {
  const text = error instanceof Error ? error.message : String(error);
  outcome(text, "lost");
  journal.note(text, "lost");
  journal.say(text);
}

// --- what happens on the wire --------------------------------------------------

let lost = 0;

/** @param {import("./network.js").Trace} trace */
function trace(trace) {
  if (trace.type === "opened") journal.note("Connected");
  if (trace.type === "closed") journal.note(trace.code === 1000 ? "Connection closed" : `Connection lost (${trace.code})`, trace.code === 1000 ? "" : "lost");
  if (trace.type === "dropped") {
    lost++;
    journal.note(`Lost on the way: seq ${trace.frame.seq} to ${trace.frame.next - 1}`, "lost");
  }
  if (trace.type === "sent" && trace.frame.type === "subscribe" && lost > 0) {
    lost = 0;
    journal.note(`Asked for what follows seq ${trace.frame.after ?? 0}`, "repair");
  }
  if (trace.type === "received") {
    const { frame } = trace;
    if (frame.type === "authorized") journal.note("Token renewed on the living connection", "live");
    if (frame.type === "error") journal.note(`Refused: ${frame.code}`, "lost");
    if (frame.type === "slice" && frame.replay) {
      journal.note(`Read from the log: seq ${frame.seq} to ${frame.next - 1}`, "replay");
    }
  }
  refreshSoon();
}

// --- what can be done ----------------------------------------------------------

/** The question that is on its way to its job. @type {Promise<string> | null} */
let asking = null;

/** @param {string} question */
async function ask(question) {
  if (!question.trim()) return;
  input.value = "";
  answer.clear();
  view.awaited = "";
  $("question").textContent = question;
  hide("redeliver", true);
  scrollToEnd();
  refresh();
  /** @type {Promise<string> | undefined} */
  let mine;
  try {
    const run = await (asking = mine = backend.ask(question));
    // Its opening may have come before this answer.
    if (view.awaited !== null && view.run !== run) view.awaited = run;
    journal.note("A job was started");
  } catch (error) {
    view.awaited = null;
    refresh();
    fail(error);
  } finally {
    if (asking === mine) asking = null;
  }
}

async function stop() {
  flow.mark("stop");
  journal.note("Stop");
  // A run that is not known yet is stopped as soon as it is; if it never is, `ask` tells.
  const run = asking ? await asking.catch(() => null) : (view.awaited ?? view.run);
  if (!run) return;
  const { reason } = await client.stream(session.stream, { run }).cancel();
  journal.note(`The run has ended: ${reason}`);
}

/** As if the lid had been closed for an hour: the server finds the token expired, and is silent. */
async function expire() {
  network.replaceToken(await backend.fetchToken(1));
  network.asleep = true;
  flow.mark("token expires");
  journal.note("The page sleeps, and its token expires", "lost");
  setTimeout(() => {
    flow.mark("wakes up");
    journal.note("The page wakes up");
    network.asleep = false;
  }, ASLEEP);
}

async function kill() {
  if (!view.run) return;
  if (!(await backend.killJob(view.run))) {
    journal.note("The job was through already");
    return;
  }
  view.killed = true;
  flow.mark("job killed");
  journal.note("The job was killed", "lost");
  refresh();
}

async function redeliver() {
  if (!view.run) return;
  hide("redeliver", true);
  flow.mark("delivered again");
  journal.note("The job is delivered again");
  if (!(await backend.redeliver(view.run))) throw new Error("The server does not know this job any more.");
}

function toggleOffline() {
  network.online = !network.online;
  $("offline").setAttribute("aria-pressed", String(!network.online));
  /** @type {HTMLElement} */ ($("offline").querySelector("b")).textContent = network.online ? "Go offline" : "Come back";
  flow.mark(network.online ? "online" : "offline");
  journal.note(network.online ? "Online again" : "Offline", network.online ? "" : "lost");
  refresh();
}

/**
 * @param {string} id of a button
 * @param {() => void | Promise<void>} act
 */
function onClick(id, act) {
  $(id).addEventListener("click", async () => {
    if ($(id).getAttribute("aria-disabled") === "true") return;
    try {
      await act();
    } catch (error) {
      fail(error);
    }
  });
}

function listen() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    void ask(input.value);
  });
  // Until here nobody would have heard the question.
  for (const id of ["input", "submit"]) $(id).removeAttribute("disabled");
  for (const question of session.questions) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = question;
    button.addEventListener("click", () => void ask(question));
    const item = document.createElement("li");
    item.append(button);
    $("suggestions").append(item);
  }
  onClick("stop", stop);
  onClick("redeliver", redeliver);
  onClick("kill", kill);
  onClick("expire", expire);
  onClick("offline", toggleOffline);
  onClick("reload", () => location.reload());
  onClick("cut", () => {
    flow.mark("cut");
    network.cut();
  });
  onClick("drop", () => {
    flow.mark("5 dropped");
    network.drop(5);
  });
  $("mark").addEventListener("change", ({ target }) => {
    $("answer").classList.toggle("marked", /** @type {HTMLInputElement} */ (target).checked);
  });
  $("smooth").addEventListener("change", () => reader?.close());
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && !$("stop").hidden) $("stop").click();
  });
  setInterval(() => view.active && refreshSilence(), 1_000);
}

async function main() {
  session = await backend.openSession();
  client = createClient({
    url: session.url,
    token: () => backend.fetchToken(),
    // The local AWS echoes no subprotocol.
    handshake: "query",
    page: network.page,
  });
  flow = new Flow(/** @type {HTMLCanvasElement} */ ($("flow")), () => client.time());
  $("fact-stream").textContent = session.stream;
  network.ontrace = trace;
  client.subscribe(showStatus);
  listen();
  refresh();
  await watch();
}

main().catch(fail);
