/** Three ways for `useChat` to one Tailrace stack. */
import { WebSocketChatTransport } from "ai";
import { createClient } from "tailrace";
import { TailraceChatTransport } from "tailrace/ai";

/** Your backend says who asks, and what this user may read, cancel and send. */
async function post(path) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  if (!answer.ok) throw new Error(`The backend answered ${answer.status}.`);
  return answer.json();
}

const token = async () => (await post("/api/chat/token")).token;

/** What is known of the user, and where the stack is. */
export const openSession = () => post("/api/chat/session");

/** Sockets that the page can cut, to see what becomes of an answer. */
const sockets = new Set();

class Socket extends WebSocket {
  constructor(...how) {
    super(...how);
    sockets.add(this);
    this.addEventListener("close", () => sockets.delete(this));
  }
}

export const cut = () => sockets.forEach((socket) => socket.close());

/** A frame has room for 32,000 bytes: the job knows the messages before. */
const lastMessage = ({ messages }) => messages.slice(-1);

/** @param {{url: string, handshake?: "query"}} session */
export function createTransports({ url, handshake }) {
  const client = createClient({ url, token, handshake, WebSocket: Socket });
  return {
    client,
    post: new TailraceChatTransport({
      client,
      api: "/api/chat",
      prepareSendMessagesRequest: ({ id, trigger, ...turn }) => ({ body: { id, trigger, messages: lastMessage(turn) } }),
    }),
    socket: new TailraceChatTransport({ client, send: "socket" }),
    sdk: new WebSocketChatTransport({
      url,
      params: async () => ({ token: await token() }),
      webSocket: Socket,
      prepareSendMessagesRequest: (turn) => ({ messages: lastMessage(turn) }),
    }),
  };
}
