"""The page of `edge-agent status`: what a person at the device wants to know, and what to do. Pure.

`status.read_status` gives the values, which `--json` prints as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from edge_contracts.digest import short

SILENT_S = 600.0  # ten hellos without a word of the server
STALE_S = 180.0  # three times as long as the daemon lets its news grow old
LEAST_FREE = 0.05
MOST_WAITING = 0.8  # of what the outbox holds
_LIMIT_BYTES = 64 << 20
DRIFTS = {
    "data-drift": ("inputs are not as they were", "look at the sensor: moved, dirty, other light?"),
    "prediction-drift": ("answers are not as they were", "look at the sensor, then at some answers"),
    "concept-drift": ("labels say that more answers are wrong than before", "ask for a model made anew"),
}
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
    rows = [row for row in _rows(status, now_s) if row[1]]
    lines = [head, "", *(f"{label:<13}{text}" for label, text in rows), "", "What to do"]
    if not troubles:
        lines.append("  nothing")
    for number, (what, do) in enumerate(troubles, 1):
        lines += [f"  {number}. {what}", f"     -> {do}"]
    return "\n".join(lines)


def find_troubles(status: dict[str, Any], now_s: float) -> Iterator[tuple[str, str]]:
    """What is wrong, and what a person can do about it; the worst first."""
    news, running = status["standing"], status["agent_process"] is not None
    if status["fault"]:
        yield status["fault"], "start the agent: it makes a new state from what is installed"
    if not running:
        yield "the agent is not running", "systemctl start edge-agent, or: edge-agent run"
    space = status["space"]
    unwritable = space["unwritable"] if space else ""
    if unwritable:
        yield (
            f"nothing can be stored on the disk: {unwritable}",
            "answers go on, telemetry and updates are lost; free some space, or see dmesg and mend the disk",
        )
    elif running and news and now_s - news["time_ms"] / 1000 > STALE_S:
        ago = _ago(now_s - news["time_ms"] / 1000)
        yield f"the agent has written nothing for {ago}", "look at its log; restart it if it hangs"
    if status["active"] is None and status["emptied"]:
        yield f"no answers: the model was {status['emptied']}", "wait for the fleet to assign another"
    elif status["active"] is None:
        do = "wait for the fleet to assign one" if status["device"] else "edge-agent install BUNDLE"
        yield "no model is installed", do
    elif running and news and news["model"] is None:
        yield "the model cannot be opened", "edge-agent doctor says why; edge-agent rollback goes back"
    guard = status["guard"]
    if running and guard["rung"] == "abstain":
        yield (
            f"no answers: {guard['why']}",
            "edge-agent rollback, or repair what is in quarantine and lift it",
        )
    for entry in guard["entries"]:
        yield (
            f"{entry['subject']} is not used ({entry['code']}: {entry['detail']})",
            f"it is tried again by itself; when repaired: edge-agent quarantine lift {entry['subject']}",
        )
    if running and news and not news["golden_agrees"]:
        yield (
            "the model gives wrong answers to its golden inputs",
            "edge-agent rollback; report it to the publisher",
        )
    for kind in news["drifting"] if running and news else ():
        yield DRIFTS[kind]
    if running and news and status["device"] and not news["link_up"]:
        reason = news["link_reason"] or "not connected"
        yield (
            f"no connection to the fleet ({reason})",
            "answers go on; check the network, then edge-agent doctor",
        )
    elif running and news and status["device"] and _silent_s(news, now_s) > SILENT_S:
        yield "the server does not answer", "answers go on; tell whoever runs the server"
    outbox = status["outbox"]
    if outbox and outbox["waiting_bytes"] > MOST_WAITING * _LIMIT_BYTES:
        yield "telemetry fills up", "connect the device: old windows are being added up, then dropped"
    if space and not unwritable and space["free_bytes"] < LEAST_FREE * space["total_bytes"]:
        yield f"the disk has {_bytes(space['free_bytes'])} left", "free some: updates will be refused"


def _rows(status: dict[str, Any], now_s: float) -> Iterator[tuple[str, str]]:
    news, running = status["standing"], status["agent_process"] is not None
    yield "runs", _model(status["active"]) + _since(news, "model_since_ms", now_s, running)
    if running and news:
        yield "answers now", _instead(status["active"], news["model"])
    if status["candidate"]:
        yield "on trial", _model(status["candidate"])
    yield "goes back to", _model(status["last_good"]) if status["last_good"] else "nothing yet"
    for line in status["beside"]:
        yield "beside it", " ".join(line.split())
    if running and news:
        yield "has answered", _answers(news)
        alike = "not as when the model was made" if news["drifting"] else "as when the model was made"
        yield "inputs look", alike if news["answered"] else "-"
    where = f"process {status['agent_process']}" if running else "not running"
    version = f", version {news['agent']}" if news else ""
    yield "agent", where + _since(news, "started_ms", now_s, running) + version
    yield "fleet", _fleet(status, news if running else None, now_s)
    yield "profile", " < ".join(status["profile"] or [])
    yield "updates", _updates(status)
    used = status["downloads"]
    if used["day_bytes"] or used["month_bytes"] or used["part_bytes"]:
        part = f", {_bytes(used['part_bytes'])} of the next bundle are here" if used["part_bytes"] else ""
        yield (
            "downloads",
            f"{_bytes(used['day_bytes'])} today, {_bytes(used['month_bytes'])} this month{part}",
        )
    if status["outbox"]:
        depth = status["outbox"]
        # the daemon also knows what it could not write down
        dropped = max(depth["dropped_records"], news["dropped_records"] if running and news else 0)
        lost = f"; {dropped} records were lost" if dropped else "; nothing was lost"
        if status["space"] and status["space"]["unwritable"]:
            lost += " until the disk failed"
        waits = f"{depth['waiting']} ({_bytes(depth['waiting_bytes'])}) wait for the server"
        yield "telemetry", (waits if depth["waiting"] else "all of it has arrived") + lost
    space = status["space"]
    if space:
        yield "space", f"{_bytes(space['free_bytes'])} free of {_bytes(space['total_bytes'])}"
    if running and news:
        heat = f", {news['temperature_c']:.0f} °C" if news["temperature_c"] is not None else ""
        yield "uses", f"{_bytes(news['rss_bytes'])} of memory{heat}"
        if news["alarm"]:
            yield "last alarm", f"{_moment(news['alarm_ms'])}, {news['alarm'][:160]}"
    yield "files", status["home"]


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


def _fleet(status: dict[str, Any], news: dict[str, Any] | None, now_s: float) -> str:
    if not status["device"]:
        return "not enrolled"
    text = f"{status['fleet']} at {status['server']}"
    if news is None:
        return text
    heard = (
        f"last heard {_ago(_silent_s(news, now_s))} ago"
        if news["heard_ms"]
        else "nothing heard since the start"
    )
    return f"{text}, {'connected' if news['link_up'] else 'NOT connected'}, {heard}"


def _updates(status: dict[str, Any]) -> str:
    text = _PHASES.get(str(status["phase"]), str(status["phase"]))
    told = status["assignment"]
    if not told:
        return text
    reason = f" ({told['code']}: {told['detail']})" if told["code"] else ""
    return f"{text}; assignment {told['assignment']} is {told['phase'].replace('_', ' ')}{reason}"


def _silent_s(news: dict[str, Any], now_s: float) -> float:
    return now_s - float(max(news["heard_ms"], news["started_ms"])) / 1000


def _since(news: dict[str, Any] | None, key: str, now_s: float, running: bool) -> str:
    if not running or not news or not news[key]:
        return ""
    return f", since {_moment(news[key])} ({_ago(now_s - news[key] / 1000)})"


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _ago(seconds: float) -> str:
    """A length of time in one unit, such as "3 h"."""
    seconds = max(0.0, seconds)
    for unit, length_s in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError("the last unit is for all sizes")
