// The producers of Durable Streams, by its own client, as its transport for the AI SDK
// writes: an append is not awaited, so that what comes meanwhile leaves together.

import { DurableStream } from "@durable-streams/client";
import { control, pace, paces } from "./work.mjs";

const base = `http://127.0.0.1:${process.env.PORT}/v1/stream/`;
/** @type {Map<string, DurableStream>} */
const streams = new Map();

control({
  async create({ sids }) {
    for (const sid of sids) {
      const made = { url: base + sid, contentType: "application/json" };
      streams.set(sid, await DurableStream.create(made));
    }
  },
  async produce(job) {
    await Promise.all(
      paces(job).map(async ([sid, at]) => {
        const stream = streams.get(sid);
        if (!stream) throw new Error(`no stream ${sid}`);
        streams.delete(sid);
        /** @type {Promise<unknown>} */
        let last = Promise.resolve();
        /** @type {unknown} */
        let failure;
        await pace(at, (text) => {
          last = stream.append(text).catch((error) => (failure = error));
        });
        await last;
        if (failure) throw failure;
        await stream.close();
      }),
    );
  },
});
