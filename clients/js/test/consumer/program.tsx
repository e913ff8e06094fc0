/** A program as a user writes it, compiled strictly against the packed types. */
import { createClient, TailraceError, textOf } from "tailrace";
import type {
  Client,
  ClientOptions,
  Cursor,
  Json,
  Reader,
  Status,
  StreamEvent,
  StreamOptions,
} from "tailrace";
import { TailraceProvider, useStream, useTailrace } from "tailrace/react";

const options: ClientOptions = { url: "wss://example.test", token: async () => "token", handshake: "query" };
const client: Client = createClient(options);
createClient({ url: "wss://example.test", token: "token" });

const stop: () => void = client.subscribe((status: Status) => console.log(status));
stop();

const kept: Cursor | null = JSON.parse("null");
const streamOptions: StreamOptions = { after: kept, run: "run", follow: true, smooth: 120 };

/** An option that is undefined is not given, also to `exactOptionalPropertyTypes`. */
export function maybe(run?: string, smooth?: number, fetch?: typeof globalThis.fetch) {
  const own = createClient({ url: "wss://example.test", token: "token", fetch, handshake: undefined });
  void own.send({ stream: "chat:42", requestId: run, body: undefined });
  return own.stream("chat:42", { run, smooth, after: undefined, follow: undefined, compact: undefined });
}

const reader: Reader = client.stream("chat:42", streamOptions);

export async function read(): Promise<string> {
  for await (const chunk of reader) {
    const json: Json = chunk;
    if (textOf(json) === "") break;
  }
  for await (const event of reader.events()) {
    const some: StreamEvent = event;
    if (some.type === "chunk") console.log(some.chunk, some.seq?.toFixed(), some.via, some.at, some.shown);
    if (event.type === "open") console.log(event.meta?.model);
    if (event.type === "claim") console.log(event.epoch + 1);
    if (event.type === "end") console.log(event.reason.toUpperCase(), event.message?.length);
    // @ts-expect-error: there is no such event
    if (event.type === "opened") break;
  }
  const stream: ReadableStream<Json> = reader.readable();
  await stream.cancel();
  const { reason }: { reason: string | null } = await reader.cancel();
  const cursor: Cursor | null = reader.cursor;
  reader.close();
  console.log(reason, cursor?.run, cursor?.seq, reader.end?.reason, client.time(), client.error?.code);
  client.close();
  try {
    return await client.stream("chat:42").text((chunk) => String(chunk));
  } catch (error) {
    if (error instanceof TailraceError && error.retryable) return error.code;
    throw error;
  }
}

// @ts-expect-error: a stream's name is text
client.stream(42);
// @ts-expect-error: a client needs a token
createClient({ url: "wss://example.test" });

function Answer({ name, run: only }: { name: string | null; run?: string }) {
  const { text, chunks, status, end, error, cancel, retry, run } = useStream(name, {
    run: only,
    smooth: true,
    text: textOf,
  });
  const own: Client = useTailrace();
  return (
    <section aria-busy={!end} data-run={run} data-status={status}>
      <p>{text}</p>
      <button onClick={() => void cancel()}>Stop after {chunks.length}</button>
      {error && <p role="alert">{error.retryable ? "Waiting…" : error.message}</p>}
      <button onClick={retry}>Try again</button>
      <small>{own.status}</small>
    </section>
  );
}

export const App = () => (
  <TailraceProvider client={client}>
    <Answer name="chat:42" />
  </TailraceProvider>
);
