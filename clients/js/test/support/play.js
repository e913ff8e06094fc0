/** Plays vectors of a file, which a simulation has written, and says what was otherwise. */
import { readFileSync } from "node:fs";
import { play } from "./vectors.js";

for (const vector of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  try {
    play(vector);
  } catch (error) {
    console.error(`${vector.name}: ${error.message}`);
    process.exitCode = 1;
  }
}
