"""Lineage over HTTP and on the command line, on a server at work with a real device."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fleet_device import enrol, window
from fleet_rows import FleetRows, digest
from fleet_server import Running

from edge_contracts.envelope import unseal
from edge_contracts.keys import PublicKey
from edge_contracts.messages import Telemetry
from edge_contracts.topics import Channel
from edge_fleet.lineage import cli as commands
from edge_fleet.lineage.cli import parse_need
from edge_fleet.release_cli import release as command
from edge_fleet.rollouts.candidates import load_targets
from edge_fleet.rollouts.rows import load as load_rollout

assert commands.show.name == "show"
PATH = "/api/v1/lineage"


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2"):
        built.publish(version, "arm-cpu", "x86-cpu")
    built.enrol("pi")
    return built


def run(fleet: Running, *words: str, code: int = 0) -> str:
    found: Result = CliRunner().invoke(
        command, [*words, "--server", fleet.url, "--token", fleet.token("viewer")]
    )
    assert found.exit_code == code, found.output + repr(found.exception)
    return found.output


def test_a_recall_is_proved_by_envelopes_that_the_devices_signed(
    fleet: Running, rows: FleetRows, tmp_path: Path
) -> None:
    device = enrol(fleet.http, fleet.token(), "cam")
    device.connect()
    device.hello()
    bundle = digest("1", "x86-cpu")
    device.send(Channel.TELEMETRY, device.outbox.add(window(bundle, 10), window(digest("2", "x86-cpu"), 3)))
    device.send(Channel.TELEMETRY, device.outbox.add(window(bundle, 5)))
    device.wait_ack(1)
    device.close()
    proof = tmp_path / "proof.jsonl"
    found = json.loads(run(fleet, "recall", "digits@1", "--proof", str(proof), "--json"))
    [one] = found["runs"]
    assert (one["device"], one["predictions"], found["devices"]) == ("cam", 15, 1)
    assert one["proof"] == [{"epoch": device.outbox.epoch, "first_seq": 0, "last_seq": 1}]
    told = 0
    for line in proof.read_text().splitlines():
        row = json.loads(line)
        key = PublicKey.from_base64(row["public_key"])
        assert key.raw == device.key.public.raw
        message = unseal(Telemetry, bytes.fromhex(row["envelope"]), row["topic"], key)
        told += sum(r.inferences for r in message.recs if r.kind == "window" and r.bundle == bundle)
    assert told == 15, "the envelopes alone say the same"
    [told_line] = csv.DictReader(io.StringIO(run(fleet, "recall", bundle, "--csv")))
    assert (told_line["device"], told_line["predictions"]) == ("cam", "15")
    assert told_line["envelopes"] == f"{device.outbox.epoch}:0-1"
    assert "at least 15 predictions" in run(fleet, "recall", bundle[:20])


def test_a_release_is_shown_with_what_it_promises(fleet: Running, rows: FleetRows) -> None:
    shown = json.loads(run(fleet, "show", "digits@2", "--json"))
    assert (shown["stage"], shown["refusal"]) == ("candidate", "")
    assert {b["profile"] for b in shown["bundles"]} == {"arm-cpu", "x86-cpu"}
    assert all(b["provenance"]["source_name"] == "digits.onnx" for b in shown["bundles"])
    assert "from digits.onnx" in run(fleet, "show", "2")


def test_releases_are_compared_and_found_on_the_command_line(fleet: Running, rows: FleetRows) -> None:
    assert "nothing changed" in run(fleet, "compare", "digits@1", "digits@2")
    text = run(fleet, "find", digest("2")[7:19])
    assert "digits@2" in text and "arm-cpu" in text and "digits@1" not in text


def test_every_device_is_explained(fleet: Running, rows: FleetRows) -> None:
    text = run(fleet, "explain", "digits@2")
    assert "pi: the bundle for arm-cpu, artifact int8 on litert" in text
    assert "profile: of arm-cpu the nearest" in run(fleet, "explain", "digits@2", "pi")
    assert (
        fleet.admin.get(f"{PATH}/explain", params={"release": "digits@2", "device": "x"}).status_code == 404
    )


def test_needs_are_kept_and_explain_goes_by_them(fleet: Running, rows: FleetRows) -> None:
    rows.enrol("npu")
    rows.report("npu", digest("1"), software={"litert": "2.1"})
    body = {"needs": [parse_need("litert:litert>=2.3")]}
    assert fleet.admin.post(f"{PATH}/needs", json=body).status_code == 200
    assert run(fleet, "needs").strip() == "litert:litert>=2.3"
    assert "npu: nothing: no artifact" in run(fleet, "explain", "digits@2", "npu")
    plan = {"format": "edgefleet.rollout/1", "release": "digits@2", "stages": ["100%"], "bake_s": 0}
    made = fleet.admin.post("/api/v1/rollouts", json={"plan": plan}).json()["id"]
    with fleet.server.store.read() as connection:
        rollout = load_rollout(connection, made)
        chosen = {t.device: t for t in load_targets(connection, rollout, fleet.server.now_ms())}
    assert chosen["npu"].bundle is None and "the device has 2.1" in chosen["npu"].reason
    assert chosen["pi"].bundle == digest("2"), "has said nothing yet and is believed"
    fleet.admin.post(f"{PATH}/needs", json={"needs": []})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openvino:intel_vpu>=1.2,<2", ("openvino", "intel_vpu", "1.2", "2")),
        ("litert:litert < 3", ("litert", "litert", "", "3")),
        ("openvino>=1", None),
        ("openvino:intel_vpu", None),
    ],
)
def test_a_need_is_written_as_a_range(text: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(Exception, match="is not RUNTIME:SOFTWARE"):
            parse_need(text)
    else:
        assert tuple(parse_need(text).values()) == expected


def test_a_rollout_waits_for_an_approval_when_the_policy_asks_for_one(
    fleet: Running, rows: FleetRows
) -> None:
    plan = {"format": "edgefleet.rollout/1", "release": "digits@2", "stages": ["100%"], "bake_s": 0}
    made = fleet.admin.post("/api/v1/rollouts", json={"plan": plan}).json()["id"]
    assert fleet.admin.post(f"{PATH}/policy", json={"policy": "second-person"}).json() == {
        "policy": "second-person"
    }
    answer = fleet.admin.post(f"/api/v1/rollouts/{made}/start")
    assert answer.status_code == 409 and "digits@2 is not approved" in answer.text
    with fleet.as_role("operator") as operator:
        assert operator.post(f"{PATH}/approve", json={"release": "digits@2"}).status_code == 403
    with fleet.as_role("approver") as approver:
        answer = approver.post(f"{PATH}/approve", json={"release": "digits@2", "why": "looked at"})
        assert answer.json()["stage"] == "approved"
        assert approver.post(f"{PATH}/policy", json={"policy": "none"}).status_code == 403
    assert fleet.admin.post(f"/api/v1/rollouts/{made}/start").status_code == 200
    fleet.admin.post(f"/api/v1/rollouts/{made}/abort")
    fleet.admin.post(f"{PATH}/policy", json={"policy": "none"})
