/**
 * A server that speaks PROTOCOL.md §3 in this process, over a log in memory.
 *
 * Written from the protocol, not from the client. Faults are the network's and AWS's: what
 * `faults` says may be lost, repeated, delayed past each other, answered 410 although alive.
 * Time and chance are given to it.
 */

export const runId = (number) => `0193a000-0000-7000-8000-${String(number).padStart(12, "0")}`;

/** No fault at all. */
export const CALM = { lose: 0, repeat: 0, delay: 1, gone: 0, sideBySide: 0, failedPost: 0 };

/** Bytes of one answer until `more`. */
const BUDGET = 256_000;

/** When a token expires that says so, `token.<seconds>`; else null. */
const expiryOf = (token) => (token?.startsWith("token.") ? Number(token.slice(6)) : null);

export class Log {
  records = [];
  /** Everything that was ever written, by run: what a reader may be shown. */
  truth = new Map();

  constructor(clock) {
    this.clock = clock;
  }

  get tail() {
    return this.records.at(-1) ?? null;
  }

  /** Whether some of the last run is gone. */
  get expired() {
    const { tail } = this;
    return tail !== null && !this.records.some((r) => r.run === tail.run && r.kind === "open" && !r.expired);
  }

  get active() {
    const { tail } = this;
    return tail !== null && !tail.expired && tail.kind !== "end";
  }

  put(record) {
    const { tail } = this;
    const seq = tail ? tail.next : 1;
    const count = record.chunks?.length ?? 1;
    const whole = { ...record, seq, next: seq + count, at: this.clock.now(), expired: false };
    whole.base =
      record.kind === "open" ? seq : (this.records.find((r) => r.run === record.run)?.base ?? tail.base);
    this.records.push(whole);
    const run = this.truth.get(record.run) ?? { base: seq, items: new Map() };
    if (record.kind === "data") record.chunks.forEach((chunk, i) => run.items.set(seq + i, chunk));
    else run.items.set(seq, record.kind === "end" ? { end: record.reason } : { [record.kind]: true });
    run.next = whole.next;
    this.truth.set(record.run, run);
    return whole;
  }

  open(run, meta) {
    return this.put({ kind: "open", run, meta, prev: this.tail?.run ?? null });
  }

  data(...chunks) {
    return this.put({ kind: "data", run: this.tail.run, chunks });
  }

  end(reason, message) {
    return this.put({ kind: "end", run: this.tail.run, reason, message });
  }

  claim() {
    return this.put({ kind: "claim", run: this.tail.run, epoch: 1 });
  }

  /** TTL takes the first `count` records. */
  expire(count) {
    this.records.forEach((record, i) => {
      if (i < count) record.expired = true;
    });
  }

  /** The table is made anew: numbers begin at 1 again, with later runs. */
  recreate() {
    this.records = [];
  }

  /** Deleting leaves the final `end`. */
  remove() {
    if (this.active) this.end("cancelled");
    this.records = this.records.slice(-1);
  }

  holding(seq) {
    return this.records.find((r) => !r.expired && r.seq <= seq && seq < r.next) ?? null;
  }

  /** §3.2: where an answer begins, and what it says of the stream. */
  answer(position) {
    const { tail } = this;
    const last = tail ? tail.next - 1 : 0;
    const run = tail && !tail.expired ? tail.run : null;
    const facts = { run, tail: last, active: this.active };
    if (run === null) return { ...facts, from: last, records: [] };
    const openOf = (id) => this.records.find((r) => r.run === id && !r.expired);
    const begins = (id) => openOf(id)?.kind === "open";
    const current = () => (begins(run) ? openOf(run).seq - 1 : last);
    const [wanted, after] = position ?? [];
    let from;
    if (after !== undefined) {
      const held = wanted === null ? this.holding(after + 1) : this.holding(after);
      const goesOn =
        after === last ? wanted === null || wanted === run : held && (wanted === null || held.run === wanted);
      from = goesOn ? after : current();
    } else if (wanted && wanted !== run) {
      from = wanted > run ? last : begins(wanted) ? openOf(wanted).seq - 1 : current();
    } else {
      from = current();
    }
    const records = this.records.filter((r) => r.next - 1 > from && !r.expired);
    // Records expire in any order: what is not dense with the cursor cannot be served from it.
    const hole = records.length
      ? records[0].seq > from + 1
      : from === last && after !== last && !(wanted > run);
    if (hole) return { run: null, tail: last, from: last, active: false, records: [] };
    return { ...facts, from, records };
  }
}

/** A slice of consecutive records of one run. */
function sliceOf(stream, records, extra = {}) {
  const [first] = records;
  const last = records.at(-1);
  const slice = {
    type: "slice",
    stream,
    run: first.run,
    seq: first.seq,
    next: last.next,
    at: last.at,
    ...extra,
  };
  for (const record of records) {
    if (record.kind === "open") slice.open = { ...(record.meta && { meta: record.meta }), prev: record.prev };
    if (record.kind === "claim") slice.claim = { epoch: record.epoch };
    if (record.kind === "data") slice.chunks = [...(slice.chunks ?? []), ...record.chunks];
    if (record.kind === "end")
      slice.end = { reason: record.reason, ...(record.message && { message: record.message }) };
  }
  return slice;
}

/** Consecutive records, as few slices as fit: `open` and `claim` begin one, `end` ends one. */
function merge(stream, records, most, extra) {
  const slices = [];
  let group = [];
  const flush = () => {
    if (group.length) slices.push(sliceOf(stream, group, extra));
    group = [];
  };
  for (const record of records) {
    const begins = record.kind === "open" || record.kind === "claim" || group[0]?.run !== record.run;
    if (begins || group.length >= most) flush();
    group.push(record);
    if (record.kind === "end") flush();
  }
  flush();
  return slices;
}

/** §3.6, of one slice: texts that follow each other, and the deltas of one part. */
function compacted(slice, compact) {
  const chunks = [];
  const counts = [];
  const partOf = (c) => (typeof c === "string" ? "" : typeof c?.delta === "string" && `${c.type} ${c.id}`);
  for (const chunk of slice.chunks ?? []) {
    const last = chunks.at(-1);
    const part = partOf(chunk);
    if (chunks.length && part !== false && part === partOf(last)) {
      chunks[chunks.length - 1] =
        typeof chunk === "string" ? last + chunk : { ...chunk, delta: last.delta + chunk.delta };
      counts[counts.length - 1]++;
    } else {
      chunks.push(chunk);
      counts.push(1);
    }
  }
  return chunks.length === (slice.chunks ?? []).length ? slice : { ...slice, chunks, counts, compact };
}

export class Server {
  /** @type {Map<string, Log>} */ logs = new Map();
  /** @type {Map<object, Map<string, number>>} connection → stream → n */ rows = new Map();
  /** Frames received, by type. */
  counts = {};
  faults = CALM;
  /** Connections answer nothing and hear nothing, but do not close. */
  silent = false;
  /** The tables do not answer: every frame is refused, for now. */
  troubled = false;
  /** The next frames of a type are refused with this error. */
  refusals = [];
  /** Runs that `send` began, by `requestId`, and the frames that did it. */
  begun = new Map();

  constructor(clock, random) {
    this.clock = clock;
    this.random = random;
  }

  log(stream) {
    if (!this.logs.has(stream)) this.logs.set(stream, new Log(this.clock));
    return this.logs.get(stream);
  }

  chance(probability) {
    return probability > 0 && this.random() < probability;
  }

  later(act, spread = this.faults.delay) {
    this.clock.setTimeout(act, Math.floor(this.random() * spread));
  }

  /** @param {{receive: (frame: object) => void, alive: boolean}} connection */
  connect(connection, token) {
    connection.exp = expiryOf(token);
    this.rows.set(connection, new Map());
  }

  disconnect(connection) {
    connection.alive = false;
    // `$disconnect` is best-effort.
    if (!this.chance(0.5)) this.rows.delete(connection);
  }

  /** Posts a frame; answers whether AWS said 200. */
  post(connection, frame) {
    if (!connection.alive) {
      this.rows.delete(connection);
      return false;
    }
    if (this.chance(this.faults.failedPost)) return false;
    if (this.silent || this.chance(this.faults.lose)) return true;
    const times = this.chance(this.faults.repeat) ? 2 : 1;
    for (let i = 0; i < times; i++) {
      this.later(() => {
        if (connection.alive && !this.silent) connection.receive(JSON.parse(JSON.stringify(frame)));
      });
    }
    return true;
  }

  /** The change feed: at least once, in any order, merged with what is near. */
  feed(stream, records) {
    this.later(() => {
      for (const [connection, streams] of [...this.rows]) {
        if (!streams.has(stream) || this.past(connection)) continue;
        if (this.chance(this.faults.gone)) {
          streams.delete(stream);
          continue;
        }
        for (const slice of merge(stream, records, 1 + Math.floor(this.random() * 3), {}))
          this.post(connection, slice);
      }
    });
    if (this.chance(this.faults.repeat)) this.later(() => this.feed(stream, records), this.faults.delay * 4);
  }

  /** A client's frame; frames of one client may be handled side by side. */
  handle(connection, frame) {
    this.counts[frame.type] = (this.counts[frame.type] ?? 0) + 1;
    if (this.silent) return;
    this.later(() => this.answer(connection, frame), 1 + this.faults.sideBySide);
  }

  answer(connection, { type, n, ...frame }) {
    if (!connection.alive) return;
    if (this.troubled) {
      const { stream } = frame;
      this.post(connection, { type: "error", code: "unavailable", message: "", retryable: true, stream, n });
      return;
    }
    if (this.past(connection) && type !== "auth") {
      this.post(connection, { type: "error", code: "unauthorized", message: "token: expired", n });
      this.later(() => connection.close());
      return;
    }
    const refused = this.refusals.findIndex((r) => r.type === type);
    if (refused >= 0) {
      const [{ error }] = this.refusals.splice(refused, 1);
      const { requestId } = frame;
      this.post(connection, error.message && !error.code ? error : { type: "error", n, requestId, ...error });
      return;
    }
    switch (type) {
      case "subscribe": {
        const position =
          frame.after === undefined ? (frame.run ? [frame.run] : null) : [frame.run ?? null, frame.after];
        const tail = this.replay(connection, frame.stream, position, n, frame.compact);
        this.post(connection, { type: "subscribed", stream: frame.stream, n, ...tail, protocol: 1 });
        break;
      }
      case "sync": {
        const tails = Object.fromEntries(
          Object.entries(frame.streams).map(([stream, position]) => [
            stream,
            this.replay(connection, stream, position, n, frame.compact?.[stream]),
          ]),
        );
        this.post(connection, { type: "synced", n, time: this.time(), protocol: 1, tails });
        break;
      }
      case "unsubscribe": {
        const streams = this.rows.get(connection);
        if ((streams?.get(frame.stream) ?? Infinity) <= n) streams.delete(frame.stream);
        this.post(connection, { type: "unsubscribed", stream: frame.stream, n });
        break;
      }
      case "cancel": {
        const log = this.log(frame.stream);
        if (log.active && log.tail.run === frame.run) this.write(frame.stream, (l) => l.end("cancelled"));
        const end = [...(log.truth.get(frame.run)?.items.values() ?? [])].findLast((item) => item?.end);
        this.post(connection, {
          type: "cancelled",
          stream: frame.stream,
          run: frame.run,
          reason: end?.end ?? null,
          n,
        });
        break;
      }
      case "send": {
        const { requestId, stream } = frame;
        if ("id" in frame) throw new Error("a frame names a stream, or a chat by its id");
        // A repeat begins nothing.
        if (!this.begun.has(requestId)) {
          const run = runId(this.begun.size + 50);
          this.begun.set(requestId, { run, ...frame });
          this.write(stream, (log) => log.open(run, {}));
        }
        const { run } = this.begun.get(requestId);
        const { seq } = this.log(stream).records.find((record) => record.run === run);
        this.post(connection, { type: "sent", stream, run, seq, requestId, n });
        break;
      }
      case "auth":
        connection.exp = expiryOf(frame.token);
        this.post(connection, {
          type: "authorized",
          expires_at: connection.exp ?? Math.floor(this.time() / 1000) + 3600,
          n,
        });
        break;
    }
  }

  /** Whether a connection's token has expired: it is pushed nothing, and told so. */
  past({ exp }) {
    return exp !== null && exp * 1000 <= this.time();
  }

  time() {
    return 1_764_000_000_000 + this.clock.now();
  }

  /** The row first, then the read, then the slices: no hole between replay and live. */
  replay(connection, stream, position, n, compact) {
    const rows = this.rows.get(connection);
    if (rows && (rows.get(stream) ?? 0) <= n) rows.set(stream, n);
    const { records, ...tail } = this.log(stream).answer(position);
    let bytes = 0;
    // A compacted answer begins where it was asked to, also inside a record.
    if (compact && records[0]?.seq <= tail.from) {
      const [{ seq, chunks, ...rest }] = records;
      records[0] = { ...rest, seq: tail.from + 1, chunks: chunks.slice(tail.from + 1 - seq) };
    }
    for (const plain of merge(stream, records, 4, { replay: true })) {
      const slice = compact ? compacted(plain, compact) : plain;
      bytes += JSON.stringify(slice).length;
      if (bytes > BUDGET || !this.post(connection, slice)) return { ...tail, more: true };
    }
    return { ...tail, more: false };
  }

  /** Appends, and feeds what was appended. */
  write(stream, ...acts) {
    const log = this.log(stream);
    const records = acts.map((act) => act(log));
    this.feed(stream, records);
  }
}
