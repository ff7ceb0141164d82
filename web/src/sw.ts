/**
 * The service worker of a folder that is hosted anywhere. It keeps everything that the page needs, under the name of
 * the weights' and the page's hash, so that a new version replaces an old one as a whole. And it says that
 * the page is isolated, if the host does not, because threads need that.
 */

const worker = self as unknown as ServiceWorkerGlobalScope;
const VERSION = "__VERSION__"; // put in by the export
const FILES: readonly string[] = JSON.parse("__FILES__");
const PREFIX = "mobilesam-";

worker.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(PREFIX + VERSION);
      await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
      await worker.skipWaiting();
    })(),
  );
});

worker.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) {
        if (name.startsWith(PREFIX) && name !== PREFIX + VERSION) await caches.delete(name);
      }
      await worker.clients.claim();
    })(),
  );
});

function isolated(response: Response): Response {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== worker.location.origin) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(PREFIX + VERSION);
      const kept = await cache.match(request, { ignoreSearch: true });
      return isolated(kept ?? (await fetch(request)));
    })(),
  );
});
