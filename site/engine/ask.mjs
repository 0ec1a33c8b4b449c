// Asks the engine of a site in Node: each argument after the folder with its assets, otherwise each line of the input, is a
// request, and each line of the output the reply:
//   node site/engine/ask.mjs site/dist/assets '{"type": "render", "answers": {}}'

import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

import { start } from "./start.mjs";

const [folder, ...given] = process.argv.slice(2);
// Node would print all of Pyodide in one line
process.on("uncaughtException", (error) => {
  console.error(error.message);
  process.exit(1);
});
const named = (name) => join(folder, readdirSync(folder).find((file) => file.startsWith(name)));
const unpacked = (name) => new Uint8Array(gunzipSync(readFileSync(named(name))));
const { loadPyodide } = await import(pathToFileURL(join(named("pyodide"), "pyodide.mjs")));
const place = mkdtempSync(join(tmpdir(), "modules-"));
try {
  const modules = join(place, "python314.zip");
  writeFileSync(modules, unpacked("modules"));
  const files = { modules, template: unpacked("template") };
  const engine = await start(loadPyodide, files, async () => unpacked("text"));
  for await (const request of given.length ? given : createInterface({ input: process.stdin })) {
    const { zip, ...reply } = await engine(JSON.parse(request));
    process.stdout.write(`${JSON.stringify(zip ? { zip: Buffer.from(zip).toString("base64") } : reply)}\n`);
  }
} finally {
  rmSync(place, { recursive: true });
}
