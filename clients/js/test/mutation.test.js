/**
 * The tests of the machine must notice when one of its rules is dropped.
 *
 * Each mutant is the machine with one rule changed. What would show a reader something wrong,
 * or not all of it, the properties must catch; what would only ask too late, too often or
 * too little, or needs a chance in a thousand, the shared vectors.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const SOURCE = fileURLToPath(new URL("../src", import.meta.url));
const RUNS = "500";

const rule = (kin, from, to) => (source) =>
  source.replace(new RegExp(`(\\n  ${kin}: \\{.*?)${from}`), `$1${to}`);
const swap = (from, to) => (source) => source.replace(from, to);

/** @type {[string, string, (source: string) => string][]} */
const SHOWN_WRONG = [
  ["what a reader has is dropped", "cursor.js", rule("same", 'behind: "drop"', 'behind: "take"')],
  [
    "a slice that straddles the cursor continues it",
    "cursor.js",
    rule("same", 'across: "take"', 'across: "drop"'),
  ],
  [
    "of a straddling slice only the rest is taken",
    "cursor.js",
    swap("slice.seq < due ? trim(slice, due) : slice", "slice"),
  ],
  ["the rest begins behind what the head takes", "cursor.js", swap("(open || claim ? 1 : 0)", "0")],
  ["what lies ahead is held", "cursor.js", rule("same", 'ahead: "hold"', 'ahead: "take"')],
  ["a later run waits for the gap before it", "cursor.js", rule("later", 'ahead: "hold"', 'ahead: "take"')],
  ["a later run follows with its open", "cursor.js", rule("later", 'opens: "take"', 'opens: "drop"')],
  [
    "a later run that lies across the cursor is of another log",
    "cursor.js",
    rule("later", 'across: "hold"', 'across: "take"'),
  ],
  [
    "a later run without its open is of another log",
    "cursor.js",
    rule("later", 'next: "hold"', 'next: "take"'),
  ],
  [
    "where an open must follow, nothing else does",
    "cursor.js",
    rule("start", 'next: "anew"', 'next: "take"'),
  ],
  ["only the wanted run begins", "cursor.js", swap("(wanted ?? run) === run", "true")],
  [
    "the open of a later run supersedes",
    "cursor.js",
    swap("if (shown !== null) conclude", "if (false) conclude"),
  ],
  [
    "a run that ended is not superseded",
    "cursor.js",
    swap("reader.shown = null;\n    reader.done", "reader.done"),
  ],
  [
    "a run presumed dead may go on",
    "cursor.js",
    swap('(reader.follow || end.reason !== "producer_lost")', "true"),
  ],
  [
    "a run presumed dead is not followed by another",
    "cursor.js",
    swap("reader.shown = run;", 'reader.shown = end?.reason === "producer_lost" ? null : run;'),
  ],
  ["a run presumed dead has not ended for who asks again", "cursor.js", swap(" && !asked.ended) {", ") {")],
  ["a follower goes on", "cursor.js", swap("reader.done = !reader.follow;\n  }", "reader.done = true;\n  }")],
  [
    "a run whose rest is gone expires",
    "cursor.js",
    swap("if (reader.shown) conclude", "if (false) conclude"),
  ],
  ["an answer places the reader", "cursor.js", swap("relocate(reader, answer, out);", ";")],
  [
    "an old answer does not move the cursor",
    "cursor.js",
    swap("reader.cursor === asked && !reader.paused", "!reader.paused"),
  ],
  ["a run that has not opened is waited for", "cursor.js", swap("(run === null || run < wanted)", "false")],
  ["readers of other places are verified too", "cursor.js", swap("if (!agrees)", "if (false)")],
  ["a slice of another stream is not for this reader", "asks.js", swap("reader.stream === stream", "true")],
  ["a new socket is told what is watched", "links.js", swap("sync(s, link, link === s.links[0]);", "")],
  ["a question that died with its socket is asked again", "asks.js", swap("    one.ask = null;\n", "")],
  ["a silent connection is dead", "machine.js", swap("link.heard <= at || misses >= MISSES", "false")],
  ["a connection that is lost is opened again", "links.js", swap("due: connect, wake: hurry", "wake: hurry")],
  [
    "a reader that let things go asks for them",
    "machine.js",
    swap("paused: false, catching: true, gapAt: s.now", "catching: true"),
  ],
  ["a slice covers the seqs that it says", "frames.js", swap("next - seq ===", "0 * next ===")],
];

/** @type {[string, string, (source: string) => string][]} */
const ASKED_WRONG = [
  ["an earlier run is dropped", "cursor.js", rule("earlier", 'across: "drop"', 'across: "take"')],
  [
    "held slices are tried again",
    "cursor.js",
    swap("    release(reader, out);\n    reader.tries", "    reader.tries"),
  ],
  ["slices of an earlier run are not held", "cursor.js", rule("earlier", 'ahead: "drop"', 'ahead: "hold"')],
  ["a gap is asked for after 300 ms", "cursor.js", swap("GAP = 300", "GAP = 30_000")],
  ["a repeat is held once", "cursor.js", swap("held.next >= next", "false")],
  ["a gap is not asked for at once", "cursor.js", swap("GAP = 300", "GAP = 0")],
  ["one ask is in flight at a time", "asks.js", swap("!one.ask && ", "")],
  [
    "an answer without progress is waited out",
    "cursor.js",
    swap("moved ? 0 : backoff(reader.tries, random)", "0"),
  ],
  ["more is asked on at once", "cursor.js", swap("answer.more ? 0 : GAP", "GAP")],
  [
    "a held slice that disputes a confirmed place is let go",
    "cursor.js",
    swap("slice.seq > asked.seq + 1", "true"),
  ],
  ["a kept cursor says that its run is presumed dead", "cursor.js", swap("(after.lost && !follow)", "false")],
  ["a kept cursor may have been the end", "cursor.js", swap("reader.shown && run === asked.run", "false")],
  ["a log begun anew is asked about", "cursor.js", rule("later", 'behind: "hold"', 'behind: "drop"')],
  ["a run is synced every 25 s", "machine.js", swap("SYNC = 25_000", "SYNC = 60_000")],
  [
    "a hidden page that waits is synced every 5 minutes",
    "machine.js",
    swap("visible || (shown", "true || (shown"),
  ],
  [
    "a hidden page that waits for a lost run is synced every 5 minutes",
    "machine.js",
    swap("(shown && !cursor?.ended)", "shown"),
  ],
  ["the back-off doubles", "cursor.js", swap("doubled(BACKOFF, attempt)", "BACKOFF")],
  ["each handshake is waited for longer", "links.js", swap("doubled(HANDSHAKE, s.attempt)", "HANDSHAKE")],
  ["each first answer is waited for longer", "asks.js", swap("? s.attempt : 0", "? 0 : 0")],
  [
    "a handshake without an answer is no refusal",
    "links.js",
    swap("due: retreat },\n  syncing", "due: rejected },\n  syncing"),
  ],
  ["the back-off is bounded", "cursor.js", swap("LONGEST = 30_000", "LONGEST = 300_000")],
  ["only a steady connection ends the back-off", "links.js", swap("s.now - liveAt >= STEADY", "true")],
  ["the page's return ends the wait", "links.js", swap("due: connect, wake: hurry", "due: connect")],
  ["the page's return tests the connection", "links.js", swap("wake: test", "wake: stay")],
  ["an answer on its way is waited for", "answers.js", swap("if (slice.replay)", "if (false)")],
  [
    "a refusal concerns readers where it answers a subscribe, not given up",
    "answers.js",
    swap('question?.type === "subscribe" && stream', "stream"),
  ],
  ["a frame of API Gateway is heeded", "answers.js", swap("delay(link, soon,", "void (link, soon,")],
  [
    "the old connection closes after the new one's synced",
    "links.js",
    swap('s.out.push({ type: "close", socket });\n    release', "release"),
  ],
  [
    "what nobody wants is unsubscribed",
    "answers.js",
    swap("if (!readers.length) leave(s, link, slice.stream);", ""),
  ],
  ["and but once", "asks.js", swap('asked.type === "unsubscribe" && asked.stream === stream', "false")],
  [
    "an old unsubscribed is no reason to ask",
    "answers.js",
    swap("if (n < (link.streams.get(stream) ?? 0)) return;", ""),
  ],
  ["a stream waits for room", "asks.js", swap("size <= MAX_STREAMS", "size <= 99")],
  [
    "what is being left takes room",
    "asks.js",
    swap('else if ("stream" in question) counted.add(question.stream);', ""),
  ],
  [
    "what is being asked for takes room",
    "asks.js",
    swap("for (const name in question.streams) counted.add(name);", ";"),
  ],
  ["a sync asks for nothing that has no room", "asks.js", swap(" || !hasRoom(link, reader.stream)", "")],
  ["too many for the moment is no failure", "answers.js", swap('code === "too_many" && !!question', "false")],
  ["what was left is left for certain", "machine.js", swap('(type === "unsubscribe")', "(false)")],
  ["a refused token is not used again", "links.js", swap("s.token = null;\n  if (++s", "if (++s")],
  ["a token is not fetched for ever", "links.js", swap("REFUSALS = 3", "REFUSALS = 30")],
  ["the network refuses nobody", "machine.js", swap("if (!reachable || isOpen", "if (isOpen")],
  ["a token that does not come is fetched again", "links.js", swap("s.fetching > s.now", "s.fetching")],
  ["a token is renewed at 80 %", "links.js", swap("0.8 *", "1.8 *")],
  [
    "after authorized all is synced",
    "answers.js",
    swap("refreshAt(s, link, expires_at);\n    sync(s, link);", "refreshAt(s, link, expires_at);"),
  ],
  ["a cancel is bounded", "machine.js", swap("CALL = 30_000", "CALL = 300_000")],
  ["an unused connection is closed", "links.js", swap("LINGER = 60_000", "LINGER = 600_000")],
  ["a successor is opened in time", "links.js", swap("(100 + 15 * s.random)", "(200 + 15 * s.random)")],
];

/** Whether a suite passes with the machine in `folder`. */
const passes = (suite, folder) =>
  new Promise((resolve) => {
    const env = {
      ...process.env,
      TAILRACE_SRC: `${pathToFileURL(folder)}/`,
      TAILRACE_SEED: "1",
      TAILRACE_RUNS: RUNS,
    };
    delete env.NODE_TEST_CONTEXT;
    execFile(process.execPath, ["--test", join(HERE, suite)], { env, timeout: 120_000 }, (error) =>
      resolve(!error),
    );
  });

/** Runs a suite against a copy of the machine with one file changed. */
async function passesWith(suite, file, mutate) {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-mutant-"));
  try {
    cpSync(SOURCE, folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    const source = readFileSync(join(folder, file), "utf8");
    const mutant = mutate(source);
    assert.notEqual(mutant, source, "the rule is not where the mutant looks for it");
    writeFileSync(join(folder, file), mutant);
    return await passes(suite, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("the machine as it is", { concurrency: 2 }, () => {
  for (const suite of ["properties.test.js", "conformance.test.js"]) {
    test(`passes ${suite}`, async () =>
      assert.ok(await passesWith(suite, "types.js", (source) => `${source}\n`)));
  }
});

describe("without one of its rules", { concurrency: 2 }, () => {
  for (const [name, file, mutate] of SHOWN_WRONG) {
    test(`${name}: the properties notice`, async () =>
      assert.ok(!(await passesWith("properties.test.js", file, mutate)), "nothing failed"));
  }
  for (const [name, file, mutate] of ASKED_WRONG) {
    test(`${name}: the vectors notice`, async () =>
      assert.ok(!(await passesWith("conformance.test.js", file, mutate)), "nothing failed"));
  }
});
