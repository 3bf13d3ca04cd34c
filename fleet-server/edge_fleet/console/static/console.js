// Keeps the parts marked data-live as the server has them: the server says what changed, the page is
// read again, and only parts that differ are put in place. Without this script every page still works.
"use strict";

const GAP_MS = 1500; // at most one reading in this time, however much changes
const IDLE_MS = 15000; // silence is news too: times and health are read again without being told
const AGAIN_MS = 5000; // after a stream that was refused; one that broke the browser opens again by itself
const PATIENCE_MS = 30000; // for one reading: a connection that died without a word is not waited for

const light = document.getElementById("light");
let timer = null; // of the next reading; there is one at a time
let isSoon = false; // something changed since the last began
let isReading = false;
let news = null;
let isMissed = false; // something may have happened while nothing was heard

// on a phone the pages are one row that is pushed sideways: the one that is shown must be seen
const pages = document.querySelector("header nav");
const current = pages?.querySelector("[aria-current]");
if (current) pages.scrollLeft = current.offsetLeft - pages.offsetLeft - pages.clientWidth / 2 + current.offsetWidth / 2;

function say(state, words) {
  if (light && light.textContent !== words) {
    light.dataset.state = state;
    light.textContent = words;
  }
}

// who works by keyboard must not be thrown back to the top of the page with every reading
function markOf(one) {
  const names = ["id", "href", "name", "value", "data-copy", "action"].map((name) => one.getAttribute(name));
  return JSON.stringify([one.tagName, ...names, one.parentElement.id]);
}

function same(part, mark) {
  return [...part.querySelectorAll("a, button, input, select, summary, [tabindex]")].filter((one) => markOf(one) === mark);
}

function placeOf(part, one) {
  const mark = markOf(one);
  return { mark, at: same(part, mark).indexOf(one) };
}

// a form's answer stands at the form's address: the page that it shows says where it is read from
function address() {
  const own = document.querySelector("[data-at]")?.dataset.at;
  return own && own !== location.pathname ? own : location.href;
}

async function read(signal) {
  const answer = await fetch(address(), { headers: { Accept: "text/html" }, signal });
  if (answer.redirected && new URL(answer.url).pathname === "/console/login") {
    document.dispatchEvent(new Event("leaving"));
    location.assign(answer.url); // the session has ended
    return;
  }
  if (!answer.ok || answer.redirected) {
    say("down", "not live");
    return;
  }
  if (news?.readyState === EventSource.OPEN) say("up", "live");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const chosen = getSelection();
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (next === null || next.innerHTML === part.innerHTML) continue;
    if (!chosen.isCollapsed && part.contains(chosen.anchorNode)) continue; // somebody is about to copy it
    const focus = part.contains(document.activeElement) ? placeOf(part, document.activeElement) : null;
    const open = new Set([...part.querySelectorAll("details[open][id]")].map((one) => one.id));
    part.replaceChildren(...next.childNodes);
    for (const one of part.querySelectorAll("details[id]")) one.open = one.open || open.has(one.id);
    if (focus) same(part, focus.mark)[focus.at]?.focus({ preventScroll: true });
  }
}

function wait() {
  clearTimeout(timer);
  timer = setTimeout(turn, isSoon ? GAP_MS : IDLE_MS);
}

async function turn() {
  isReading = true;
  isSoon = false;
  const limit = new AbortController();
  const late = setTimeout(() => limit.abort(), PATIENCE_MS);
  try {
    if (!document.hidden) await read(limit.signal);
  } catch {
    say("down", "not live");
  }
  clearTimeout(late);
  isReading = false;
  wait();
}

function hurry() {
  if (isSoon) return;
  isSoon = true;
  if (!isReading) wait();
}

function listen() {
  news = new EventSource("/api/v1/events");
  news.onopen = () => {
    say("up", "live");
    if (isMissed) hurry();
    isMissed = false;
  };
  news.onerror = () => {
    say("down", "not live");
    isMissed = true;
    if (news.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS); // answered, but not with a stream
  };
  for (const kind of ["device", "telemetry", "release", "rollout", "alert", "standing", "refusal", "broker", "lost"]) {
    news.addEventListener(kind, hurry);
  }
}

if (document.querySelector("[data-live]")) {
  listen();
  document.addEventListener("visibilitychange", () => document.hidden || hurry());
  hurry();
} else {
  light?.remove(); // nothing on this page changes by itself
}

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
