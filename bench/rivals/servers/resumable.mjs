// Vercel's resumable-stream on Redis, as its README shows it: POST creates a stream,
// GET resumes it, `resumeAt` characters on.

import http from "node:http";
import { createResumableStreamContext } from "resumable-stream";
import { control, pace, paces } from "./work.mjs";

const context = createResumableStreamContext({
  waitUntil: (promise) => void promise.catch(() => {}),
});

/** A promise, and what settles it. */
function gate() {
  /** @type {(value?: any) => void} */
  let open = () => {};
  const passed = new Promise((resolve) => (open = resolve));
  return { open, passed };
}

/** @type {Map<string, {begun: any, written: any, released: any}>} */
const runs = new Map();

/** @param {string} sid */
function run(sid) {
  const found = runs.get(sid) ?? { begun: gate(), written: gate(), released: gate() };
  runs.set(sid, found);
  return found;
}

/** @param {string} sid */
function makeStream(sid) {
  const { begun, written, released } = run(sid);
  return new ReadableStream({
    async start(stream) {
      const { at, hold } = await begun.passed;
      await pace(at, (text) => stream.enqueue(`data: ${text}\n\n`));
      written.open();
      if (hold) await released.passed;
      stream.close();
    },
  });
}

/**
 * @param {http.IncomingMessage} request
 * @param {http.ServerResponse} response
 */
async function serve(request, response) {
  const query = new URL(request.url ?? "", "http://x").searchParams;
  const sid = query.get("sid") ?? "";
  const at = query.get("resumeAt");
  const stream =
    request.method === "POST"
      ? await context.createNewResumableStream(sid, () => makeStream(sid))
      : await context.resumeExistingStream(sid, at ? Number(at) : undefined);
  if (!stream) {
    response.writeHead(422).end("the stream is done");
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  response.socket?.setNoDelay(true);
  const reader = stream.getReader();
  let gone = false;
  response.on("close", () => {
    gone = true;
    reader.cancel().catch(() => {});
  });
  for (;;) {
    const { done, value } = await reader.read();
    if (done || gone) break;
    response.write(value);
  }
  response.end();
}

http
  .createServer((request, response) => {
    serve(request, response).catch((error) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error));
    });
  })
  .listen(Number(process.env.PORT), "127.0.0.1", () => {
    control({
      async produce(job) {
        for (const [sid, at] of paces(job)) run(sid).begun.open({ at, hold: job.hold });
        await Promise.all(job.sids.map((/** @type {string} */ sid) => run(sid).written.passed));
      },
      async release({ sids }) {
        for (const sid of sids) {
          run(sid).released.open();
          runs.delete(sid);
        }
      },
    });
  });
