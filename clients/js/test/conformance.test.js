import { test } from "node:test";
import { play, scenarios } from "./support/vectors.js";

for (const scenario of scenarios()) {
  test(`${scenario.file}: ${scenario.name}`, () => void play(scenario));
}
