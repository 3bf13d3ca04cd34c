// Times are told in UTC, the same for everybody who looks; whoever points at one is told their own, too.
"use strict";

document.addEventListener("pointerover", (event) => {
  const time = event.target.closest?.("time");
  if (!time || time.dataset.own !== undefined) return;
  time.dataset.own = "";
  const here = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  time.title = `${time.title || time.textContent}; here ${here.format(new Date(time.dateTime))}`;
});
