/** The messages of a chat, kept in this browser: in your application, your database. */
import { readUIMessageStream } from "ai";

const key = (chat) => `chat ${chat}`;

/** What is there may be of another page, or cut short: then the chat begins anew. */
export function load(chat) {
  try {
    const messages = JSON.parse(localStorage.getItem(key(chat)));
    return Array.isArray(messages) ? messages : [];
  } catch {
    return [];
  }
}

/** A full store costs the next reload what is not in it, and not this page. */
export function save(chat, messages) {
  try {
    localStorage.setItem(key(chat), JSON.stringify(messages));
  } catch (error) {
    console.warn(error);
  }
}

/**
 * The answer that ended while nobody looked: the log still has it. Null where the log's last
 * answer is one of `messages`, so that the last question never reached its job.
 * @param {import("tailrace").Client} client
 * @param {string} chat
 * @param {{id: string}[]} messages
 */
export async function lastAnswer(client, chat, messages) {
  let last = null;
  const stream = client.stream(`chat:${chat}`).readable();
  for await (const message of readUIMessageStream({ stream, onError: () => {} })) last = message;
  return messages.some(({ id }) => id === last?.id) ? null : last;
}
