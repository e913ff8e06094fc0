// Durable Streams: the reference server that its makers ship for Node. In memory, or in
// DATA_DIR where that is set.

import { DurableStreamTestServer } from "@durable-streams/server";
import { control } from "./work.mjs";

const server = new DurableStreamTestServer({
  port: Number(process.env.PORT),
  host: "127.0.0.1",
  ...(process.env.DATA_DIR ? { dataDir: process.env.DATA_DIR } : {}),
});
await server.start();
control({});
