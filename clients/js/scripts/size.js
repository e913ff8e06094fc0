/**
 * What a page loads, minified and gzipped; fails over the limits.
 *
 * The core is the machine, the wire and the edge; a page that reads streams loads all of
 * `tailrace`, which is the core with the readers and smoothing. Of the core, 170 bytes are
 * for starting answers: a frame that is sent until it is answered, for `cancel` and `send`. 20 of
 * both are for waiting longer for a server that is slow with everybody, 30 for asking again
 * where pushes may begin late (`again`), and 160 of the core and 180 of all for refusing what
 * can be no url, stream or token, for bearing listeners that throw, for waiting for a run that was
 * lost and for holding no slice twice. 110 of all are for the text of what providers
 * stream, 50 of both for telling that no token can be had, and that a run has expired, 10 for
 * going on where a server that was there before lets nobody in, 30 of
 * both for saying which option is missing without a WebSocket, and 20 of all for the text of a run
 * that was lost and goes on.
 */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const PARTS = [
  { name: "core", entry: "src/client.js", without: ["./reader.js"], limit: 7_500 },
  { name: "tailrace", entry: "src/index.js", without: [], limit: 9_230 },
  { name: "tailrace/react", entry: "src/react.js", without: ["react"], limit: 1_500 },
  {
    name: "tailrace/ai",
    entry: "src/ai.js",
    without: ["./client.js", "./clock.js", "./errors.js"],
    limit: 2_500,
  },
];

for (const { name, entry, without, limit } of PARTS) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: without,
    write: false,
  });
  const [{ contents }] = outputFiles;
  const size = gzipSync(contents, { level: 9 }).length;
  console.log(`${name}: ${size} of ${limit} bytes minified and gzipped`);
  if (size > limit) process.exitCode = 1;
}
