"use strict";
// Copies texts, opens Airflow's own pages outside of the frame, and keeps the page of a running run up to date.
(() => {
  const status = document.getElementById("status");
  const seconds = 5;

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without TLS, browsers have no clipboard for scripts.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    status.textContent = "Copied";
    setTimeout(() => { status.textContent = ""; }, 2000);
  }

  function open(link) {
    // Airflow's sandbox lets this frame navigate nobody but itself; a link of the page around it is that page's own.
    const page = window.parent.document;
    const made = page.createElement("a");
    made.href = link.href;
    if (link.dataset.open === "tab") {
      made.target = "_blank";
      made.rel = "noopener noreferrer";
    }
    page.body.append(made);
    made.click();
    made.remove();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      copy(button.dataset.copy);
      return;
    }
    const link = event.target.closest("a[data-open]");
    if (link && window.parent !== window && !event.ctrlKey && !event.metaKey) {
      try {
        open(link);
        event.preventDefault();
      } catch {
        // Another origin is around this frame; the browser decides.
      }
    }
  });

  const shown = new Map();
  const parts = (page) => [...page.querySelectorAll("main > [id]")];
  for (const part of parts(document)) shown.set(part.id, part.outerHTML);

  function merge(fresh) {
    let before = null;
    const kept = new Set(parts(fresh).map((one) => one.id));
    for (const part of parts(document)) if (!kept.has(part.id)) { part.remove(); shown.delete(part.id); }
    for (const part of parts(fresh)) {
      const html = part.outerHTML;
      const old = document.getElementById(part.id);
      if (!old) {
        const made = document.importNode(part, true);
        if (before) before.after(made); else document.querySelector("main").prepend(made);
      } else if (shown.get(part.id) !== html) {
        const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id));
        const closed = new Set([...old.querySelectorAll("details:not([open])")].map((one) => one.id));
        const made = document.importNode(part, true);
        for (const one of made.querySelectorAll("details")) {
          if (open.has(one.id)) one.open = true;
          if (closed.has(one.id)) one.open = false;
        }
        old.replaceWith(made);
      }
      shown.set(part.id, html);
      before = document.getElementById(part.id);
    }
    document.body.dataset.live = fresh.body.dataset.live || "";
  }

  async function refresh() {
    if (document.visibilityState === "visible") {
      try {
        const answer = await fetch(window.location.href, { credentials: "same-origin" });
        if (answer.ok) merge(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } catch {
        // The next time may do.
      }
    }
    if (document.body.dataset.live) setTimeout(refresh, seconds * 1000);
  }

  if (document.body.dataset.live) setTimeout(refresh, seconds * 1000);
})();
