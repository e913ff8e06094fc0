import { useChat } from "@ai-sdk/react";
import { StrictMode, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { lastAnswer, load, save, watch } from "./history.js";
import { Message } from "./message.jsx";
import "./style.css";
import { createTransports, cut, openSession } from "./transports.js";

const WAYS = {
  post: { name: "Your backend", note: "The question is posted to a backend, which starts the job; the answer comes by the socket." },
  socket: { name: "The socket", note: "The question goes up the socket, and starts the job without a backend between." },
  sdk: {
    name: "The SDK’s own",
    note: "The AI SDK’s WebSocketChatTransport, with no package of Tailrace in the page. Stop only looks away, and a cut connection is an error until you resume.",
  },
};

const QUESTIONS = ["Why do streamed answers break?", "What is the weather in Kiel?", "Tell me a long story", "Fail, please"];

const session = await openSession();
const { client, ...transports } = createTransports(session);

/** Which chat and which way: kept in the address, so that a reload and a second tab show the same. */
function useAddress() {
  const read = () => {
    const [way, chat] = location.hash.slice(1).split("/");
    return { way: session.ways.includes(way) ? way : session.ways[0], chat: /^[a-z0-9]{1,32}$/.test(chat ?? "") ? chat : "first" };
  };
  const [address, set] = useState(read);
  useEffect(() => {
    const hear = () => set(read());
    addEventListener("hashchange", hear);
    return () => removeEventListener("hashchange", hear);
  }, []);
  return [address, ({ way, chat }) => (location.hash = `${way}/${chat}`)];
}

function App() {
  const [{ way, chat }, go] = useAddress();
  return (
    <>
      <header>
        <a className="wordmark" href="/">
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d="M2 7c4-4 7 4 11 0s6-2 9 0M2 13c4-4 7 4 11 0s6-2 9 0M2 19c4-4 7 4 11 0s6-2 9 0" />
          </svg>
          Tailrace
        </a>
        <fieldset>
          <legend>By way of</legend>
          {session.ways.map((id) => (
            <label key={id}>
              <input type="radio" name="way" checked={id === way} onChange={() => go({ way: id, chat })} />
              <span>{WAYS[id].name}</span>
            </label>
          ))}
        </fieldset>
        <button onClick={() => go({ way, chat: Date.now().toString(36) })}>New chat</button>
      </header>
      <Chat key={`${way}/${chat}`} way={way} id={`${session.user}/${chat}`} />
    </>
  );
}

/** Whether the reader follows the text: who scrolls up is left there, until they come back to its end. */
function useFollowing() {
  const follows = useRef(true);
  useEffect(() => {
    let last = scrollY;
    const hear = () => {
      const below = document.documentElement.scrollHeight - innerHeight - scrollY;
      // Up, and not because the page became shorter: by the first pixel, or the next word would take back who scrolls slowly.
      if (scrollY < last) follows.current = below < 2;
      else if (below < 80) follows.current = true;
      last = scrollY;
    };
    addEventListener("scroll", hear, { passive: true });
    return () => removeEventListener("scroll", hear);
  }, []);
  return follows;
}

function Chat({ way, id }) {
  const transport = transports[way];
  const [first] = useState(() => load(id));
  const { messages, setMessages, sendMessage, regenerate, resumeStream, stop, status, error } = useChat({
    id,
    transport,
    messages: first,
    resume: true,
    experimental_throttle: 50,
  });
  const busy = status === "submitted" || status === "streaming";
  const end = useRef(null);
  // Where there is nothing to resume the SDK forgets the error, and half an answer stays.
  const [unmended, setUnmended] = useState();
  const problem = error ?? unmended;
  const [stopping, setStopping] = useState({ now: false });

  useEffect(() => {
    if (busy) setUnmended();
    setStopping({ now: false });
  }, [busy]);
  // What came from the store is not written back: another tab may have gone on since.
  const kept = useRef(first);
  const isOwn = () => messages.at(-1) !== kept.current.at(-1);
  useEffect(() => void (isOwn() && save(id, messages)), [id, messages]);
  useEffect(() => {
    if (busy) return;
    return watch(id, (theirs) => {
      const news = theirs.at(-1)?.id !== messages.at(-1)?.id;
      // Another tab may lag behind what this one has seen to its end.
      if (isOwn() && !news) return;
      kept.current = theirs;
      setMessages(theirs);
      if (news) resumeStream();
    });
  }, [busy, id, messages, setMessages, resumeStream]);
  const follows = useFollowing();
  useEffect(() => void (follows.current && end.current.scrollIntoView({ block: "end" })), [follows, messages, status]);

  // A question without an answer, and none is being made: it ended while nobody looked.
  useEffect(() => {
    const question = messages.at(-1);
    if (status !== "ready" || question?.role !== "user") return;
    const gone = new AbortController();
    lastAnswer(client, id, question, gone.signal).then((answer) => {
      if (answer) setMessages((all) => (all.at(-1)?.id === question.id ? [...all, answer] : all));
    });
    return () => gone.abort();
  }, [status, messages, id, setMessages]);

  // The SDK's `stop` looks away; ours stops the job, for everyone who watches. Without a network it fails in the end.
  async function halt() {
    setStopping({ now: true });
    try {
      await (transport.cancel ? transport.cancel(id) : stop());
    } catch (failure) {
      setStopping({ now: false, failure });
    }
  }

  return (
    <main>
      <div className="messages" aria-live="polite" aria-busy={busy}>
        {messages.length === 0 && (
          <section className="intro">
            <h1>A chat that survives you.</h1>
            <p>
              Ask, and reload in mid-answer; open a second tab; cut the connection. <code>useChat</code> of the AI SDK,
              over a log in DynamoDB.
            </p>
            <p>There is no model here: a Lambda function on this machine says what it was told to say.</p>
          </section>
        )}
        {messages.map((message) => (
          <Message key={message.id} message={message} busy={busy && message === messages.at(-1)} />
        ))}
        {status === "submitted" && <p className="waiting">…</p>}
        {problem && !busy && (
          <p className="error" role="alert">
            <span>{problem.message}</span>
            <span className="ways">
              <button
                onClick={() => {
                  setUnmended(problem);
                  resumeStream();
                }}
              >
                Resume
              </button>
              <button onClick={() => regenerate()}>Ask again</button>
            </span>
          </p>
        )}
        {stopping.failure && busy && (
          <p className="error" role="alert">
            Not stopped: {stopping.failure.message}
          </p>
        )}
        <div ref={end} className="end" />
      </div>
      <Composer
        busy={busy}
        note={WAYS[way].note}
        suggest={messages.length === 0}
        onAsk={(text) => {
          follows.current = true;
          sendMessage({ text });
        }}
        stopping={stopping.now}
        onStop={halt}
      />
    </main>
  );
}

function Composer({ busy, note, suggest, stopping, onAsk, onStop }) {
  const [text, setText] = useState("");
  const ask = (question) => {
    if (!question.trim() || busy) return;
    onAsk(question);
    setText("");
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        ask(text);
      }}
    >
      {suggest && (
        <ul>
          {QUESTIONS.map((question) => (
            <li key={question}>
              <button type="button" onClick={() => ask(question)}>
                {question}
              </button>
            </li>
          ))}
        </ul>
      )}
      <div className="line">
        <input
          aria-label="Your question"
          value={text}
          maxLength={2000}
          autoComplete="off"
          placeholder="Ask something"
          onChange={(event) => setText(event.target.value)}
        />
        {busy ? (
          <button type="button" className="stop" disabled={stopping} onClick={onStop}>
            {stopping ? "Stopping" : "Stop"}
          </button>
        ) : (
          <button className="primary">Ask</button>
        )}
      </div>
      <p className="note">
        {note}{" "}
        <button type="button" className="link" onClick={cut}>
          Cut the connection
        </button>
      </p>
    </form>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
