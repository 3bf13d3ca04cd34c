"""The page of `edge-agent status`: what a person at the device wants to know, and what to do. Pure.

`status.read_status` gives the values, which `--json` prints as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from edge_agent.device.troubles import Seen, find_troubles, silent_s
from edge_agent.device.words import ago, moment, size
from edge_contracts.digest import short

_PHASES = {
    "idle": "none under way",
    "staged": "a new bundle is here and will be tried next",
    "trial": "a new bundle is on trial",
}


def as_text(status: dict[str, Any], now_s: float) -> str:
    """The page."""
    troubles = list(find_troubles(status, now_s))
    name = status["device"] or "this device"
    head = f"{name}: {'all is well' if not troubles else 'NEEDS ATTENTION'}"
    rows = [row for row in _rows(Seen.of(status, now_s)) if row[1]]
    lines = [head, "", *(f"{label:<13}{text}" for label, text in rows), "", "What to do"]
    if not troubles:
        lines.append("  nothing")
    for number, (what, do) in enumerate(troubles, 1):
        lines += [f"  {number}. {what}", f"     -> {do}"]
    return "\n".join(lines)


def _rows(seen: Seen) -> Iterator[tuple[str, str]]:
    for part in (_of_the_model, _of_the_agent, _of_the_disk, _of_the_process):
        yield from part(seen)
    yield "files", seen.status["home"]


def _of_the_model(seen: Seen) -> Iterator[tuple[str, str]]:
    status, news = seen.status, seen.news
    yield "runs", _model(status["active"]) + _since(seen, "model_since_ms")
    if news:
        yield "answers now", _instead(status["active"], news["model"])
    if status["candidate"]:
        yield "on trial", _model(status["candidate"])
    yield "goes back to", _model(status["last_good"]) if status["last_good"] else "nothing yet"
    for line in status["beside"]:
        yield "beside it", " ".join(line.split())
    if news:
        yield "has answered", _answers(news)
        alike = "not as when the model was made" if news["drifting"] else "as when the model was made"
        yield "inputs look", alike if news["answered"] else "-"


def _of_the_agent(seen: Seen) -> Iterator[tuple[str, str]]:
    status, last = seen.status, seen.status["standing"]
    where = f"process {status['agent_process']}" if seen.running else "not running"
    version = f", version {last['agent']}" if last else ""
    yield "agent", where + _since(seen, "started_ms") + version
    yield "fleet", _fleet(seen)
    yield "profile", " < ".join(status["profile"] or [])
    yield "updates", _updates(status)
    used = status["downloads"]
    if used["day_bytes"] or used["month_bytes"] or used["part_bytes"]:
        part = f", {size(used['part_bytes'])} of the next bundle are here" if used["part_bytes"] else ""
        yield "downloads", f"{size(used['day_bytes'])} today, {size(used['month_bytes'])} this month{part}"


def _of_the_disk(seen: Seen) -> Iterator[tuple[str, str]]:
    depth, space = seen.status["outbox"], seen.status["space"]
    if depth:
        # the daemon also knows what it could not write down
        dropped = max(depth["dropped_records"], seen.news["dropped_records"] if seen.news else 0)
        lost = f"; {dropped} records were lost" if dropped else "; nothing was lost"
        until = " until the disk failed" if seen.unwritable else ""
        waits = f"{depth['waiting']} ({size(depth['waiting_bytes'])}) wait for the server"
        yield "telemetry", (waits if depth["waiting"] else "all of it has arrived") + lost + until
    if space:
        yield "space", f"{size(space['free_bytes'])} free of {size(space['total_bytes'])}"


def _of_the_process(seen: Seen) -> Iterator[tuple[str, str]]:
    news = seen.news
    if not news:
        return
    heat = f", {news['temperature_c']:.0f} °C" if news["temperature_c"] is not None else ""
    yield "uses", f"{size(news['rss_bytes'])} of memory{heat}"
    if news["alarm"]:
        yield "last alarm", f"{moment(news['alarm_ms'])}, {news['alarm'][:160]}"


def _model(bundle: dict[str, Any] | None) -> str:
    if bundle is None:
        return "no model"
    runs = f", {bundle['runs']}" if "runs" in bundle else ""
    fallback = f"; fallback: {bundle['fallback']}" if bundle.get("fallback") else ""
    named = f"{bundle.get('name', '?')} {bundle.get('version', '?')} ({short(bundle['bundle'])}"
    how = ", encrypted" if bundle.get("encrypted") else ""
    return f"{named}, slot {bundle['slot']}){runs}{how}{fallback}"


def _instead(active: dict[str, Any] | None, model: dict[str, Any] | None) -> str:
    """What answers in the place of what should, and why; "" when it is the same."""
    if active is None or model is None or "runs" not in active or not model.get("runtime"):
        return ""
    runtime, *_, device = model["runtime"].split()
    runs = f"{model['artifact']} in {runtime} on {device}"
    if (model["bundle"], runs) == (active["bundle"], active["runs"]):
        return ""
    why = f"; {model['fallback']}" if model["fallback"] else ""
    return f"{model['name']} {model['version']}, {runs}{why}"


def _answers(news: dict[str, Any]) -> str:
    upto = datetime.fromtimestamp(news["time_ms"] / 1000).astimezone().strftime("%H:%M:%S")
    counts = f"{news['failed']} failed, {news['refused']} refused, up to {upto}"
    text = f"{news['answered']} inputs since the start, {counts}"
    if news["latency_p50_ms"] is None:
        return text
    return f"{text}; {news['latency_p50_ms']:.3g} ms, 95 % within {news['latency_p95_ms']:.3g} ms"


def _fleet(seen: Seen) -> str:
    status, news = seen.status, seen.news
    if not status["device"]:
        return "not enrolled"
    text = f"{status['fleet']} at {status['server']}"
    if news is None:
        return text
    heard = "nothing heard since the start"
    if news["heard_ms"]:
        heard = f"last heard {ago(silent_s(news, seen.now_s))} ago"
    return f"{text}, {'connected' if news['link_up'] else 'NOT connected'}, {heard}"


def _updates(status: dict[str, Any]) -> str:
    text = _PHASES.get(str(status["phase"]), str(status["phase"]))
    told = status["assignment"]
    if not told:
        return text
    reason = f" ({told['code']}: {told['detail']})" if told["code"] else ""
    return f"{text}; assignment {told['assignment']} is {told['phase'].replace('_', ' ')}{reason}"


def _since(seen: Seen, key: str) -> str:
    if not seen.news or not seen.news[key]:
        return ""
    time_ms = seen.news[key]
    return f", since {moment(time_ms)} ({ago(seen.now_s - time_ms / 1000)})"
