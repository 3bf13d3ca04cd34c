"""What is wrong with a device, and what a person can do about it. Pure.

One look for each thing that can be wrong, the worst first, over the values of `status.read_status`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.device.refused import ADVICE, read_refusal
from edge_agent.device.words import ago, size
from edge_agent.telemetry.outbox import Limits

SILENT_S = 600.0  # ten hellos without a word of the server
STALE_S = 180.0  # three times as long as the daemon lets its news grow old
LEAST_FREE = 0.05
MOST_WAITING = 0.8  # of what the outbox may hold
DRIFTS = {
    "data-drift": ("inputs are not as they were", "look at the sensor: moved, dirty, other light?"),
    "prediction-drift": ("answers are not as they were", "look at the sensor, then at some answers"),
    "concept-drift": ("labels say that more answers are wrong than before", "ask for a model made anew"),
}

Trouble = tuple[str, str]  # what is wrong, and what to do


@dataclass(frozen=True)
class Seen:
    """The status, and what the daemon says of itself where it runs.

    Args:
        news: None when it does not run, or has said nothing yet.
    """

    status: dict[str, Any]
    news: dict[str, Any] | None
    running: bool
    now_s: float

    @classmethod
    def of(cls, status: dict[str, Any], now_s: float) -> Seen:
        """Of a status that was read now."""
        running = status["agent_process"] is not None
        return cls(status, status["standing"] if running else None, running, now_s)

    @property
    def unwritable(self) -> str:
        """Why nothing can be stored on the disk, or ""."""
        space = self.status["space"]
        return str(space["unwritable"] or "") if space else ""


def find_troubles(status: dict[str, Any], now_s: float) -> Iterator[Trouble]:
    """What is wrong, and what a person can do about it; the worst first."""
    seen = Seen.of(status, now_s)
    for look in _LOOKS:
        yield from look(seen)


def silent_s(news: dict[str, Any], now_s: float) -> float:
    """For how long the server has said nothing."""
    return now_s - float(max(news["heard_ms"], news["started_ms"])) / 1000


def _state(seen: Seen) -> Iterator[Trouble]:
    if seen.status["fault"]:
        yield seen.status["fault"], "start the agent: it makes a new state from what is installed"


def _identity(seen: Seen) -> Iterator[Trouble]:
    said = seen.status["identity"]
    if not said:
        return
    if "its copy counts" in said:
        yield said, "restart the agent: it puts the file back"
    else:
        yield (
            f"who this device is cannot be read: {said}",
            "answers go on while the agent runs; make a token (edge-fleet token create), then enrol anew",
        )


def _process(seen: Seen) -> Iterator[Trouble]:
    if not seen.running:
        yield "the agent is not running", "systemctl start edge-agent, or: edge-agent run"


def _storing(seen: Seen) -> Iterator[Trouble]:
    if seen.unwritable:
        yield (
            f"nothing can be stored on the disk: {seen.unwritable}",
            "answers go on, telemetry and updates are lost; free some space, or see dmesg and mend the disk",
        )
    elif seen.news:
        old_s = seen.now_s - seen.news["time_ms"] / 1000
        if old_s > STALE_S:
            yield (
                f"the agent has written nothing for {ago(old_s)}",
                "look at its log; restart it if it hangs",
            )


def _model(seen: Seen) -> Iterator[Trouble]:
    status, news = seen.status, seen.news
    if status["active"] is not None:
        # news that could not be written is from before the model was opened
        if news and news["model"] is None and not seen.unwritable:
            yield "the model cannot be opened", "edge-agent doctor says why; edge-agent rollback goes back"
    elif status["emptied"]:
        yield f"no answers: the model was {status['emptied']}", "wait for the fleet to assign another"
    else:
        do = "wait for the fleet to assign one" if status["device"] else "edge-agent install BUNDLE"
        yield "no model is installed", do


def _guard(seen: Seen) -> Iterator[Trouble]:
    guard = seen.status["guard"]
    if seen.running and guard["rung"] == "abstain":
        yield (
            f"no answers: {guard['why']}",
            "edge-agent rollback, or repair what is in quarantine and lift it",
        )
    for entry in guard["entries"]:
        yield (
            f"{entry['subject']} is not used ({entry['code']}: {entry['detail']})",
            f"it is tried again by itself; when repaired: edge-agent quarantine lift {entry['subject']}",
        )


def _answers(seen: Seen) -> Iterator[Trouble]:
    if not seen.news:
        return
    if not seen.news["golden_agrees"]:
        yield (
            "the model gives wrong answers to its golden inputs",
            "edge-agent rollback; report it to the publisher",
        )
    for kind in seen.news["drifting"]:
        yield DRIFTS[kind]


def _fleet(seen: Seen) -> Iterator[Trouble]:
    news = seen.news
    if not news or not seen.status["device"]:
        return
    refusal = read_refusal(
        news["link_up"], news["link_reason"], news["refused_since_ms"], news["refusals"], seen.now_s
    )
    if refusal is not None and refusal.stands:
        yield f"the broker refuses this device {refusal}", ADVICE
    elif not news["link_up"]:
        yield (
            f"no connection to the fleet ({news['link_reason'] or 'not connected'})",
            "answers go on; check the network, then edge-agent doctor",
        )
    elif silent_s(news, seen.now_s) > SILENT_S:
        do = "answers go on; tell whoever runs the server; ask too whether this device was revoked"
        yield "the server does not answer", do


def _outbox(seen: Seen) -> Iterator[Trouble]:
    outbox = seen.status["outbox"]
    if outbox and outbox["waiting_bytes"] > MOST_WAITING * Limits().size_bytes:
        yield "telemetry fills up", "connect the device: old windows are being added up, then dropped"


def _space(seen: Seen) -> Iterator[Trouble]:
    space = seen.status["space"]
    if space and not seen.unwritable and space["free_bytes"] < LEAST_FREE * space["total_bytes"]:
        yield f"the disk has {size(space['free_bytes'])} left", "free some: updates will be refused"


_LOOKS: tuple[Callable[[Seen], Iterator[Trouble]], ...] = (
    _state, _identity, _process, _storing, _model, _guard, _answers, _fleet, _outbox, _space,
)  # fmt: skip
