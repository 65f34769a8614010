// Replaces what the page shows every few seconds, in place, so that scrolling and focus stay. It
// rests while nobody looks, and says so when the server does not answer.
"use strict";

const seconds = Number(document.body.dataset.refreshSeconds);

async function refresh() {
  if (document.hidden) return;
  const freshness = document.getElementById("freshness");
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10000) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const content = fresh.getElementById("content");
    if (!content) throw new Error("not a page of this server");
    const focused = document.activeElement?.closest("#content a")?.getAttribute("href");
    document.getElementById("content").replaceWith(content);
    freshness.replaceWith(fresh.getElementById("freshness"));
    if (focused) [...content.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus({ preventScroll: true });
  } catch {
    if (!freshness.dataset.stale) {
      freshness.dataset.stale = "true";
      freshness.append(": the server does not answer, trying again");
    }
  }
}

async function forever() {
  await refresh();
  setTimeout(forever, seconds * 1000);
}

setTimeout(forever, seconds * 1000);
document.addEventListener("visibilitychange", refresh);
