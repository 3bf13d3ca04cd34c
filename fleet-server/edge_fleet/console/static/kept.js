// Keeps what was typed into a form until the server has taken it: an answer that refuses it, a session that
// ended, a server that was away or the way back must not cost a person's words. It stays in this tab, for an
// hour; passwords and files are never kept. Without this script the browser keeps what it keeps.
"use strict";

const KEPT = "edgefleet.kept";
const KEPT_MS = 3600000;
const NEVER = new Set(["hidden", "password", "file", "submit", "button"]);
const OF_THE_PAGE = new Set(["csrf", "seen"]); // made anew for every page

function forms() {
  return [...document.querySelectorAll('main form[method="post"]:not([action="/console/login"])')];
}

// which form it is: its action, and what it hides (of which device, which rule)
function named(form) {
  const hidden = [...form.querySelectorAll('input[type="hidden"]')].filter((one) => !OF_THE_PAGE.has(one.name));
  return JSON.stringify([form.getAttribute("action"), ...hidden.map((one) => [one.name, one.value])]);
}

function fields(form) {
  return [...form.elements].filter((one) => one.name && !NEVER.has(one.type));
}

function isTyped(one) {
  if (one.type === "checkbox" || one.type === "radio") return one.checked !== one.defaultChecked;
  if (one.tagName === "SELECT") return [...one.options].some((option) => option.selected !== option.defaultSelected);
  return one.value !== one.defaultValue;
}

function keep(form, isLost) {
  const typed = fields(form).filter(isTyped).map((one) => [one.name, one.value, one.checked === true]);
  sessionStorage.setItem(KEPT, JSON.stringify({ at: Date.now(), form: named(form), typed, isLost }));
}

function fill(form, typed) {
  const left = [...typed];
  for (const one of fields(form)) {
    const isBox = one.type === "checkbox" || one.type === "radio";
    const at = left.findIndex(([name, value]) => name === one.name && (!isBox || value === one.value));
    if (at < 0) continue;
    const [, value, checked] = left.splice(at, 1)[0];
    if (isBox) one.checked = checked;
    else one.value = value;
    for (let inside = one.closest("details"); inside; inside = inside.parentElement.closest("details")) inside.open = true;
  }
}

function bringBack() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (kept === null) return;
  const isRefused = document.querySelector("[data-refused], [aria-invalid]") !== null;
  const isBack = performance.getEntriesByType("navigation")[0]?.type === "back_forward";
  const form = forms().find((one) => named(one) === kept.form);
  if (Date.now() - kept.at > KEPT_MS || !(kept.isLost || isRefused || isBack)) {
    sessionStorage.removeItem(KEPT); // the server has taken it
    return;
  }
  if (form === undefined) {
    sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, isLost: true })); // a login is on the way
    return;
  }
  sessionStorage.removeItem(KEPT);
  if (kept.typed.length === 0) return;
  fill(form, kept.typed);
  if (!kept.isLost) return;
  const told = document.createElement("p");
  told.className = "why";
  told.setAttribute("role", "status");
  told.textContent = "What you had typed is here again. It was not sent, or not taken.";
  form.prepend(told);
}

document.addEventListener("submit", (event) => {
  if (!event.defaultPrevented && forms().includes(event.target)) keep(event.target, false);
});
// the page leads to the login by itself: the session has ended (console.js)
document.addEventListener("leaving", () => {
  const typed = forms().find((form) => fields(form).some(isTyped));
  if (typed) keep(typed, true);
});
bringBack();
