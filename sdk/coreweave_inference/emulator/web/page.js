// Refreshes what the page shows. The forms stay as they are, so nothing half filled in is lost.
"use strict";

const EVERY = 2000; // milliseconds

async function refresh() {
  const selection = document.getSelection();
  if (document.hidden || (selection && !selection.isCollapsed)) return;
  const connection = document.getElementById("connection");
  let fresh;
  try {
    const answer = await fetch("/");
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    connection.textContent = "The emulator does not respond.";
    return;
  }
  connection.textContent = "";
  if (!fresh.querySelector("[data-live]")) {
    location.assign("/"); // the session has ended
    return;
  }
  for (const shown of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(shown.id);
    if (next && next.innerHTML !== shown.innerHTML) shown.replaceChildren(...next.childNodes);
  }
}

setInterval(refresh, EVERY);
