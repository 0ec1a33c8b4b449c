// Starts Python with the engine in it: in the page's worker, and in Node.

/**
 * @param {Function} loadPyodide - from pyodide.mjs
 * @param {{modules: string, template: Promise<Uint8Array>}} files - the URL or path of a zip, and a tar, which may arrive
 *   later
 * @param {() => Promise<Uint8Array>} text - loads a tar with what only the answer data=text needs
 * @returns {Promise<(request: object) => Promise<any>>} what answers a message of the page
 */
export async function start(loadPyodide, files, text) {
  const python = await loadPyodide({ stdLibURL: files.modules, env: { HOME: "/home", PATH: "", PYTHONHASHSEED: "0" } });
  python.unpackArchive(await files.template, "tar", { extractDir: "/template" });
  const engine = python.runPython(`
import gc
gc.disable()  # what is imported stays
import standins
from pathlib import Path
from engine import Engine
engine = Engine(Path("/template"))
gc.enable()
engine
`);
  let isWhole = false;
  return async (request) => {
    if (request.answers?.data === "text" && !isWhole) {
      python.unpackArchive(await text(), "tar", { extractDir: "/template" });
      isWhole = true;
    }
    const reply = engine.reply(JSON.stringify(request));
    if (typeof reply === "string") return JSON.parse(reply);
    const bytes = reply.toJs().slice().buffer;
    reply.destroy();
    return { zip: bytes };
  };
}
