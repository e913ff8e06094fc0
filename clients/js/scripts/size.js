/** What a page loads, minified and gzipped; fails over the limits. */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const LIMITS = { "src/index.js": 7_000, "src/react.js": 1_500 };

for (const [entry, limit] of Object.entries(LIMITS)) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
    write: false,
  });
  const [{ contents }] = outputFiles;
  const size = gzipSync(contents, { level: 9 }).length;
  console.log(`${entry}: ${size} of ${limit} bytes minified and gzipped (${contents.length} minified)`);
  if (size > limit) process.exitCode = 1;
}
