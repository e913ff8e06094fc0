/**
 * A world for the pure machine: readers, a faulty network and a server on a virtual clock.
 * `TAILRACE_SRC` names another source folder, for the mutation test.
 */
import assert from "node:assert/strict";
import { seeded, VirtualClock } from "./clock.js";
import { Server } from "./server.js";

const source = new URL(process.env.TAILRACE_SRC ?? "../../src/", import.meta.url);
const { decode } = await import(new URL("frames.js", source));
const { deadline, initial, status, step } = await import(new URL("machine.js", source));

export class World {
  clock = new VirtualClock();
  /** Everything that each reader was given. */
  shown = {};
  options = {};
  failed = {};
  settled = {};
  sent = [];
  connects = 0;
  /** Handshakes fail. */
  cut = false;
  /** Seconds for which a token is good; without it, for ever. */
  life;
  /** How often none can be had. */
  tokenless = 0;

  constructor(seed) {
    this.random = seeded(seed);
    this.server = new Server(this.clock, this.random);
    this.state = initial();
    this.sockets = new Map();
  }

  get status() {
    return status(this.state);
  }

  feed(event) {
    const { state, commands } = step(this.state, { now: this.clock.now(), random: this.random(), ...event });
    this.state = state;
    for (const command of commands) this.carryOut(command);
    this.arm();
  }

  arm() {
    const at = deadline(this.state);
    if (at === this.wakeAt) return;
    this.clock.clearTimeout(this.timer);
    this.wakeAt = at;
    if (at === Infinity) return;
    this.timer = this.clock.setTimeout(() => {
      this.wakeAt = null;
      this.feed({ type: "tick" });
    }, at - this.clock.now());
  }

  carryOut(command) {
    switch (command.type) {
      case "token":
        this.server.later(() => this.feed(this.token()));
        break;
      case "probe":
        this.server.later(() => this.feed({ type: "probed", reachable: false }));
        break;
      case "connect":
        this.connects++;
        this.server.later(() => this.open(command.socket, command.token));
        break;
      case "send":
        this.sent.push({ at: this.clock.now(), ...command.frame });
        if (this.sockets.has(command.socket))
          this.server.handle(this.sockets.get(command.socket), command.frame);
        break;
      case "close":
        this.drop(command.socket, false);
        break;
      case "deliver":
        this.shown[command.id].push(...items(command.slice, this.clock.now()));
        break;
      case "end":
        this.shown[command.id].push({ run: command.run, seq: null, item: { end: command.reason } });
        break;
      case "fail":
        this.failed[command.id] = command.error;
        break;
      case "settle":
        this.settled[command.id] = command;
        break;
    }
  }

  token() {
    if (this.server.chance(this.tokenless)) return { type: "tokenless" };
    if (!this.life) return { type: "token", token: "token" };
    const exp = Math.floor(this.server.time() / 1000) + this.life;
    return { type: "token", token: `token.${exp}`, exp };
  }

  open(socket, token) {
    if (this.cut) {
      this.feed({ type: "lost", socket });
      return;
    }
    const connection = {
      alive: true,
      receive: (frame) => this.receive(socket, JSON.stringify(frame)),
      close: () => this.drop(socket),
    };
    this.sockets.set(socket, connection);
    this.server.connect(connection, token);
    this.feed({ type: "opened", socket });
  }

  receive(socket, text) {
    const frame = decode(text);
    if (frame) this.feed({ type: "frame", socket, frame });
  }

  /** A socket closes; the client hears of it, unless it closed it itself. */
  drop(socket, tell = true) {
    const connection = this.sockets.get(socket);
    if (!connection) return;
    this.sockets.delete(socket);
    this.server.disconnect(connection);
    if (tell) this.feed({ type: "lost", socket });
  }

  dropAll() {
    for (const socket of [...this.sockets.keys()]) this.drop(socket);
  }

  /** The page or the network comes or goes. */
  page(change) {
    const { online, visible } = this.state;
    this.feed({ type: "page", online, visible, ...change });
  }

  watch(reader, options) {
    this.shown[reader] = [];
    this.options[reader] = options;
    this.feed({ type: "watch", id: reader, ...options });
  }

  /**
   * What every reader was given must be what the log says, from a beginning, in order, once.
   * With `rest`, also all of it. `rewritten`: the log was expired, deleted or made anew.
   */
  check({ rest, rewritten = false }) {
    for (const [reader, events] of Object.entries(this.shown)) {
      this.checkOne(reader, events, rest, rewritten);
    }
  }

  checkOne(reader, events, rest, rewritten) {
    const { stream, after, follow, compact } = this.options[reader];
    const { truth, tail, records } = this.server.log(stream);
    const say = (text) => `${reader}: ${text}: ${JSON.stringify(events.slice(-8))}`;
    let run = after?.run ?? null;
    let seq = after?.seq ?? null;
    let over = after ? !!after.ended && (!after.lost || !!follow) : true;
    let broken = false;
    for (const { run: id, seq: at, item, count } of events) {
      if (at === null) {
        assert.ok(!over && id === run, say("an end concluded for a run that was not shown"));
        if (item.end === "superseded") {
          const { items, next } = truth.get(run);
          // By chance a new log's open may lie just where a reader of the old one stands.
          if (!rewritten || records.some((r) => r.run === run)) {
            const { end } = items.get(next - 1) ?? {};
            const unended = !end || (end === "producer_lost" && !follow);
            assert.ok(unended, say("superseded, but the run had its end"));
            assert.equal(seq, next - 1, say("superseded, but not all of the run was shown"));
          }
        } else {
          assert.ok(rewritten, say("expired, but nothing was ever removed"));
          broken = true;
        }
        over = true;
        continue;
      }
      assert.ok(count === 1 || compact, say("merged for who did not ask for it"));
      const known = Array.from({ length: count }, (_, i) => truth.get(id)?.items.get(at - count + 1 + i));
      assert.deepEqual(item, count === 1 ? known[0] : known.join(""), say(`not what the log has at ${at}`));
      if (id === run) {
        assert.equal(at - count, seq, say("a hole or a repetition"));
      } else {
        assert.ok(over, say("a run was left without an end"));
        assert.ok(!run || id > run || rewritten, say("an earlier run after a later one"));
        assert.ok(item.open, say("a run that did not begin with its open"));
        if (seq !== null && !broken && !rewritten) assert.equal(at, seq + 1, say("a run was passed over"));
      }
      run = id;
      seq = at;
      // Who reads one run waits for it where it is presumed dead.
      over = item?.end !== undefined && (item.end !== "producer_lost" || !!follow);
      broken = false;
    }
    const done = over && events.length > 0 && !follow;
    const early = events.length === 0 && this.options[reader].run > tail?.run;
    if (rest && !done && !early && !this.failed[reader] && tail && !tail.expired) {
      assert.equal(run, tail.run, say("the last run is not shown at rest"));
      assert.equal(seq, tail.next - 1, say(`not all is shown at rest: ${tail.next - 1} are in`));
    }
  }
}

/** The events of a slice: what the log has up to each seq, how much of it, when and how it came. */
function items({ run, seq, open, claim, chunks = [], counts = [], end, via }, at) {
  const all = chunks.map((item, i) => ({ item, count: counts[i] ?? 1 }));
  if (open) all.unshift({ item: { open: true }, count: 1 });
  if (claim) all.unshift({ item: { claim: true }, count: 1 });
  if (end) all.push({ item: { end: end.reason }, count: 1 });
  let next = seq;
  return all.map(({ item, count }) => ({ run, seq: (next += count) - 1, item, count, via, at }));
}
