/** The transport is one of every major of the AI SDK, to a strict program as well. */
import type { ChatTransport as Transport5, UIMessage as Message5 } from "ai5";
import type { ChatTransport as Transport6, UIMessage as Message6 } from "ai6";
import type { ChatTransport as Transport7, UIMessage as Message7 } from "ai7";
import { TailraceChatTransport } from "tailrace/ai";

const transport = new TailraceChatTransport({
  client: { url: "wss://example.test", token: async () => "token" },
  api: "/chat",
  headers: () => ({ authorization: "…" }),
  prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
});

export const bySocket = new TailraceChatTransport({
  client: transport.client,
  send: "socket",
  prepareSendMessagesRequest: ({ messages }) => ({ messages: messages.slice(-2) }),
});
/** An option that is undefined is not given, also to `exactOptionalPropertyTypes`. */
export const maybe = (api?: string, cancelOnAbort?: boolean, headers?: HeadersInit) =>
  new TailraceChatTransport({
    client: transport.client,
    api,
    headers,
    cancelOnAbort,
    send: undefined,
    prepareSendMessagesRequest: () => ({ headers, messages: undefined }),
  });
export const begun: Promise<{ run: string }> = transport.client.send({ stream: "chat:42", body: { a: 1 } });

export const transport5: Transport5<Message5> = transport;
export const transport6: Transport6<Message6> = transport;
export const transport7: Transport7<Message7> = transport;

export const reason: Promise<string | null | undefined> = transport.cancel("42").then((end) => end?.reason);

// @ts-expect-error: a transport needs a client
new TailraceChatTransport({});
