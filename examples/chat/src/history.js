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
 * Calls `act` with the messages whenever another tab has saved some.
 * @param {string} chat
 * @param {(messages: any[]) => void} act
 * @returns {() => void} the function that ends it
 */
export function watch(chat, act) {
  const hear = (event) => event.key === key(chat) && act(load(chat));
  addEventListener("storage", hear);
  return () => removeEventListener("storage", hear);
}

/**
 * The answer to a question that ended while nobody looked: the log still has it. Null where the
 * log's last answer is to another question, so that this one never reached its job; and where
 * nobody wants it any more.
 * @param {import("tailrace").Client} client
 * @param {string} chat
 * @param {{id: string}} question
 * @param {AbortSignal} signal
 */
export async function lastAnswer(client, chat, question, signal) {
  let last = null;
  const reader = client.stream(`chat:${chat}`);
  const stream = reader.readable();
  signal.addEventListener("abort", reader.close);
  for await (const message of readUIMessageStream({ stream, onError: () => {} })) last = message;
  return !signal.aborted && last?.metadata?.question === question.id ? last : null;
}
