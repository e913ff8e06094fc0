/**
 * What the AI SDK's own reader makes of chunks, in each of its majors.
 *
 * As a program it answers questions, one JSON text a line: `{"major": 7, "of": [[chunk, …], …]}`
 * by `[{"message", "errors"}, …]`.
 */
import { createInterface } from "node:readline";

export const MAJORS = [5, 6, 7];

/** @param {number} major */
export const sdk = (major) => import(`ai${major}`);

/**
 * @param {number} major
 * @param {any[]} chunks
 */
export async function read(major, chunks) {
  const { readUIMessageStream } = await sdk(major);
  const stream = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(structuredClone(chunk));
      controller.close();
    },
  });
  const errors = [];
  let message = null;
  for await (const state of readUIMessageStream({ stream, onError: (error) => errors.push(error.message) }))
    message = state;
  return { message, errors };
}

if (process.argv[1] === import.meta.filename) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { major, of } = JSON.parse(line);
    const found = [];
    for (const chunks of of) found.push(await read(major, chunks));
    console.log(JSON.stringify(found));
  }
}
