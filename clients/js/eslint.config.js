import js from "@eslint/js";
import globals from "globals";

const MACHINE = ["answers", "asks", "cursor", "frames", "links", "machine"].map((name) => `src/${name}.js`);

export default [
  { ignores: ["types/"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  { files: ["src/**"], ignores: MACHINE, languageOptions: { globals: globals["shared-node-browser"] } },
  {
    // The machine is pure: it has no clock, no chance, no timers and no network.
    files: MACHINE,
    languageOptions: { globals: { TextEncoder: "readonly" } },
    rules: {
      "no-restricted-globals": [
        "error",
        "Date",
        "performance",
        "setTimeout",
        "fetch",
        "WebSocket",
        "globalThis",
      ],
      "no-restricted-properties": ["error", { object: "Math", property: "random" }],
    },
  },
  { files: ["src/react.js"], languageOptions: { globals: globals.browser } },
  {
    files: ["test/**", "bench/**", "scripts/**"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
];
