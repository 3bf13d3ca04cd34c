"""The daemon as a process of its own, against a real broker: updates, crashes, a server that goes away."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
from agent_bundles import build
from agent_fleet import TinyFleet, until
from running_device import Device, command, confirmed, release

from edge_agent.device.home import Home
from edge_agent.updates.slots import Slot
from edge_agent.updates.store import Store
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey
from edge_contracts.trust import KeyStatement, sign_keys


def test_the_whole_life_of_a_device(fleet: TinyFleet, device: Device) -> None:
    device.start()
    until(lambda: fleet.states, "hello")
    assert fleet.states[0].active is None
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    until(lambda: len(fleet.records("window")) >= 3, "three windows")
    second = release(fleet, "2", number=2, counter=2)
    confirmed(fleet, 2)
    assert fleet.running == second
    assert fleet.states[-1].counter == 2
    until(lambda: any(w.bundle == second and not w.trial for w in fleet.records("window")), "a calm window")
    assert device.end() == 0
    windows = fleet.records("window")
    assert {w.bundle for w in windows} == {first, second}
    assert any(w.trial for w in windows if w.bundle == second)
    assert all(w.golden_agree == w.golden_total == 16 for w in windows if w.golden_total)
    answered = [json.loads(line) for line in device.answers.read_text().splitlines()]
    assert sum(w.inferences for w in windows) == len(answered), "an answer is in no window, or in two"
    assert [a["bundle"] for a in answered] == sorted(
        (a["bundle"] for a in answered), key=[first, second].index
    )
    names = [e.name for e in fleet.records("event")]
    assert names == [
        "started", "assigned", "downloading", "staged", "trial-started", "confirmed",
        "assigned", "downloading", "staged", "trial-started", "confirmed", "stopped",
    ]  # fmt: skip
    phases = [s.progress.phase for s in fleet.states if s.progress and s.progress.assignment == 2]
    assert list(dict.fromkeys(phases)) == ["received", "downloading", "trial", "confirmed"]
    status = device.status()
    assert status["last_good"]["bundle"] == first
    assert status["outbox"]["waiting"] == 0
    assert fleet.faults == []


def test_a_crash_on_trial_goes_back_to_the_old_bundle_and_says_so(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end()
    device.start("--health-window", "600")
    second = release(fleet, "2", number=2, counter=2)
    until(lambda: fleet.running == second, "on trial")
    device.end(signal.SIGKILL)
    device.start("--health-window", "600")
    until(lambda: fleet.progress(2) == "rolled_back", "the trial is given up")
    assert fleet.reason == "restarted"
    until(lambda: fleet.running == first, "the old bundle answers")
    until(lambda: [e for e in fleet.records("event") if e.name == "rolled-back"], "the event")
    # the same assignment again is answered already: nothing begins anew
    fleet.say_assignment()
    before = len(fleet.requests)
    count = len(fleet.states)
    until(lambda: len(fleet.states) > count + 1, "two more hellos")
    assert len(fleet.requests) == before
    assert fleet.faults == []


def test_a_stop_in_good_order_on_trial_is_tried_again(fleet: TinyFleet, device: Device) -> None:
    device.start("--health-window", "600")
    digest = release(fleet, "1", number=1, counter=1)
    until(lambda: fleet.running == digest, "on trial")
    assert device.end() == 0
    assert device.status()["phase"] == "staged"
    device.start()
    confirmed(fleet, 1)
    assert fleet.running == digest
    assert fleet.faults == []


def test_inference_goes_on_and_nothing_is_lost_while_broker_and_server_are_away(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    until(lambda: len(fleet.records("window")) >= 2, "windows")
    fleet.broker.kill()
    before = device.answered()
    until(lambda: device.answered() > before + 150, "150 answers without a broker")
    device.end(signal.SIGKILL)
    device.start()
    until(lambda: device.answered() > before + 300, "answers after a restart without a broker")
    assert device.status()["outbox"]["waiting"] >= 3
    fleet.broker.start()
    # records get their numbers as they leave: what has none yet waits too
    until(lambda: device.status()["outbox"]["waiting"] == 0, "everything is acknowledged")
    device.end()
    epochs = {epoch for epoch, _ in fleet.stored}
    numbers = sorted(seq for _, seq in fleet.stored)
    assert len(epochs) == 1
    assert numbers == list(range(len(numbers))), "a number is missing"
    assert device.status()["outbox"]["waiting"] == 0
    assert fleet.faults == []


def test_without_an_ack_everything_is_sent_again_until_it_comes(fleet: TinyFleet, device: Device) -> None:
    fleet.mute = True
    device.start()
    until(lambda: len([m for m in fleet.received if m.seq == 0]) >= 2, "the first envelope comes twice")
    assert device.status()["outbox"]["waiting"] > 0
    fleet.mute = False
    until(lambda: device.status()["outbox"]["waiting"] == 0, "all is acknowledged")
    assert fleet.faults == []


OTHER_ANSWERS = np.eye(3, dtype=np.float32)[np.arange(16) % 3]
REFUSED: dict[str, dict[str, Any]] = {
    "wrong-profile": {"profile": "coral-tpu"},
    "too-slow": {"latency_p95_ms": 0.0001},
    "golden-mismatch": {"expected": OTHER_ANSWERS},
    "model-invalid": {"files": {"artifacts/float32.tflite": b"TFL3 nonsense"}},
}


def test_what_must_not_run_is_refused_with_its_reason_and_the_old_bundle_goes_on(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    for number, (code, fields) in enumerate(REFUSED.items(), 2):
        release(fleet, str(number), number=number, counter=number, **fields)
        until(lambda n=number: fleet.progress(n) == "refused", f"{code} is refused")  # type: ignore[misc]
        assert fleet.reason == code, fleet.states[-1]
        assert (fleet.running, fleet.states[-1].counter) == (first, 1)
    release(fleet, "9", number=9, counter=9)
    confirmed(fleet, 9)
    assert fleet.faults == []


def test_bundles_and_assignments_of_strangers_are_refused(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=5)
    confirmed(fleet, 1)
    stranger = build("float32", key=PrivateKey.generate(), version="2")
    fleet.assign(stranger, open_bundle(stranger).digest, number=2, counter=6)
    until(lambda: fleet.progress(2) == "refused", "a stranger's bundle is refused")
    assert fleet.reason == "key-unknown"
    release(fleet, "3", number=3, counter=4)
    until(lambda: fleet.progress(3) == "refused", "a downgrade is refused")
    assert fleet.reason == "downgrade"
    release(fleet, "4", number=2, counter=9)  # an old number: a replay
    assert fleet.assignment is not None
    fleet.assignment = fleet.assignment.model_copy(update={"number": 99})
    fleet.say_assignment(key=PrivateKey.generate())
    fleet.say_assignment(key=fleet.publisher)
    fleet.assignment = fleet.assignment.model_copy(update={"device": "cam-2"})
    count = len(fleet.states)
    until(lambda: len(fleet.states) > count + 1, "two more hellos")
    assert (fleet.progress(3), fleet.running) == ("refused", first)


def test_a_permitted_downgrade_returns_without_a_download(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    archive = fleet.archives[next(iter(fleet.archives))]
    release(fleet, "2", number=2, counter=2)
    confirmed(fleet, 2)
    before = len(fleet.requests)
    fleet.assign(archive, first, number=3, counter=1, permit_downgrade=True)
    confirmed(fleet, 3)
    assert (fleet.running, fleet.states[-1].counter) == (first, 2)
    assert len(fleet.requests) == before


def test_a_download_that_breaks_off_goes_on_from_there(fleet: TinyFleet, device: Device) -> None:
    fleet.cut_after = 1000
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    ranges = [r.get("Range") for r in fleet.requests if "archives" in r["path"]]
    assert ranges == [None, "bytes=1000-"]


def test_a_damaged_slot_is_noticed_at_the_start_and_fetched_again(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end()
    model = Home(device.home).slot(Slot.A) / "artifacts" / "float32.tflite"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(bytes(content))
    doctor = command("doctor", home=device.home)
    assert doctor.returncode == 1
    assert "float32.tflite has digest" in doctor.stdout
    device.start()
    until(lambda: [e for e in fleet.records("event") if e.name == "damaged"], "the damage is reported")
    until(lambda: [e for e in fleet.records("event") if e.name == "confirmed"][1:], "it is confirmed again")
    assert fleet.running == first
    assert model.read_bytes() != bytes(content)


def test_a_lost_state_is_rebuilt_from_the_slots(fleet: TinyFleet, device: Device) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end()
    fleet.assignment = None
    for name in ("state.json", "state.previous.json"):
        (device.home / name).write_bytes(b"\0" * 100)
    device.start()
    until(lambda: [e for e in fleet.records("event") if e.name == "state-rebuilt"], "it says so")
    until(lambda: fleet.running == first, "it answers")
    assert Store(Home(device.home)).lost == ""
    assert fleet.faults == [], "a snapshot number was used again"


def test_all_inputs_of_a_folder_are_answered_once(fleet: TinyFleet, device: Device) -> None:
    device.start()
    release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    device.end()
    device.answers.unlink()
    run = ["run", "--input", str(device.inputs), "--once", "--answers", str(device.answers)]
    done = command(*run, home=device.home)
    assert done.returncode == 0, done.stderr
    assert device.answered() == 200
    assert device.status()["outbox"]["waiting"] == 0


def test_a_second_agent_in_the_same_home_is_refused(fleet: TinyFleet, device: Device) -> None:
    device.start()
    until(lambda: fleet.states, "hello")
    second = command("run", home=device.home)
    assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    assert "works in" in second.stderr
    assert device.status()["agent_process"] > 0


def test_commands_reach_the_daemon_that_runs(fleet: TinyFleet, device: Device, tmp_path: Path) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    local = tmp_path / "local.bundle"
    local.write_bytes(build("int8", key=fleet.publisher, version="2"))
    installed = command("install", str(local), home=device.home)
    assert installed.returncode == 0, installed.stderr
    assert "on trial with live inputs" in installed.stderr
    until(lambda: device.status()["phase"] == "idle", "its trial is over")
    assert device.status()["active"]["version"] == "2"
    back = command("rollback", home=device.home)
    assert back.returncode == 0, back.stderr
    until(lambda: fleet.running == first, "the daemon went back")
    again = command("rollback", home=device.home)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    local.write_bytes(build("float32", key=fleet.publisher, version="3", latency_p95_ms=0.0001))
    refused = command("install", str(local), home=device.home)
    assert refused.returncode == 1
    assert "p95 is" in refused.stderr
    assert list((device.home / "orders").iterdir()) == []
    assert fleet.faults == []


def test_a_device_without_a_fleet_answers_all_the_same(tmp_path: Path) -> None:
    alone = Device(tmp_path)
    publisher = PrivateKey.generate()
    (tmp_path / "public.pem").write_bytes(publisher.public.pem)
    (tmp_path / "1.bundle").write_bytes(build("float32", key=publisher))
    trust = ("--trust", str(tmp_path / "public.pem"))
    assert command("install", str(tmp_path / "1.bundle"), *trust, home=alone.home).returncode == 0
    run = ["run", "--input", str(alone.inputs), "--once", "--answers", str(alone.answers)]
    done = command(*run, home=alone.home)
    assert done.returncode == 0, done.stderr
    assert alone.answered() == 200
    assert not (alone.home / "outbox.db").exists()


def test_the_service_manager_hears_that_the_daemon_works(device: Device, tmp_path: Path) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        device.start(environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"})
        while heard.count("WATCHDOG=1") < 3:
            heard.append(manager.recv(4096).decode())
        assert device.end() == 0
        while heard[-1] != "STOPPING=1":
            heard.append(manager.recv(4096).decode())
    assert heard[0] == "READY=1"


def test_a_change_of_keys_comes_with_an_assignment_and_is_followed_first(
    fleet: TinyFleet, device: Device
) -> None:
    device.start()
    first = release(fleet, "1", number=1, counter=1)
    confirmed(fleet, 1)
    stolen, fleet.publisher = fleet.publisher, PrivateKey.generate()
    added, gone = fleet.publisher.public.base64, (stolen.public.key_id,)
    statement = sign_keys(KeyStatement(counter=1, add=(added,), revoke=gone), stolen)
    archive = build("float32", key=fleet.publisher, version="2")
    fleet.assign(archive, open_bundle(archive).digest, 2, 2, keys=(statement,))
    confirmed(fleet, 2)
    archive = build("float32", key=stolen, version="3")
    fleet.assign(archive, open_bundle(archive).digest, 3, 3)
    until(lambda: fleet.progress(3) == "refused", "the stolen key's bundle is refused")
    assert fleet.reason == "key-unknown"
    assert device.end() == 0
    events = [(e.name, e.code) for e in fleet.records("event")]
    assert ("keys-changed", "") in events
    assert events.count(("revoked-runs", "key-revoked")) == 1, f"{first} was all there was, and went on"
