/**
 * `useChat`'s machine, of each major of the AI SDK, over the transport, on any network.
 *
 * What users of other resumable streams ran into is tested by name, with the link.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TailraceChatTransport } from "../src/ai.js";
import { MAJORS, sdk } from "./support/ai-reader.js";
import { settle } from "./support/clock.js";
import { Network } from "./support/network.js";
import { CALM, runId } from "./support/server.js";
import { collect } from "./support/started.js";

const CHAT = "42";
const STREAM = `chat:${CHAT}`;

/** The state that a hook keeps for a chat, without React. */
class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => void (this.messages = [...this.messages, message]);
  popMessage = () => void (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    void (this.messages = this.messages.map((old, i) => (i === index ? structuredClone(message) : old)));
  snapshot = (thing) => structuredClone(thing);
}

/** A backend that takes turns, a job that answers them, and a page with a chat. */
class World {
  runs = 0;
  posts = [];

  constructor(AbstractChat, seed = 1) {
    this.AbstractChat = AbstractChat;
    this.network = new Network(seed);
    this.clock = this.network.clock;
    this.server = this.network.server;
  }

  fetch = async (url, { body, signal }) => {
    signal?.throwIfAborted();
    this.posts.push({ url, ...JSON.parse(body) });
    const run = runId(++this.runs);
    this.write((log) => log.open(run, {}));
    return Response.json({ run });
  };

  write(...acts) {
    this.server.write(STREAM, ...acts);
  }

  say(...chunks) {
    this.write((log) => log.data(...chunks));
  }

  end(...how) {
    this.write((log) => log.end(...how));
  }

  transport(options = {}) {
    return new TailraceChatTransport({
      client: this.network.client(),
      clock: this.clock,
      fetch: this.fetch,
      ...options,
    });
  }

  /** A page that has just loaded: nothing is in its memory but `messages`. */
  page({ messages = [], transport = this.transport(), ...options } = {}) {
    const state = new State();
    state.messages = structuredClone(messages);
    const { AbstractChat } = this;
    const errors = [];
    const finished = [];
    const chat = new (class extends AbstractChat {})({
      id: CHAT,
      state,
      transport,
      onError: (error) => errors.push(error),
      onFinish: (event) => finished.push(event),
      ...options,
    });
    return Object.assign(chat, { errors, finished, transportOf: transport });
  }

  async run(ms = 2_000) {
    await this.clock.run(ms);
    for (let i = 0; i < 20; i++) await settle();
  }
}

const start = (messageId = "a1") => ({ type: "start", messageId });
const textStart = (id = "t1") => ({ type: "text-start", id });
const delta = (text, id = "t1") => ({ type: "text-delta", id, delta: text });
const textEnd = (id = "t1") => ({ type: "text-end", id });
const finish = { type: "finish", finishReason: "stop" };

const answers = (chat) => chat.messages.filter((m) => m.role === "assistant");
const textOf = (chat) =>
  answers(chat)
    .map((m) => m.parts.map((part) => part.text ?? "").join("|"))
    .join("||");
const question = { id: "u1", role: "user", parts: [{ type: "text", text: "hi" }] };

for (const major of MAJORS) {
  const { AbstractChat, lastAssistantMessageIsCompleteWithToolCalls } = await sdk(major);
  const world = (seed) => new World(AbstractChat, seed);

  /** A chat whose answer is half there. */
  const halfway = async (seed) => {
    const w = world(seed);
    const chat = w.page();
    const sent = chat.sendMessage({ text: "hi" });
    await w.run();
    w.say(start(), textStart(), delta("Hel"));
    await w.run();
    assert.equal(textOf(chat), "Hel");
    return { w, chat, sent };
  };
  const whole = async (w, chat, ...done) => {
    w.say(delta("lo"), textEnd(), finish);
    w.end("completed");
    await w.run();
    await Promise.all(done);
    assert.equal(textOf(chat), "Hello");
    assert.equal(chat.status, "ready");
    assert.equal(answers(chat).length, 1);
  };

  describe(`ai ${major}`, () => {
    test("a turn is sent, streams and is ready", async () => {
      const { w, chat, sent } = await halfway();
      assert.equal(chat.status, "streaming");
      await whole(w, chat, sent);
      assert.deepEqual(Object.keys(w.posts[0]).sort(), ["id", "messages", "trigger", "url"]);
      assert.equal(chat.finished.length, 1);
      assert.equal(w.clock.pending > 0 && w.network.open.length, 1, "one socket, kept for the next turn");
    });

    test("a lost connection is not seen by the SDK, also while the page is visible", async () => {
      const { w, chat, sent } = await halfway();
      for (let i = 0; i < 10; i++) {
        for (const socket of w.network.open) socket.fail(1006);
        w.network.cut = true;
        w.say(delta(String(i)));
        await w.run(10_000);
        assert.equal(chat.status, "streaming");
        w.network.cut = false;
        await w.run(35_000);
      }
      w.say(textEnd(), finish);
      w.end("completed");
      await w.run();
      await sent;
      assert.equal(textOf(chat), "Hel0123456789");
      assert.deepEqual(chat.errors, []);
    });

    test("a network that loses, repeats and reorders gives the exact answer", async () => {
      for (let seed = 1; seed <= 10; seed++) {
        const w = world(seed);
        w.server.faults = { ...CALM, lose: 0.2, repeat: 0.2, delay: 500, gone: 0.05, sideBySide: 100 };
        const chat = w.page();
        const sent = chat.sendMessage({ text: "hi" });
        await w.run(1_000);
        w.say(start(), textStart());
        let truth = "";
        for (let i = 0; i < 40; i++) {
          w.say(delta(`${i} `));
          truth += `${i} `;
          await w.run(100);
        }
        w.say(textEnd(), finish);
        w.end("completed");
        w.server.faults = CALM;
        await w.run(60_000);
        await sent;
        assert.equal(textOf(chat), truth, `seed ${seed}`);
      }
    });

    test("after a reload the answer is shown from its start, and goes on", async () => {
      // Resuming inside a part throws "missing text part":
      // https://github.com/vercel/workflow/issues/1835
      const { w } = await halfway();
      const chat = w.page({ messages: [question] });
      const resumed = chat.resumeStream();
      await w.run();
      assert.equal(textOf(chat), "Hel");
      await whole(w, chat, resumed);
      assert.deepEqual(chat.errors, []);
    });

    test("the replay is compacted", async () => {
      const { w } = await halfway();
      for (let i = 0; i < 300; i++) w.say(delta("."));
      w.network.sent.length = 0;
      const transport = w.transport();
      const stream = transport.reconnectToStream({ chatId: CHAT });
      await w.run();
      assert.equal(w.network.sent[0].compact[STREAM], "ui-message");
      const reader = (await stream).getReader();
      let frames = 0;
      let text = "";
      w.end("completed");
      await w.run();
      for (let r = await reader.read(); !r.done; r = await reader.read()) {
        frames++;
        text += r.value.delta ?? "";
      }
      assert.equal(text, `Hel${".".repeat(300)}`);
      assert.ok(frames < 100, `${frames} chunks`);
    });

    test("a replay onto a message that was kept replaces it", async () => {
      // "Hel|Hello": https://github.com/langchain-ai/langgraphjs/issues/2327,
      // https://github.com/cloudflare/agents/issues/1951
      const { w, chat: before } = await halfway();
      const chat = w.page({ messages: before.messages });
      const resumed = chat.resumeStream();
      await w.run();
      await whole(w, chat, resumed);
    });

    test("so does a replay onto a kept tool call whose input was still coming", async () => {
      // The SDK goes on with such a message, unless the transport says that it replays; 5 cannot be told.
      if (major === 5) return;
      const { w, chat: before } = await halfway();
      w.say({ type: "tool-input-start", toolCallId: "c1", toolName: "weather" });
      w.say({ type: "tool-input-delta", toolCallId: "c1", inputTextDelta: '{"city' });
      await w.run();
      const chat = w.page({ messages: before.messages });
      const resumed = chat.resumeStream();
      await w.run();
      assert.deepEqual(
        answers(chat)[0].parts.map(({ type }) => type),
        ["text", "tool-weather"],
      );
      w.say(textEnd(), finish);
      w.end("completed");
      await w.run();
      await resumed;
      assert.equal(textOf(chat), "Hel|");
    });

    test("the answer before is not mixed into a resumed one", async () => {
      // https://github.com/vercel/ai/issues/18457
      const { w } = await halfway();
      const earlier = { id: "a0", role: "assistant", parts: [{ type: "text", text: "Earlier." }] };
      const chat = w.page({ messages: [{ ...question, id: "u0" }, earlier] });
      const resumed = chat.resumeStream();
      await w.run();
      w.say(delta("lo"), textEnd(), finish);
      w.end("completed");
      await w.run();
      await resumed;
      assert.equal(textOf(chat), "Earlier.||Hello");
    });

    test("two offers to resume at once show one answer", async () => {
      // StrictMode mounts twice: https://github.com/cloudflare/agents/issues/999;
      // https://github.com/cloudflare/agents/issues/1733
      const { w } = await halfway();
      const transport = w.transport();
      w.network.sent.length = 0;
      const chat = w.page({ transport, messages: [question] });
      const resumed = [chat.resumeStream(), chat.resumeStream()];
      await w.run();
      await whole(w, chat, ...resumed);
      const asked = w.network.sent.filter(({ type }) => type === "sync" || type === "subscribe");
      assert.ok(asked.length <= 2, "they share one subscription");
      assert.deepEqual(chat.errors, []);
    });

    test("a component that joins gets the turn from its first chunk, and may leave again", async () => {
      const { w, chat, sent } = await halfway();
      w.network.sent.length = 0;
      const joining = w.page({ transport: chat.transportOf, messages: [question] });
      const leaving = w.page({ transport: chat.transportOf, messages: [question] });
      const resumed = [joining.resumeStream(), leaving.resumeStream()];
      await w.run(100);
      assert.equal(textOf(joining), "Hel");
      assert.equal(textOf(leaving), "Hel");
      assert.deepEqual(w.network.sent, [], "the subscription is there already");
      await leaving.stop();
      await whole(w, chat, sent, ...resumed);
      assert.equal(textOf(joining), "Hello");
      assert.equal(textOf(leaving), "Hel");
    });

    test("resuming before the socket is open waits for it", async () => {
      // https://github.com/cloudflare/agents/issues/1000
      const { w } = await halfway();
      w.network.cut = true;
      const chat = w.page({ messages: [question] });
      const resumed = chat.resumeStream();
      await w.run(3_000);
      w.network.cut = false;
      await w.run(30_000);
      await whole(w, chat, resumed);
    });

    test("what is live before the replay is there waits for it", async () => {
      // https://github.com/cloudflare/agents/issues/795, https://github.com/coder/xum/pull/2165
      const { w } = await halfway();
      w.server.faults = { ...CALM, delay: 300, sideBySide: 400 };
      const chat = w.page({ messages: [question] });
      const resumed = chat.resumeStream();
      for (let i = 0; i < 20; i++) {
        w.say(delta(`${i} `));
        await w.run(50);
      }
      await w.run(3_000);
      w.say(textEnd(), finish);
      w.end("completed");
      await w.run(3_000);
      await resumed;
      assert.equal(textOf(chat), `Hel${Array.from({ length: 20 }, (_, i) => `${i} `).join("")}`);
    });

    test("frames that come again, or in the order of yesterday, change nothing", async () => {
      // https://github.com/kirodotdev/KiroCrew/pull/9551
      const { w, chat, sent } = await halfway();
      const [socket] = w.network.open;
      const seen = [];
      const { receive } = socket;
      socket.receive = (frame) => {
        seen.push(frame);
        receive.call(socket, frame);
      };
      for (const text of ["a", "b", "a", "c"]) {
        w.say(delta(text));
        await w.run(100);
        for (const frame of [...seen].reverse()) receive.call(socket, frame);
      }
      const slices = seen.filter(({ type }) => type === "slice");
      assert.equal(slices.length, 4);
      receive.call(socket, {
        ...slices[0],
        next: slices[2].next,
        chunks: slices.slice(0, 3).flatMap(({ chunks }) => chunks),
      });
      await w.run();
      assert.equal(textOf(chat), "Helabac");
      w.say(textEnd(), finish);
      w.end("completed");
      await w.run();
      await sent;
      assert.equal(textOf(chat), "Helabac");
      assert.deepEqual(chat.errors, []);
    });

    test("what is lost right after the subscription was confirmed is found all the same", async () => {
      // https://github.com/aws/aws-appsync-community/issues/405
      const { w } = await halfway();
      const chat = w.page({ messages: [question] });
      const resumed = chat.resumeStream();
      await w.run(100);
      assert.equal(w.network.open.length, 2);
      w.server.faults = { ...CALM, lose: 1 };
      w.say(delta("lo"));
      await w.run(100);
      w.server.faults = CALM;
      assert.equal(textOf(chat), "Hel");
      await w.run(30_000);
      assert.equal(textOf(chat), "Hello");
      w.say(textEnd(), finish);
      w.end("completed");
      await w.run();
      await resumed;
    });

    test("an end that was lost is found, and nothing streams for ever", async () => {
      // https://github.com/vercel/resumable-stream/pull/47
      const { w, chat, sent } = await halfway();
      w.server.faults = { ...CALM, lose: 1 };
      w.say(delta("lo"), textEnd(), finish);
      w.end("completed");
      await w.run(100);
      w.server.faults = CALM;
      assert.equal(chat.status, "streaming");
      await w.run(30_000);
      await sent;
      assert.equal(textOf(chat), "Hello");
      assert.equal(chat.status, "ready");
    });

    test("a socket that is closed cleanly in mid-answer does not end it", async () => {
      // The answer stays cut off, and nobody reconnects: https://github.com/recoupable/app/pull/1924
      const { w, chat, sent } = await halfway();
      for (const socket of w.network.open) socket.fail(1000);
      await w.run(10_000);
      assert.equal(chat.status, "streaming");
      await whole(w, chat, sent);
    });

    test("a job that completes without a finish is told from one that said it", async () => {
      const { w, chat, sent } = await halfway();
      w.say(delta("lo"), textEnd());
      w.end("completed");
      await w.run();
      await sent;
      assert.equal(chat.status, "ready");
      if (major > 5) assert.equal(chat.finished[0].finishReason, "other");
    });

    test("a second tab sees the same", async () => {
      const { w, chat, sent } = await halfway();
      const second = w.page({ messages: [question] });
      const resumed = second.resumeStream();
      await w.run();
      await whole(w, chat, sent);
      await resumed;
      assert.equal(textOf(second), "Hello");
      assert.equal(second.status, "ready");
    });

    test("where nothing is going on there is nothing to resume", async () => {
      const w = world();
      const none = w.page();
      const resuming = none.resumeStream();
      await w.run();
      await resuming;
      assert.equal(none.status, "ready");
      const { w: other, chat, sent } = await halfway();
      await whole(other, chat, sent);
      const later = other.page({ messages: chat.messages });
      const resumed = later.resumeStream();
      await other.run();
      await resumed;
      assert.equal(textOf(later), "Hello");
      assert.equal(later.status, "ready");
      assert.equal(
        await Promise.race([later.transportOf.cancel(CHAT), other.run().then(() => "late")]),
        null,
      );
    });

    test("stop looks away, and the answer goes on for everyone else", async () => {
      // `useChat` stops when it unmounts, which must not cancel.
      const { w, chat, sent } = await halfway();
      await chat.stop();
      await sent;
      assert.equal(chat.status, "ready");
      assert.equal(textOf(chat), "Hel");
      await w.run();
      assert.equal(w.network.sent.filter(({ type }) => type === "cancel").length, 0);
      const again = w.page({ transport: chat.transportOf, messages: [question] });
      const resumed = again.resumeStream();
      await w.run();
      await whole(w, again, resumed);
    });

    test("a stream that was resumed can be stopped", async () => {
      // https://github.com/vercel/ai/issues/18458
      const { w } = await halfway();
      const chat = w.page({ messages: [question] });
      const resumed = chat.resumeStream();
      await w.run();
      assert.equal(chat.status, "streaming");
      await chat.stop();
      await resumed;
      assert.equal(chat.status, "ready");
      w.say(delta("lo"));
      await w.run();
      assert.equal(textOf(chat), "Hel");
    });

    test("cancel stops the job, and everyone sees it", async () => {
      const { w, chat, sent } = await halfway();
      const second = w.page({ messages: [question] });
      const resumed = second.resumeStream();
      await w.run();
      const cancelling = second.transportOf.cancel(CHAT);
      await w.run();
      assert.deepEqual(await cancelling, { reason: "cancelled" });
      await Promise.all([sent, resumed]);
      assert.equal(w.server.log(STREAM).active, false);
      for (const one of [chat, second]) {
        assert.equal(one.status, "ready");
        assert.equal(textOf(one), "Hel");
        assert.equal(one.finished[0].isAbort, true);
      }
    });

    test("what came before it was stopped is there for who reads late", async () => {
      const { w, chat, sent } = await halfway();
      const chunks = await chat.transportOf.reconnectToStream({ chatId: CHAT });
      w.say(delta("lo"));
      await w.run();
      w.end("cancelled");
      await w.run();
      await sent;
      const late = collect(chunks);
      await late.finished;
      assert.deepEqual(
        late.items.map(({ type, delta }) => delta ?? type),
        ["start", "text-start", "Hel", "lo", "abort"],
      );
      assert.equal(late.error.name, "AbortError");
    });

    test("stop cancels where that was asked for", async () => {
      const w = world();
      const chat = w.page({ transport: w.transport({ cancelOnAbort: true }) });
      const sent = chat.sendMessage({ text: "hi" });
      await w.run();
      w.say(start(), textStart(), delta("Hel"));
      await w.run();
      await chat.stop();
      await w.run();
      await sent;
      assert.equal(w.server.log(STREAM).active, false);
    });

    test("an answer is stopped that is still being asked for", async () => {
      const w = world();
      const slow = async (...how) => {
        await new Promise((resolve) => w.clock.setTimeout(resolve, 2_000));
        return w.fetch(...how);
      };
      const chat = w.page({ transport: w.transport({ fetch: slow }) });
      const sent = chat.sendMessage({ text: "hi" });
      await w.run(500);
      assert.equal(chat.status, "submitted");
      const cancelling = chat.transportOf.cancel(CHAT);
      await w.run(5_000);
      assert.deepEqual(await cancelling, { reason: "cancelled" });
      await sent;
      assert.equal(w.posts.length, 1);
      assert.equal(w.server.log(STREAM).active, false);
      assert.equal(chat.status, "ready");
    });

    test("an answer is stopped at once though another is being asked for in vain", async () => {
      const w = world();
      const transport = w.transport({ fetch: () => new Promise(() => {}) });
      w.server.write(
        STREAM,
        (log) => log.open(runId(1)),
        (log) => log.data({ type: "start" }),
      );
      const reading = transport.reconnectToStream({ chatId: CHAT });
      await w.run(1_000);
      await reading;
      const turn = { trigger: "submit-message", chatId: CHAT, messages: [] };
      transport.sendMessages(turn).catch(() => {});
      await w.run(100);
      transport.cancel(CHAT);
      await w.run(1_000);
      assert.equal(w.server.log(STREAM).active, false);
    });

    for (const send of ["post", "socket"])
      test(`stop cancels an answer that is still being asked for by ${send}`, async () => {
        const w = world();
        const slow = async (...how) => {
          const answer = await w.fetch(...how);
          await new Promise((resolve) => w.clock.setTimeout(resolve, 1_000));
          return answer;
        };
        w.server.faults = { ...CALM, delay: 300 };
        const transport = w.transport({ fetch: slow, send, cancelOnAbort: true });
        const chat = w.page({ transport });
        const sent = chat.sendMessage({ text: "hi" });
        const asked = () => w.posts.length + w.network.sent.filter(({ type }) => type === "send").length;
        while (!asked()) await w.run(20);
        assert.equal(chat.status, "submitted");
        await chat.stop();
        await sent;
        assert.equal(chat.status, "ready");
        await w.run(5_000);
        assert.ok(w.server.log(STREAM).tail, "the run was begun");
        assert.equal(w.server.log(STREAM).active, false);
        await w.run(70_000);
        assert.equal(w.network.open.length, 0, "nothing is watched any more");
      });

    test("stop cancels the answer that it stops, and no later one", async () => {
      const w = world();
      const transport = w.transport({ cancelOnAbort: true });
      const turn = { chatId: CHAT, messages: [question], trigger: "submit-message" };
      const first = new AbortController();
      const streams = [transport.sendMessages({ ...turn, abortSignal: first.signal })];
      await w.run();
      w.server.faults = { ...CALM, lose: 1 };
      streams.push(transport.sendMessages(turn));
      await w.run(100);
      first.abort();
      w.server.faults = CALM;
      await w.run();
      await Promise.all(streams);
      const cancels = w.network.sent.filter(({ type }) => type === "cancel");
      assert.deepEqual(
        cancels.map(({ run }) => run),
        [runId(1)],
      );
      assert.equal(w.server.log(STREAM).active, true);
      transport.close();
    });

    test("who aborts while others wait for the first answer waits no longer", async () => {
      const w = world();
      w.network.cut = true;
      const transport = w.transport();
      const other = transport.reconnectToStream({ chatId: CHAT });
      const leaving = new AbortController();
      const left = transport.reconnectToStream({ chatId: CHAT, abortSignal: leaving.signal });
      await w.run(1_000);
      leaving.abort();
      await assert.rejects(left, { name: "AbortError" });
      w.network.cut = false;
      await w.run(30_000);
      assert.equal(await other, null);
    });

    for (const reason of ["error", "producer_lost"])
      test(`a job that ends as ${reason} is an error, and what there is is kept`, async () => {
        // The stream just closes, and looks complete, or hangs:
        // https://github.com/vercel/resumable-stream/issues/47
        const { w, chat, sent } = await halfway();
        w.end(reason, reason === "error" ? "Too long." : undefined);
        await w.run(4_000);
        await sent;
        assert.equal(chat.status, "error");
        assert.equal(chat.error.message, reason === "error" ? "Too long." : "The answer broke off.");
        assert.equal(textOf(chat), "Hel");
      });

    for (const odd of [null, "text", 7, ["text"], {}, { type: 1 }])
      test(`an answer with a chunk that is none of the SDK's, ${JSON.stringify(odd)}, says so`, async () => {
        const { w, chat, sent } = await halfway();
        w.say(odd, delta("lo"));
        await w.run();
        await sent;
        assert.equal(chat.status, "error");
        assert.equal(chat.error.message, "This answer is not made of the AI SDK's chunks.");
        assert.equal(textOf(chat), "Hel");
      });

    test("an answer that another one replaced is not taken for a whole one", async () => {
      const { w, chat, sent } = await halfway();
      w.write((log) => log.open(runId(90), {}));
      await w.run();
      await sent;
      assert.equal(textOf(chat), "Hel");
      assert.equal(chat.status, "ready");
      if (major > 5) assert.equal(chat.finished[0].finishReason, "interrupted");
    });

    test("an answer whose job was lost is not replaced by the one behind it", async () => {
      const { w, chat, sent } = await halfway();
      w.write(
        (log) => log.end("producer_lost"),
        (log) => log.open(runId(90), {}),
      );
      w.say(start("a90"), textStart("t90"), delta("another answer", "t90"), textEnd("t90"), finish);
      w.end("completed");
      await w.run(4_000);
      await sent;
      assert.equal(textOf(chat), "Hel");
      assert.equal(chat.status, "error");
      assert.equal(chat.error.message, "The answer broke off.");
    });

    test("a run that was retried goes on when it is asked for again", async () => {
      // Sequence numbers of two attempts: https://github.com/nesquena/hermes-webui/pull/3125
      const { w, chat, sent } = await halfway();
      w.end("producer_lost");
      await w.run(4_000);
      await sent;
      w.write((log) => log.claim());
      await w.run();
      const resumed = chat.resumeStream();
      await w.run();
      await whole(w, chat, resumed);
    });

    test("regenerating replaces the answer", async () => {
      const { w, chat, sent } = await halfway();
      await whole(w, chat, sent);
      const regenerated = chat.regenerate();
      await w.run();
      w.say(start("a2"), textStart(), delta("Good day"), textEnd(), finish);
      w.end("completed");
      await w.run();
      await regenerated;
      assert.equal(textOf(chat), "Good day");
      assert.equal(w.posts[1].trigger, "regenerate-message");
    });

    test("tool calls are shown as they come about", async () => {
      const { w, chat, sent } = await halfway();
      const tool = { toolCallId: "c1", toolName: "weather" };
      w.say({ type: "tool-input-start", ...tool });
      w.say({ type: "tool-input-delta", toolCallId: "c1", inputTextDelta: '{"city":"Ki' });
      w.say({ type: "tool-input-delta", toolCallId: "c1", inputTextDelta: 'el"}' });
      w.say({ type: "tool-input-available", ...tool, input: { city: "Kiel" } });
      w.say({ type: "tool-output-available", toolCallId: "c1", output: "grey" });
      await w.run();
      const resumedPage = w.page({ messages: [question] });
      const resumed = resumedPage.resumeStream();
      await w.run();
      for (const one of [chat, resumedPage]) {
        const part = answers(one)[0].parts.find(({ type }) => type === "tool-weather");
        assert.deepEqual(
          [part.state, part.input, part.output],
          ["output-available", { city: "Kiel" }, "grey"],
        );
      }
      w.say(textEnd(), finish);
      w.end("completed");
      await w.run();
      await Promise.all([sent, resumed]);
    });

    test("an answer goes on in its message behind a tool that the page ran, if its job names it", async () => {
      const w = world();
      const chat = w.page({ sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls });
      const sent = chat.sendMessage({ text: "Where am I?" });
      await w.run();
      const call = { toolCallId: "c1", toolName: "where" };
      w.say(start(), { type: "start-step" }, { type: "tool-input-start", ...call });
      w.say({ type: "tool-input-available", ...call, input: {} }, { type: "finish-step" });
      w.say({ type: "finish", finishReason: "tool-calls" });
      w.end("completed");
      await w.run();
      await sent;
      // Its name in each of the majors.
      void chat.addToolResult({ tool: "where", toolCallId: "c1", output: "Kiel" });
      await w.run();
      // What `Asked.message_id` goes by.
      const { id, role } = w.posts[1].messages.at(-1);
      assert.deepEqual([id, role, w.posts[1].messageId ?? id], ["a1", "assistant", "a1"]);
      w.say(start(id), { type: "start-step" }, textStart(), delta("It is "));
      await w.run();
      const reloaded = w.page({ messages: chat.messages });
      void reloaded.resumeStream();
      await w.run();
      w.say(delta("Kiel."), textEnd(), { type: "finish-step" }, finish);
      w.end("completed");
      await w.run();
      const types = (page) => answers(page).map(({ parts }) => parts.map(({ type }) => type));
      assert.deepEqual(types(chat), [["step-start", "tool-where", "step-start", "text"]]);
      assert.deepEqual(types(reloaded), [["step-start", "text"]], "a resumed turn is one run");
    });

    for (const [how, stop] of Object.entries({
      "was stopped": (w, chat) => chat.transportOf.cancel(CHAT),
      "was replaced": (w) => w.write((log) => log.open(runId(++w.runs))),
    }))
      test(`behind a tool, no turn follows by itself on one that ${how}`, async () => {
        const w = world();
        const chat = w.page({ sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls });
        const sent = chat.sendMessage({ text: "Where am I?" });
        await w.run();
        const call = { toolCallId: "c1", toolName: "where" };
        w.say(start(), { type: "start-step" }, { type: "tool-input-available", ...call, input: {} });
        w.say({ type: "finish-step" }, { type: "finish", finishReason: "tool-calls" });
        w.end("completed");
        await w.run();
        await sent;
        void chat.addToolResult({ tool: "where", toolCallId: "c1", output: "Kiel" });
        await w.run();
        assert.equal(w.posts.length, 2);
        void stop(w, chat);
        await w.run();
        assert.equal(w.posts.length, 2);
        assert.equal(chat.status, "ready");
      });

    test("a backend that refuses is an error with its text", async () => {
      const w = world();
      const chat = w.page({
        transport: w.transport({ fetch: async () => new Response("No more credit.", { status: 402 }) }),
      });
      await chat.sendMessage({ text: "hi" });
      assert.equal(chat.status, "error");
      assert.equal(chat.error.message, "No more credit.");
      assert.deepEqual([chat.error.code, chat.error.retryable], ["backend", false]);
    });

    test("a backend that is down or busy may take the turn later", async () => {
      for (const status of [429, 503]) {
        const w = world();
        const chat = w.page({ transport: w.transport({ fetch: async () => new Response("", { status }) }) });
        await chat.sendMessage({ text: "hi" });
        assert.deepEqual([chat.error.code, chat.error.retryable], ["backend", true]);
        assert.equal(chat.error.message, `HTTP ${status}`);
      }
    });

    test("what is posted is what the application prepared", async () => {
      const w = world();
      const prepareSendMessagesRequest = ({ id, messages }) => ({ body: { id, message: messages.at(-1) } });
      const chat = w.page({ messages: [question], transport: w.transport({ prepareSendMessagesRequest }) });
      const sent = chat.sendMessage({ text: "and?" });
      await w.run();
      assert.deepEqual(Object.keys(w.posts[0]).sort(), ["id", "message", "url"]);
      assert.equal(w.posts[0].message.parts[0].text, "and?");
      await chat.stop();
      await sent;
    });

    test("a job that never begins is an error in the end", async () => {
      const w = world();
      const chat = w.page({
        transport: w.transport({ fetch: async () => Response.json({ run: runId(7) }) }),
      });
      const sent = chat.sendMessage({ text: "hi" });
      await w.run(50_000);
      assert.equal(chat.status, "submitted");
      await w.run(30_000);
      await sent;
      assert.equal(chat.status, "error");
    });

    test("a turn that goes on is not ended by a browser that says it is offline", async () => {
      const { w, chat, sent } = await halfway();
      w.network.page.setOnline(false);
      for (let seconds = 0; seconds < 150; seconds += 30) {
        await w.run(30_000);
        w.say(delta("l"));
      }
      await w.run();
      assert.equal(chat.error, undefined);
      assert.equal(textOf(chat), "Hellllll");
      w.end("cancelled");
      await w.run();
      await sent;
    });

    test("an option that is undefined is not given", async () => {
      const w = world();
      const names = ["stream", "send", "api", "patience", "startWithin"];
      const chat = w.page({ transport: w.transport(Object.fromEntries(names.map((name) => [name]))) });
      const sent = chat.sendMessage({ text: "hi" });
      await w.run();
      assert.equal(w.posts[0].url, "/api/chat");
      w.say(start(), textStart(), delta("Hel"));
      await whole(w, chat, sent);
    });

    test("a network that stays away is an error in the end, and resuming mends it", async () => {
      const { w, chat, sent } = await halfway();
      w.network.cut = true;
      for (const socket of w.network.open) socket.fail(1006);
      await w.run(100_000);
      assert.equal(chat.status, "streaming");
      await w.run(60_000);
      await sent;
      assert.equal(chat.status, "error");
      assert.equal(textOf(chat), "Hel");
      w.network.cut = false;
      const resumed = chat.resumeStream();
      await w.run(40_000);
      await whole(w, chat, resumed);
    });

    test("a stream that may not be read is an error", async () => {
      const w = world();
      w.server.refusals.push(
        ...Array.from({ length: 9 }, () => ({
          type: "sync",
          error: { code: "forbidden", message: "not granted", retryable: false, stream: STREAM },
        })),
      );
      const chat = w.page();
      const resumed = chat.resumeStream();
      await w.run(5_000);
      await resumed;
      assert.equal(chat.status, "error");
      assert.equal(chat.error.code, "forbidden");
    });

    test("an answer of 12 MB is resumed", async () => {
      // https://github.com/vercel-labs/open-agents/issues/251
      const { w } = await halfway();
      const piece = "x".repeat(20_000);
      for (let i = 0; i < 600; i++) w.server.log(STREAM).data(delta(piece));
      const transport = w.transport();
      const stream = transport.reconnectToStream({ chatId: CHAT });
      await w.run(60_000);
      w.end("completed");
      await w.run(60_000);
      let size = 0;
      for await (const chunk of await stream) size += (chunk.delta ?? "").length;
      assert.equal(size, 3 + 600 * 20_000);
    });

    test("close ends what it began, and leaves a client that is not its own", async () => {
      const { w, chat, sent } = await halfway();
      chat.transportOf.close();
      await w.run();
      await sent;
      assert.equal(chat.finished[0].isAbort, true, "half an answer is no whole one");
      assert.equal(chat.transportOf.client.error, null);
      await w.run(70_000);
      assert.equal(w.network.open.length, 0);
      assert.equal(w.clock.pending, 0, "no timer is left behind");
    });

    test("who cancels is told how it ended, though the transport is closed meanwhile", async () => {
      const w = world();
      const chat = w.page();
      const sent = chat.sendMessage({ text: "hi" });
      await w.run();
      const cancelling = chat.transportOf.cancel(CHAT);
      chat.transportOf.close();
      await w.run();
      await sent;
      assert.deepEqual(await cancelling, { reason: "cancelled" });
    });

    test("close ends a turn that is still being asked for", async () => {
      const w = world();
      const slow = async (...how) => {
        await new Promise((resolve) => w.clock.setTimeout(resolve, 2_000));
        return w.fetch(...how);
      };
      const transport = w.transport({ fetch: slow });
      const turn = { trigger: "submit-message", chatId: CHAT, messages: [] };
      const sent = assert.rejects(transport.sendMessages(turn), { code: "closed" });
      await w.run(500);
      transport.close();
      await w.run(5_000);
      await sent;
      assert.equal(w.network.sockets.length, 0);
    });

    describe("by the socket", () => {
      const bySocket = (w, options) => w.transport({ send: "socket", ...options });

      test("a turn is sent with its last message, streams and is ready", async () => {
        const w = world();
        const earlier = { id: "a0", role: "assistant", parts: [{ type: "text", text: "Earlier." }] };
        const chat = w.page({
          messages: [{ ...question, id: "u0" }, earlier],
          transport: bySocket(w, { headers: { "X-Tenant": "7" }, body: async () => ({ model: "m" }) }),
        });
        const sent = chat.sendMessage({ text: "hi" }, { metadata: { a: 1 } });
        await w.run();
        const [[, { messages, run: _, ...frame }]] = w.server.begun;
        assert.deepEqual(
          messages.map(({ parts: [{ text }] }) => text),
          ["hi"],
        );
        const { requestId, ...rest } = frame;
        assert.match(requestId, /^[A-Za-z0-9._:/@=+-]{1,64}$/);
        assert.deepEqual(rest, {
          stream: STREAM,
          trigger: "submit-message",
          headers: { "x-tenant": "7" },
          body: { model: "m" },
          metadata: { a: 1 },
        });
        assert.deepEqual(w.posts, []);
        w.say(start(), textStart(), delta("Hel"), delta("lo"), textEnd(), finish);
        w.end("completed");
        await w.run();
        await sent;
        assert.equal(textOf(chat), "Earlier.||Hello");
        assert.equal(chat.status, "ready");
        assert.equal(w.network.sockets.length, 1, "one socket for all");
      });

      test("what is sent is what the application prepared", async () => {
        const w = world();
        const prepareSendMessagesRequest = ({ messages }) => ({ messages, body: { whole: true } });
        const transport = bySocket(w, { prepareSendMessagesRequest });
        const chat = w.page({ messages: [question], transport });
        const sent = chat.sendMessage({ text: "and?" });
        await w.run();
        const [[, { messages, body }]] = w.server.begun;
        assert.deepEqual([messages.length, body], [2, { whole: true }]);
        await chat.stop();
        await sent;
      });

      test("a turn whose answer was lost is sent again, and begins no second answer", async () => {
        for (let seed = 1; seed <= 10; seed++) {
          const w = world(seed);
          w.server.faults = { ...CALM, lose: 0.5, repeat: 0.3, delay: 500, sideBySide: 100 };
          const chat = w.page({ transport: bySocket(w) });
          const sent = chat.sendMessage({ text: "hi" });
          for (let i = 0; i < 4; i++) {
            await w.run(1_500);
            for (const socket of w.network.open) socket.fail(1006);
          }
          w.server.faults = CALM;
          await w.run(60_000);
          const sends = w.network.sent.filter(({ type }) => type === "send");
          assert.equal(new Set(sends.map(({ requestId }) => requestId)).size, 1);
          assert.equal(w.server.begun.size, 1, `seed ${seed}: ${sends.length} frames`);
          w.say(start(), textStart(), delta("Hel"));
          await w.run();
          await whole(w, chat, sent);
        }
      });

      test("a turn that is sent while there is no network waits for it", async () => {
        const w = world();
        w.network.cut = true;
        const chat = w.page({ transport: bySocket(w) });
        const sent = chat.sendMessage({ text: "hi" });
        await w.run(5_000);
        assert.equal(chat.status, "submitted");
        w.network.cut = false;
        await w.run(20_000);
        assert.equal(w.server.begun.size, 1);
        w.say(start(), textStart(), delta("Hel"));
        await w.run();
        await whole(w, chat, sent);
      });

      test("a turn that nobody answers is an error that may be tried again", async () => {
        const w = world();
        w.network.cut = true;
        const chat = w.page({ transport: bySocket(w) });
        const sent = chat.sendMessage({ text: "hi" });
        await w.run(31_000);
        await sent;
        assert.deepEqual([chat.error.code, chat.error.retryable], ["unavailable", true]);
        w.network.cut = false;
        await w.run(90_000);
        assert.equal(w.server.begun.size, 0, "what failed is not sent later");
        assert.equal(w.clock.pending, 0, "no timer is left behind");
      });

      test("a turn that is stopped before it could be sent is not sent", async () => {
        const w = world();
        w.network.cut = true;
        const chat = w.page({ transport: bySocket(w) });
        const sent = chat.sendMessage({ text: "hi" });
        await w.run(3_000);
        await chat.stop();
        await sent;
        assert.deepEqual([chat.status, chat.error], ["ready", undefined]);
        w.network.cut = false;
        await w.run(90_000);
        assert.equal(w.server.begun.size, 0);
      });

      test("a turn over 32,000 bytes is refused before it is sent, and harms no other", async () => {
        const { w, chat, sent } = await halfway();
        const transport = bySocket(w, { client: chat.transportOf.client, stream: () => "chat:43" });
        const long = w.page({ transport });
        await long.sendMessage({ text: "é".repeat(16_000) });
        assert.deepEqual([long.status, long.error.code], ["error", "too_large"]);
        assert.match(long.error.message, /32000 bytes/);
        assert.equal(w.network.sent.filter(({ type }) => type === "send").length, 0);
        await whole(w, chat, sent);
        assert.equal(w.network.sockets.length, 1);
      });

      for (const [code, message] of [
        ["forbidden", "the token does not grant this"],
        ["unsupported", "the stack has no job function"],
      ])
        test(`a turn that is refused as ${code} is an error with its text, and harms no reader`, async () => {
          const { w, chat, sent } = await halfway();
          w.server.refusals.push({
            type: "send",
            error: { code, message, retryable: false, stream: STREAM },
          });
          const refused = w.page({ transport: bySocket(w, { client: chat.transportOf.client }) });
          const sending = refused.sendMessage({ text: "hi" });
          await w.run();
          await sending;
          assert.deepEqual([refused.error.code, refused.error.message], [code, message]);
          await whole(w, chat, sent);
        });

      test("a server that is busy for a moment is asked again", async () => {
        const w = world();
        const error = { code: "unavailable", message: "AWS: throttled", retryable: true };
        w.server.refusals.push({ type: "send", error }, { type: "send", error });
        const chat = w.page({ transport: bySocket(w) });
        const sent = chat.sendMessage({ text: "hi" });
        await w.run(10_000);
        assert.equal(w.server.begun.size, 1);
        w.say(start(), textStart(), delta("Hel"));
        await w.run();
        await whole(w, chat, sent);
      });

      test("regenerating tells the job so", async () => {
        const w = world();
        const answer = { id: "a1", role: "assistant", parts: [{ type: "text", text: "No." }] };
        const chat = w.page({ messages: [question, answer], transport: bySocket(w) });
        const regenerated = chat.regenerate({ messageId: "a1" });
        await w.run();
        const [[, { trigger, messageId, messages }]] = w.server.begun;
        assert.deepEqual([trigger, messageId, messages[0].id], ["regenerate-message", "a1", "u1"]);
        w.say(start("a2"), textStart(), delta("Hel"));
        await w.run();
        await whole(w, chat, regenerated);
      });
    });
  });
}
