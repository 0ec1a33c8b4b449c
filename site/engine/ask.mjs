// Asks the packed engine in Node. Each argument after the folders, or else each line of the input, is a request; each line
// of the output is a reply:
//   node ask.mjs PYODIDE FOLDER '{"type": "render", "answers": {}}'

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

import { start } from "./start.mjs";

const [pyodide, folder] = process.argv.slice(2, 4).map((path) => resolve(path));
const requests = process.argv.length > 4 ? process.argv.slice(4) : createInterface({ input: process.stdin });
// Node would print all of Pyodide in one line
process.on("uncaughtException", (error) => {
  console.error(error.message);
  process.exit(1);
});
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`));
const unpacked = (name) => new Uint8Array(gunzipSync(readFileSync(join(folder, name))));
const place = mkdtempSync(join(tmpdir(), "stdlib-"));
try {
  const stdlib = join(place, "python314.zip");
  writeFileSync(stdlib, unpacked("stdlib.zip.gz"));
  const files = { stdlib, packages: unpacked("packages.tar.gz"), template: unpacked("template.tar.gz") };
  const engine = await start(loadPyodide, files, async () => unpacked("text.tar.gz"));
  for await (const request of requests) {
    const { zip, ...reply } = await engine(JSON.parse(request));
    process.stdout.write(`${JSON.stringify(zip ? { zip: Buffer.from(zip).toString("base64") } : reply)}\n`);
  }
} finally {
  rmSync(place, { recursive: true });
}
