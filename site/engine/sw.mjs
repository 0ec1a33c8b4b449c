// Serves the site where there is no network. Where there is one, it asks that first: the browser keeps compiled
// WebAssembly only of what comes from there.

const KEPT = "site-VERSION";
const FILES = []; // written by site/build.py

self.addEventListener("install", (event) => {
  // The page in the browser's cache may be older, and name other files
  const requests = FILES.map((file) => (file.startsWith("assets/") ? file : new Request(file, { cache: "no-cache" })));
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(requests)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches.keys().then((names) => Promise.all(names.filter((name) => name !== KEPT).map((name) => caches.delete(name)))),
  );
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method !== "GET" || new URL(url).origin !== location.origin) return;
  event.respondWith(answer(event.request));
});

async function answer(request) {
  const kept = () => caches.match(request, { ignoreSearch: true });
  try {
    const response = await fetch(request);
    // A page from before a new version names files that are gone
    return (response.status === 404 && (await kept())) || response;
  } catch (error) {
    const response = await kept();
    if (response) return response;
    throw error;
  }
}
