"""The device's metrics in Prometheus' text format, version 0.0.4. Pure.

prometheus.io/docs/instrumenting/exposition_formats. Written here: the client library keeps its own counts
beside ours and takes 0.9 MB of memory for what is a page of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edge_agent.telemetry.standing import Standing
from edge_agent.telemetry.tally import Counts, Tally
from edge_contracts.digest import short
from edge_contracts.sketch import RELATIVE_ACCURACY, bin_index

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# upper bounds of the latency histogram, seconds
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]


def render(standing: Standing, tally: Tally) -> str:
    """All metrics, each with its help and type."""
    lines: list[str] = []
    for name, kind, text, samples in _families(standing, tally):
        rows = [_row(name + suffix, labels, value) for suffix, labels, value in samples]
        if rows:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *rows]
    return "\n".join(lines) + "\n"


def _families(s: Standing, tally: Tally) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    info = {"version": s.agent, "device": s.device or "", "fleet": s.fleet or ""}
    yield "edgefleet_agent_info", "gauge", "The agent.", _one(1, info)
    started_s = s.started_ms / 1000
    yield "edgefleet_agent_start_timestamp_seconds", "gauge", "When the agent started.", _one(started_s)
    if s.model is not None:
        labels = {
            "bundle": short(s.model.bundle),
            "model": s.model.name,
            "version": s.model.version,
            "artifact": s.model.artifact,
            "runtime": s.model.runtime,
        }
        yield "edgefleet_model_info", "gauge", "The model that answers.", _one(1, labels)
    yield "edgefleet_healthy", "gauge", "1: a model answers, and its golden inputs agree.", _one(s.is_well)
    yield "edgefleet_trial", "gauge", "1: the model is on trial.", _one(s.trial)
    drifting = [("", {"kind": kind}, 1.0) for kind in s.drifting]
    yield "edgefleet_drifting", "gauge", "1: a drift of this kind stands.", drifting
    yield "edgefleet_link_up", "gauge", "1: connected to the fleet's broker.", _one(s.link_up)
    if s.heard_ms:
        heard = _one(s.heard_ms / 1000)
        yield "edgefleet_server_heard_timestamp_seconds", "gauge", "Last word of the server.", heard
    yield "edgefleet_outbox_waiting", "gauge", "Records and envelopes without an ack.", _one(s.waiting)
    yield "edgefleet_outbox_bytes", "gauge", "The same in bytes.", _one(s.waiting_bytes)
    dropped = _one(s.dropped_records)
    yield "edgefleet_telemetry_dropped_records", "gauge", "Dropped in this outbox's epoch.", dropped
    yield (
        "edgefleet_disk_free_bytes",
        "gauge",
        "Free where the agent keeps its files.",
        _one(s.disk_free_bytes),
    )
    if s.temperature_c is not None:
        yield "edgefleet_temperature_celsius", "gauge", "Hottest thermal zone.", _one(s.temperature_c)
    yield "process_resident_memory_bytes", "gauge", "Resident memory of the agent.", _one(s.rss_bytes)
    yield "process_cpu_seconds_total", "counter", "Processor time of the agent.", _one(s.cpu_s)
    yield from _counters(tally)


def _counters(tally: Tally) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    bundles = tally.bundles
    answered = [("", {"bundle": bundle}, float(counts.answered)) for bundle, counts in bundles.items()]
    yield "edgefleet_inferences_total", "counter", "Answered, up to the last window.", answered
    for name, text in (
        ("errors", "Failed inferences."),
        ("refused", "Inputs that the contract does not allow."),
        ("flagged", "Inputs that were answered although they look suspicious."),
        ("unserved", "Requests that were not run."),
    ):
        samples = [
            ("", {"bundle": bundle, "reason": reason}, float(count))
            for bundle, counts in bundles.items()
            for reason, count in sorted(getattr(counts, name).items())
        ]
        yield f"edgefleet_{name}_total", "counter", text, samples
    golden = [("", {"bundle": b}, float(c.golden_total - c.golden_agree)) for b, c in bundles.items()]
    yield "edgefleet_golden_disagreed_total", "counter", "Golden inputs with wrong answers.", golden
    events = [("", {"event": name}, float(count)) for name, count in sorted(tally.events.items())]
    yield "edgefleet_events_total", "counter", "What happened.", events
    latency = [sample for bundle, counts in bundles.items() for sample in _histogram(bundle, counts)]
    yield "edgefleet_inference_seconds", "histogram", "Latency, exact to 2 percent.", latency


def _histogram(bundle: str, counts: Counts) -> Iterator[Sample]:
    total = sum(counts.latency.values())
    for bound_s in BOUNDS_S:
        last = bin_index(bound_s * 1000)
        below = sum(count for index, count in counts.latency.items() if index <= last)
        yield "_bucket", {"bundle": bundle, "le": repr(bound_s)}, below
    yield "_bucket", {"bundle": bundle, "le": "+Inf"}, total
    # the middle of each bin, as QuantileSketch.quantile gives it
    seconds = sum(count * 2 * _GAMMA**index / (_GAMMA + 1) for index, count in counts.latency.items()) / 1000
    yield "_sum", {"bundle": bundle}, seconds
    yield "_count", {"bundle": bundle}, total


def _one(value: float, labels: Labels | None = None) -> list[Sample]:
    return [("", labels or {}, float(value))]


def _row(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    written = repr(int(value)) if value == int(value) else repr(value)
    return f"{name}{{{inside}}} {written}" if inside else f"{name} {written}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
