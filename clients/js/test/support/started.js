/** An answer that is going on, and what comes of reading it. */
import { Network } from "./network.js";
import { runId } from "./server.js";

export const STREAM = "chat:42";

/** A network with a run of two chunks going on. */
export function started() {
  const network = new Network();
  const { server } = network;
  server.write(
    STREAM,
    (log) => log.open(runId(1), { model: "m" }),
    (log) => log.data("Hello", ", "),
  );
  const say = (...chunks) => server.write(STREAM, (log) => log.data(...chunks));
  const end = (...how) => server.write(STREAM, (log) => log.end(...how));
  return { network, server, clock: network.clock, say, end };
}

/** Collects what an iteration gives, and how it ends. */
export function collect(iterable) {
  const got = { items: [], done: false, error: null };
  got.finished = (async () => {
    try {
      for await (const item of iterable) got.items.push(item);
    } catch (error) {
      got.error = error;
    }
    got.done = true;
  })();
  return got;
}
