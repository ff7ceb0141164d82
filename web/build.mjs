// Builds the page into the package: `npm run build`, or `make page`.
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../src/mobilesam/server/static");

/** Every file that the result is made of, by path; tests/page/test_build.py reads the same. */
function sources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sources(path) : [path];
  });
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
cpSync(join(here, "static"), out, { recursive: true });
const options = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  logLevel: "warning",
};
await build({ ...options, entryPoints: { page: join(here, "src/ui/main.ts") }, outdir: out });
await build({ ...options, entryPoints: { worker: join(here, "src/engine/worker.ts") }, outdir: out });
await build({ ...options, entryPoints: { sw: join(here, "src/sw.ts") }, outdir: out });
await build({
  ...options,
  minify: false,
  entryPoints: { arithmetic: join(here, "src/core/index.ts") },
  outfile: join(here, "../tests/page/arithmetic.mjs"),
});

const files = [
  join(here, "build.mjs"),
  join(here, "package-lock.json"),
  ...sources(join(here, "src")),
  ...sources(join(here, "static")),
];
const sum = createHash("sha256");
for (const path of files.map((file) => relative(here, file).replaceAll("\\", "/")).sort()) {
  sum.update(`${path}\0`).update(readFileSync(join(here, path)));
}
writeFileSync(join(out, "SOURCE"), `${sum.digest("hex")}\n`);
