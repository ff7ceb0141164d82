/** The service worker: the page works offline after the first visit, and is isolated so that threads may run. */

const RELOADED = "mobilesam-reloaded"; // so that a browser that refuses to isolate is not reloaded for ever

/** Register it; the page is reloaded once, if it is not isolated and nobody has begun. */
export async function registerOffline(idle: () => boolean): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  try {
    await ready(await navigator.serviceWorker.register("sw.js"));
  } catch {
    return; // such as in a private window, or without space: the page works, but not offline
  }
  if (self.crossOriginIsolated || sessionStorage.getItem(RELOADED) || !idle()) return;
  sessionStorage.setItem(RELOADED, "1");
  location.reload();
  await new Promise(() => {}); // the page goes away
}

/** Wait until everything is kept; the model is then taken from there instead of being fetched again. */
function ready(registration: ServiceWorkerRegistration): Promise<unknown> {
  const { installing } = registration;
  const failed = new Promise((_, reject) => {
    installing?.addEventListener("statechange", () => {
      if (installing.state === "redundant") reject(new Error("not installed"));
    });
  });
  return Promise.race([navigator.serviceWorker.ready, failed]);
}
