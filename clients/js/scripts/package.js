/** Packs the package and looks at it as its users will: its exports, its types, a strict program. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

const run = (command, args, options = {}) => execFileSync(command, args, { encoding: "utf8", ...options });
const bin = (name) => resolve("node_modules/.bin", name);
const work = mkdtempSync(join(tmpdir(), "tailrace-package-"));

try {
  const [packed] = JSON.parse(run("npm", ["pack", "--json", "--silent", "--pack-destination", work]));
  const tarball = join(work, packed.filename);
  console.log(`${packed.filename}: ${packed.files.length} files, ${packed.size} bytes`);

  const { messages, pkg } = await publint({ strict: true });
  for (const message of messages) console.error(formatMessage(message, pkg));
  if (messages.length) process.exitCode = 1;

  // The package has ES modules only, which CommonJS imports dynamically.
  console.log(run(bin("attw"), ["--profile", "esm-only", "--format", "ascii", tarball]).trim());

  const modules = join(work, "node_modules");
  mkdirSync(join(modules, "tailrace"), { recursive: true });
  run("tar", ["-xzf", tarball, "-C", join(modules, "tailrace"), "--strip-components=1"]);
  for (const name of ["react", "@types", "ai5", "ai6", "ai7"])
    symlinkSync(resolve("node_modules", name), join(modules, name));
  cpSync("test/consumer", work, { recursive: true });
  for (const [module, moduleResolution] of [
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ]) {
    const how = [
      "--strict",
      "--exactOptionalPropertyTypes",
      "--noEmit",
      "--target",
      "es2022",
      "--module",
      module,
      "--moduleResolution",
      moduleResolution,
    ];
    run(bin("tsc"), [...how, "--jsx", "react-jsx", "--lib", "es2022,dom", "--types", "", "program.tsx"], {
      cwd: work,
    });
    // The SDK's own types need more than a page has.
    run(bin("tsc"), [...how, "--lib", "es2022,dom,dom.iterable", "--skipLibCheck", "--types", "", "ai.ts"], {
      cwd: work,
    });
    console.log(`a strict program compiles with --moduleResolution ${moduleResolution}`);
  }
} catch (error) {
  console.error(error.stdout ?? error);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
