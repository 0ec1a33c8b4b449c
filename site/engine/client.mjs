// Asks the engine, for the page:
//
//   const { form, files } = await ask({ type: "render", answers: { torch: "2.14" } });

const waiting = new Map();
let worker;
let last = 0;

/**
 * Start the engine, if it is not there. A policy binds a worker only if its URL is a blob's:
 * https://w3c.github.io/webappsec-csp/#initialize-global-object-csp
 */
export function begin() {
  if (worker) return;
  const url = new URL("./worker.mjs", import.meta.url).href;
  // Messages that come before the module is there would be lost
  const code = `const early = []; const keep = (event) => early.push(event.data);
    addEventListener("message", keep);
    await import(${JSON.stringify(url)});
    removeEventListener("message", keep);
    for (const data of early) dispatchEvent(new MessageEvent("message", { data }));`;
  worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
  worker.addEventListener("message", ({ data: { id, ...reply } }) => settle(id, reply));
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    for (const id of [...waiting.keys()]) settle(id, { error: event.message || "the engine did not load" });
    worker = undefined;
  });
}

function settle(id, { error, ...reply }) {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(new Error(error));
  else resolve(reply);
}

/** Ask the engine, which starts if it has not, and return its reply. It answers one request after the other. */
export function ask(request) {
  begin();
  return new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    worker.postMessage({ id: last, ...request });
  });
}

/** Keep the site for when there is no network. Call it once the engine is there, so that it slows nothing. */
export function keepOffline() {
  navigator.serviceWorker?.register(new URL("sw.mjs", document.baseURI), { type: "module" }).catch(() => {});
}
