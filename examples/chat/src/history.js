/** The messages of a chat, kept in this browser: in your application, your database. */
import { readUIMessageStream } from "ai";

const key = (chat) => `chat ${chat}`;

export const load = (chat) => JSON.parse(localStorage.getItem(key(chat)) ?? "[]");

export const save = (chat, messages) => localStorage.setItem(key(chat), JSON.stringify(messages));

/**
 * The answer that ended while nobody looked: the log still has it.
 * @param {import("tailrace").Client} client
 * @param {string} chat
 */
export async function lastAnswer(client, chat) {
  let last = null;
  const stream = client.stream(`chat:${chat}`).readable();
  for await (const message of readUIMessageStream({ stream, onError: () => {} })) last = message;
  return last;
}
