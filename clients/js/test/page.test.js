/** What of the demo's page can be known without a browser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { layOut } from "../../../demo/page/flow.js";

const wide = (text) => 6 * text.length;

test("labels of marks never overlap, nor leave the picture, and all are there", () => {
  const marks = [100, 130, 140, 300, 590, 595].map((column, i) => ({ column, label: `mark ${i}` }));
  const labels = layOut(marks, wide, 600);
  assert.deepEqual(
    labels.map(({ text }) => text),
    ["mark 0, mark 1, mark 2", "mark 3", "mark 4, mark 5"],
  );
  labels.forEach(({ text, start }, i) => {
    assert.ok(start + wide(text) <= (labels[i + 1]?.start ?? 600), text);
  });
});

test("marks that are far from each other stand at their lines", () => {
  const marks = [10, 200].map((column) => ({ column, label: "cut" }));
  assert.deepEqual(
    layOut(marks, wide, 600).map(({ text, start }) => [text, start]),
    [
      ["cut", 8],
      ["cut", 198],
    ],
  );
});
