// The engine, in a worker: answers {id, type, ...} by {id, ...}, or by {id, error}.

import { loadPyodide } from "./pyodide/pyodide.mjs";
import { start } from "./start.mjs";

/** Fetch a file that was compressed when the site was built: not every host compresses it. */
async function unpacked(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} for ${url.pathname}`);
  return new Response(response.body.pipeThrough(new DecompressionStream("gzip")));
}

const bytes = async (url) => new Uint8Array(await (await unpacked(url)).arrayBuffer());

async function begin() {
  const template = bytes(new URL("./template.tar.gz", import.meta.url));
  const modules = await (await unpacked(new URL("./modules.zip.gz", import.meta.url))).blob();
  const files = { modules: URL.createObjectURL(modules), template };
  return start(loadPyodide, files, () => bytes(new URL("./text.tar.gz", import.meta.url)));
}

let engine = begin();

self.addEventListener("message", async ({ data: { id, ...request } }) => {
  try {
    engine ??= begin();
    const answer = await engine.catch((error) => {
      engine = undefined; // the next request starts it again: there may be a network then
      throw error;
    });
    const reply = await answer(request);
    self.postMessage({ id, ...reply }, reply.zip ? [reply.zip] : []);
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error).trim().split("\n").at(-1) });
  }
});
