/**
 * What a page loads, minified and gzipped; fails over the limits.
 *
 * The core is the machine, the wire and the edge; a page that reads streams loads all of
 * `tailrace`, which is the core with the readers and smoothing. The other parts are counted
 * without what such a page has already (`without`).
 *
 * A limit lies a little above what its part takes, so that nothing grows unnoticed. Who needs
 * more looks for bytes to save first, then raises it in the commit that spends them, and says
 * there what they buy.
 */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const PARTS = [
  { name: "core", entry: "src/client.js", without: ["./reader.js"], limit: 7_740 },
  { name: "tailrace", entry: "src/index.js", without: [], limit: 9_460 },
  { name: "tailrace/react", entry: "src/react.js", without: ["react"], limit: 1_500 },
  {
    name: "tailrace/ai",
    entry: "src/ai.js",
    without: ["./client.js", "./clock.js", "./errors.js"],
    limit: 2_550,
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
