// A button beside a digest, a key or a secret that copies the whole of it. Only where the browser allows a page
// to: on this machine and over https. Elsewhere, and without this script, no button is shown.
"use strict";

if (navigator.clipboard) document.documentElement.dataset.copies = "";

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
