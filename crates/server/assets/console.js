"use strict";
// Local times, and pages that stay fresh. Nothing is decided here: without this script every page works, too.
(() => {
  const parts = (root) => root.querySelectorAll("[data-live][id]");

  // Times come in UTC; people live elsewhere.
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const today = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const before = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.title = `${full.format(at)}; ${time.textContent}`;
      time.textContent = (at.toDateString() === new Date().toDateString() ? today : before).format(at);
    }
  }

  const known = new Map();
  for (const part of parts(document)) known.set(part.id, part.outerHTML);
  localTimes(document);

  // A part in which somebody is writing is left alone until it has become another one.
  const busy = (part) => {
    const field = part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
    const written = [...part.querySelectorAll("textarea")].some((area) => area.value !== area.defaultValue);
    return field || written;
  };

  function take(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const fresh of parts(page)) {
      const part = document.getElementById(fresh.id);
      if (!part || known.get(fresh.id) === fresh.outerHTML) continue;
      if (busy(part) && part.dataset.version === fresh.dataset.version) continue;
      known.set(fresh.id, fresh.outerHTML);
      const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const open = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
      part.replaceWith(document.importNode(fresh, true));
      const now = document.getElementById(fresh.id);
      localTimes(now);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) [...now.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
    }
    document.title = page.title;
  }

  const said = document.getElementById("live");
  const say = (text) => { if (said && said.textContent !== text) said.textContent = text; };
  // Says that nobody sees this anew, so that no production records are read for it.
  const headers = { accept: "text/html", "checkrein-live": "1" };
  let reading = false, again = false, last = 0;
  const EVERY = 1000;

  async function refresh() {
    if (reading) { again = true; return; }
    reading = true;
    again = false;
    const wait = last + EVERY - Date.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    try {
      const answer = await fetch(location.href, { headers });
      if (answer.redirected) { location.reload(); return; }
      if (answer.ok) take(await answer.text());
    } catch {
      say("The server does not answer; this page may be out of date.");
    } finally {
      last = Date.now();
      reading = false;
    }
    if (again) refresh();
  }

  const watched = (document.querySelector("main")?.dataset.watch ?? "").split(" ").filter(Boolean);
  if (watched.length) {
    const source = new EventSource("/live");
    let lost = false;
    source.addEventListener("open", () => { say("Live"); if (lost) refresh(); lost = false; });
    source.addEventListener("error", () => {
      lost = true;
      say("Not live; trying again.");
      // Closed for good: the session is over, or the server refuses.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
    });
    source.addEventListener("change", (event) => {
      const kinds = event.data.split(" ");
      if (kinds.some((kind) => watched.some((wanted) => kind.startsWith(wanted)))) refresh();
    });
  }

  // What takes long shows how far it is, and is not sent twice.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    form.setAttribute("aria-busy", "true");
    if (form.dataset.progress) {
      const show = setInterval(async () => {
        try {
          const answer = await fetch(form.dataset.progress, { headers });
          if (answer.ok && !answer.redirected) take(await answer.text());
        } catch { /* the answer of the form itself will tell */ }
      }, 700);
      addEventListener("pagehide", () => clearInterval(show));
    }
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) for (const form of document.forms) { delete form.dataset.sent; form.removeAttribute("aria-busy"); }
  });
})();
