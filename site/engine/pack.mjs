// Packs Python's library and the packages, as far as the engine loads them, and the template, all compiled:
//   node pack.mjs PYODIDE SOURCES TEMPLATE OUT

import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [pyodide, sources, template, out] = process.argv.slice(2).map((path) => resolve(path));
// Node would print all of Pyodide in one line
process.on("uncaughtException", (error) => {
  console.error(error.message);
  process.exit(1);
});
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`));
const python = await loadPyodide({ env: { HOME: "/home", PATH: "", PYTHONHASHSEED: "0" } });
for (const [name, path] of Object.entries({ "/packages": sources, "/template": template })) {
  python.FS.mkdirTree(name);
  python.mountNodeFS(name, path);
}
const packed = python.runPython(readFileSync(new URL("pack.py", import.meta.url), "utf8"));
for (const name of ["modules.zip", "compiled"]) writeFileSync(`${out}/${name}`, packed.get(name).toJs());
