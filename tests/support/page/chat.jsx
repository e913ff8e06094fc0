/** A chat as an application has it: `useChat`, in StrictMode, over a transport. */
import * as sdk from "ai-sdk";
import { useChat } from "ai-react";
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { TailraceChatTransport } from "tailrace/ai";

const { chat, socket, via } = Object.fromEntries(new URLSearchParams(location.search));
// `mint` is the test's: it stands for a backend.
const token = () => globalThis.mint(chat);
// Whom the job function hands the turn to.
const body = { backend: `${location.origin}/job` };
const messages = (turn) => turn.messages.slice(-1);
const transport =
  via === "stock"
    ? new sdk.WebSocketChatTransport({
        url: socket,
        params: async () => ({ token: await token() }),
        body,
        prepareSendMessagesRequest: (turn) => ({ messages: messages(turn) }),
      })
    : new TailraceChatTransport({
        client: { url: socket, token },
        send: via,
        ...(via === "socket" && { body }),
      });

// A look that finds nothing sets the SDK's status to `ready`, also in mid-answer.
const look = transport.reconnectToStream.bind(transport);
let looks = 0;
transport.reconnectToStream = async (...turn) => {
  looks += 1;
  globalThis.looked = false;
  return look(...turn).finally(() => (globalThis.looked = --looks === 0));
};

function Chat() {
  const { messages, sendMessage, regenerate, resumeStream, stop, status, error } = useChat({ id: chat, transport, resume: true });
  useEffect(() => {
    const answers = messages.filter(({ role }) => role === "assistant");
    const texts = answers.map(({ parts }) => parts.flatMap(({ text }) => text ?? []).join("|"));
    globalThis.seen = { status, error: error?.message ?? null, texts, answers };
  });
  Object.assign(globalThis, { send: (text) => sendMessage({ text }), stop, resumeStream, regenerate: () => regenerate() });
  return (
    <>
      <output>{status}</output>
      {messages.map(({ id, parts }) => (
        <p key={id}>{parts.map(({ text }) => text).join("")}</p>
      ))}
    </>
  );
}

function App() {
  const [mounted, mount] = useState(true);
  Object.assign(globalThis, { mount });
  return mounted ? <Chat /> : null;
}

globalThis.cancel = () => transport.cancel(chat);
createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
