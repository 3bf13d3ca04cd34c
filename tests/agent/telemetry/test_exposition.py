"""The page of metrics, read with Prometheus' own parser."""

from __future__ import annotations

import http.client
from typing import Any

import pytest
from message_examples import WINDOW
from prometheus_client.parser import text_string_to_metric_families
from standings import MODEL, STANDING

from edge_agent.errors import SettingRefused
from edge_agent.telemetry.exposition import CONTENT_TYPE, render
from edge_agent.telemetry.metrics_server import MetricsServer, parse_address
from edge_agent.telemetry.standing import Standing
from edge_agent.telemetry.tally import MOST_BUNDLES, Tally
from edge_contracts.messages import Event
from edge_contracts.sketch import QuantileSketch, bin_index


def tally(*windows: Any) -> Tally:
    counted = Tally()
    for window in windows:
        counted.take(window)
    return counted


def families(standing: Standing, counted: Tally) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(render(standing, counted))}


def values(family: Any) -> dict[tuple[str, ...], float]:
    return {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}


def test_prometheus_reads_every_line() -> None:
    found = families(STANDING, tally(WINDOW, Event(name="started", time_ms=1)))
    assert all(
        family.documentation and family.type in ("gauge", "counter", "histogram") for family in found.values()
    )
    (info,) = found["edgefleet_model_info"].samples
    assert info.labels["runtime"] == MODEL.runtime, "quotes, backslashes and line ends survive"
    assert values(found["edgefleet_healthy"]) == {("edgefleet_healthy",): 1}
    assert values(found["edgefleet_temperature_celsius"]) == {("edgefleet_temperature_celsius",): 41.5}
    assert values(found["edgefleet_drifting"]) == {("edgefleet_drifting", "data-drift"): 1}
    heard = values(found["edgefleet_server_heard_timestamp_seconds"])
    assert heard == {("edgefleet_server_heard_timestamp_seconds",): 1.7}


def test_counters_grow_over_windows_by_bundle_and_reason() -> None:
    other = WINDOW.model_copy(update={"bundle": "sha256:" + "cd" * 32})
    found = families(STANDING, tally(WINDOW, other, WINDOW))
    assert values(found["edgefleet_inferences"]) == {
        ("edgefleet_inferences_total", "ab" * 6): 6,
        ("edgefleet_inferences_total", "cd" * 6): 3,
    }
    assert values(found["edgefleet_errors"])[("edgefleet_errors_total", "ab" * 6, "runtime")] == 2
    assert values(found["edgefleet_refused"])[("edgefleet_refused_total", "ab" * 6, "shape")] == 4


def test_the_histogram_of_latencies_is_cumulative_and_ends_with_all() -> None:
    latencies = [0.05, 0.3, 3.0, 3.0, 40.0, 20_000.0]
    bins: dict[int, int] = {}
    for latency_ms in latencies:
        bins[bin_index(latency_ms)] = bins.get(bin_index(latency_ms), 0) + 1
    window = WINDOW.model_copy(update={"latency_ms": QuantileSketch(bins=bins)})
    found = families(STANDING, tally(window))["edgefleet_inference_seconds"]
    buckets = {s.labels["le"]: s.value for s in found.samples if s.name.endswith("_bucket")}
    assert buckets["0.0001"] == 1
    assert buckets["0.0005"] == 2
    assert buckets["0.005"] == 4
    assert buckets["10.0"] == 5
    assert buckets["+Inf"] == 6
    assert list(buckets.values()) == sorted(buckets.values())
    (total,) = [s.value for s in found.samples if s.name.endswith("_sum")]
    assert total == pytest.approx(sum(latencies) / 1000, rel=0.02)


def test_many_models_do_not_make_series_without_end() -> None:
    windows = [WINDOW.model_copy(update={"bundle": f"sha256:{n:02x}" + "0" * 62}) for n in range(20)]
    assert len(tally(*windows).bundles) == MOST_BUNDLES


def test_a_device_without_a_model_is_not_healthy() -> None:
    found = families(Standing(time_ms=1, started_ms=1, agent="0.1.0"), Tally())
    assert values(found["edgefleet_healthy"]) == {("edgefleet_healthy",): 0}
    assert "edgefleet_model_info" not in found


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:9105", "[::1]:80"])
def test_a_loopback_address_is_taken(text: str) -> None:
    assert parse_address(text)[1] in (0, 9105, 80)


@pytest.mark.parametrize(
    "text", ["0.0.0.0:9105", "192.168.1.2:80", "9105", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"]
)
def test_any_other_address_is_refused(text: str) -> None:
    with pytest.raises(SettingRefused, match=r"127\.0\.0\.1:9105"):
        parse_address(text)


def test_the_server_answers_and_gives_its_port_back() -> None:
    server = MetricsServer("127.0.0.1", 0, lambda: "edgefleet_trial 0\n")
    server.start()
    with pytest.raises(SettingRefused, match="in use"):
        MetricsServer("127.0.0.1", server.port, str)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for path, status, body in (
        ("/metrics", 200, b"edgefleet_trial 0\n"),
        ("/nothing", 404, b"try /metrics\n"),
    ):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, body)
        if status == 200:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
    connection.close()
    server.stop()
    MetricsServer("127.0.0.1", server.port, str).stop()
