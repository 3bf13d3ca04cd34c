"""The command line, as a person at the device uses it: without a server, without a daemon, and wrongly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import KEY, build
from agent_fleet import free_port
from click import Context
from click.testing import CliRunner, Result
from own_mounts import READ_ONLY, mounted

from edge_agent.cli import main
from edge_agent.device.home import Home
from edge_agent.updates.slots import Event, Held, Slots
from edge_agent.updates.store import Store
from edge_agent.updates.transitions import step
from edge_contracts.arrays import write_npz
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey

AGENT = [sys.executable, "-c", "from edge_agent.cli import main; main()"]


class Device:
    """A home and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Home(folder / "home")
        self.key = folder / "public.pem"
        self.key.write_bytes(KEY.public.pem)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--home", str(self.home.folder)])

    def bundle(self, version: str, **fields: Any) -> str:
        path = self.folder / f"{version}.bundle"
        path.write_bytes(build(version=version, **fields))
        return str(path)

    def install(self, version: str, **fields: Any) -> Result:
        return self.run("install", self.bundle(version, **fields), "--trust", str(self.key))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").output)
        del found["space"]  # of the whole disk, which others write to
        return found


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def refused(result: Result, *words: str) -> None:
    """It was refused, on one line, with these words."""
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("edge-agent: ")
    for word in words:
        assert word in result.stderr


def test_install_and_rollback_without_a_server(device: Device) -> None:
    first = device.install("1")
    assert first.exit_code == 0, first.output
    assert "tiny 1" in first.output
    assert device.run("install", device.bundle("2")).exit_code == 0  # the publisher is trusted by now
    status = device.status()
    assert (status["active"]["version"], status["last_good"]["version"]) == ("2", "1")
    assert (status["phase"], status["counter"]) == ("idle", 0)
    back = device.run("rollback", "--json")
    assert json.loads(back.output)["active"]["version"] == "1"
    refused(device.run("rollback"), "no bundle to go back to")


def test_installing_needs_a_publisher_that_is_trusted(device: Device) -> None:
    refused(device.run("install", device.bundle("1")), "no publisher is trusted", "--trust")
    other = device.folder / "other.pem"
    other.write_bytes(PrivateKey.generate().public.pem)
    refused(device.run("install", device.bundle("1"), "--trust", str(other)), "not trusted here")
    assert device.status()["active"] is None
    # the stranger's key was given for a bundle that it had not signed: it is not trusted now
    assert not (device.home.folder / "trusted.json").exists()


def test_a_trusted_publisher_stays_trusted(device: Device) -> None:
    assert device.run("trust", str(device.key)).exit_code == 0
    assert device.run("trust", str(device.key)).exit_code == 0
    assert device.run("install", device.bundle("1")).exit_code == 0


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"latency_p95_ms": 0.0001}, "too-slow"),
        ({"files": {"artifacts/float32.tflite": b"TFL3 nonsense"}}, "model-invalid"),
        ({"min_sqnr_db": 500.0}, "golden-mismatch"),
    ],
)
def test_a_bundle_that_fails_its_check_is_refused_and_the_old_one_stays(
    device: Device, fields: dict[str, Any], word: str
) -> None:
    device.install("1")
    refused(device.install("2", **fields), word)
    status = device.status()
    assert (status["active"]["version"], status["phase"], status["candidate"]) == ("1", "idle", None)


def test_one_changed_byte_is_refused_and_nothing_is_touched(device: Device) -> None:
    device.install("1")
    device.install("2")
    before = device.status()
    path = Path(device.bundle("3"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    refused(device.run("install", str(path)), "3.bundle")
    assert device.status() == before


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_not_a_bundle_is_refused(device: Device, content: bytes) -> None:
    path = device.folder / "odd.bundle"
    path.write_bytes(content)
    refused(device.run("install", str(path), "--trust", str(device.key)), "odd.bundle")
    refused(device.run("install", str(device.folder / "missing"), "--trust", str(device.key)), "missing")


def test_a_power_cut_in_the_middle_of_an_install_is_harmless(device: Device) -> None:
    device.install("1")
    digest = device.status()["active"]["bundle"]
    store = Store(device.home)
    staging, _ = step(store.slots, Event.STAGING)
    store.save(staging)  # the state is stored, the slot half-written
    (device.home.folder / "slots" / "b.new").mkdir()
    assert device.install("2").exit_code == 0
    assert device.status()["last_good"]["bundle"] == digest


def test_a_candidate_that_waits_for_the_daemon_is_superseded_by_an_install(device: Device) -> None:
    device.install("1")
    store = Store(device.home)
    from edge_agent.updates import installer
    from edge_agent.updates.slots import Fact

    waiting = open_bundle(build(version="2"))
    staging, _ = step(store.slots, Event.STAGING)
    installer.place(device.home, waiting, staging.spare)
    store.save(step(staging, Event.STAGED, Fact(held=Held(waiting.digest)))[0])
    result = device.install("3")
    assert result.exit_code == 0, result.output
    status = device.status()
    assert (status["active"]["version"], status["last_good"]["version"]) == ("3", "1")


def test_a_server_that_is_not_there_leaves_nothing_behind(device: Device) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = device.run("enroll", "--server", url, "--token", "a-one-time-token", "--profile", "x86-cpu")
    refused(result, f"no server at {url}", "Connection refused")
    assert not device.home.config.exists()
    assert device.status()["device"] is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--server": "fleet.example"}, ["is not an address"]),
        ({"--profile": "rasberry-pi-4"}, ["did you mean 'raspberry-pi-4'"]),
        ({"--token": "short"}, ["token"]),
        ({"--name": "cam 1"}, ["name"]),
        ({"--label": "=x"}, []),
    ],
)
def test_a_wrong_argument_is_said_before_the_server_is_asked(
    device: Device, changed: dict[str, str], words: list[str]
) -> None:
    given = {
        "--server": "http://127.0.0.1:1",
        "--token": "a-one-time-token",
        "--profile": "x86-cpu",
    } | changed
    result = device.run("enroll", *(part for pair in given.items() for part in pair))
    assert result.exit_code in (1, 2)
    assert "Connection refused" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_running_with_a_folder_that_is_not_there_is_refused(device: Device) -> None:
    refused(device.run("run", "--input", str(device.folder / "nowhere")), "nowhere is not a folder")


def test_running_with_neither_a_fleet_nor_a_bundle_is_refused(device: Device) -> None:
    refused(device.run("run"), "no device is enrolled", "no bundle is installed", "edge-agent enroll")


def test_a_device_without_a_fleet_says_so_and_answers_with_what_is_installed(device: Device) -> None:
    device.install("1")
    (device.folder / "in").mkdir()
    (device.folder / "in" / "x.npz").write_bytes(write_npz({"x": np.zeros((1, 4), np.float32)}))
    answers = device.folder / "answers"
    result = device.run("run", "--input", str(device.folder / "in"), "--once", "--answers", str(answers))
    assert result.exit_code == 0, result.output
    assert "not enrolled" in result.stderr
    assert len(answers.read_text().splitlines()) == 1


@pytest.mark.parametrize("option", ["--rate", "--window", "--hello", "--health-window"])
def test_a_number_that_is_none_is_wrong_usage(device: Device, option: str) -> None:
    for value in ("nan", "inf"):
        assert device.run("run", option, value).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["rum"],
        ["run", "--once"],
        ["run", "--rate", "x"],
        ["infer"],
        ["--what"],
        ["review", "lis"],
        ["run", "--inputs"],
    ],
)
def test_wrong_usage_is_one_line_that_says_where_help_is(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.output.startswith("edge-agent: ")
    assert result.output.count("\n") == 1
    assert result.output.endswith(" --help)\n")


def test_without_a_command_the_help_is_shown() -> None:
    assert "Commands:" in CliRunner().invoke(main, []).output


def test_once_needs_inputs(device: Device) -> None:
    assert device.run("run", "--once").exit_code == 2


def test_doctor_on_a_new_device_finds_nothing_wrong(device: Device) -> None:
    result = device.run("doctor")
    assert result.exit_code == 0, result.output
    assert "not enrolled" in result.output


def test_doctor_names_a_damaged_slot_and_a_readable_home(device: Device) -> None:
    device.install("1")
    device.home.folder.chmod(0o755)
    (device.home.folder / "slots" / "a" / "golden.npz").write_bytes(b"")
    result = device.run("doctor", "--json")
    assert result.exit_code == 1
    wrong = {f["subject"]: f for f in json.loads(result.output) if f["grade"] == "wrong"}
    assert "golden.npz has digest" in wrong["slot a"]["detail"]
    assert wrong["modes"]["advice"] == f"chmod 0700 {device.home.folder}"


def test_doctor_says_where_the_active_bundle_runs(device: Device) -> None:
    device.install("1")
    found = {f["subject"]: f for f in json.loads(device.run("doctor", "--json").output)}
    assert found["driver"]["detail"] == "float32 in litert on CPU"


def test_doctor_names_a_disk_that_cannot_be_written(device: Device) -> None:
    device.home.make()
    command = [*AGENT, "doctor", "--home", str(device.home.folder)]
    done = mounted(READ_ONLY, device.home.folder, *command)
    assert done.returncode == 1, done.stderr
    assert "cannot be written: Read-only file system" in done.stdout


def test_status_does_not_say_that_all_is_well_on_a_disk_that_takes_nothing(device: Device) -> None:
    device.install("1")
    command = [*AGENT, "status", "--home", str(device.home.folder)]
    done = mounted(READ_ONLY, device.home.folder, *command)
    assert "NEEDS ATTENTION" in done.stdout.splitlines()[0], done.stderr
    assert "nothing can be stored on the disk: Read-only file system" in done.stdout


def powerless(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command by somebody whom modes hold: root without its powers, or whoever this is."""
    command = [*AGENT, *arguments]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv: root is held by no mode")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["state.json", "slots", "slots/a/manifest.json"])
def test_doctor_names_what_its_user_may_not_use_and_no_command_shows_a_traceback(
    device: Device, name: str
) -> None:
    assert device.install("1").exit_code == 0
    closed = device.home.folder / name
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        told = powerless("doctor", "--home", str(device.home.folder))
        status = powerless("status", "--home", str(device.home.folder))
    finally:
        closed.chmod(mode)
    assert told.returncode == 1, told.stderr
    assert f"{closed} cannot be read and written by this user" in told.stdout
    assert "Traceback" not in status.stderr
    assert "cannot be read and written" not in device.run("doctor").output


def test_a_broken_configuration_says_what_to_do(device: Device) -> None:
    device.home.make()
    device.home.config.write_text('{"format": "edgefleet.device/2"}')
    refused(device.run("run"), "edgefleet.device/1", "enroll --force")


def test_a_home_that_cannot_be_made_is_refused(device: Device) -> None:
    blocked = device.folder / "file"
    blocked.write_text("")
    result = CliRunner().invoke(main, ["trust", str(device.key), "--home", str(blocked / "home")])
    refused(result, "cannot make")


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # as if it were not installed
from edge_agent.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments", [["run"], ["install", "x.bundle"], ["status"], ["infer", "x", "--input", "y"]]
)
def test_a_missing_extra_is_one_line_and_not_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    whole = [sys.executable, "-c", WITHOUT_NUMPY, *arguments, "--home", str(tmp_path)]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'edgefleet[agent]'" in done.stderr


def test_help_and_version_work_without_the_extra() -> None:
    for option in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_NUMPY, option], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


def test_every_command_is_listed_and_helps() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output
    names = main.list_commands(Context(main))
    assert {"run", "infer", "install", "status", "lineup", "trust"} <= set(names)
    for name in names:
        assert f"\n  {name} " in listed
        helped = CliRunner().invoke(main, [name, "--help"])
        assert (helped.exit_code, helped.output.split()[:3]) == (0, ["Usage:", "main", name])


def test_a_run_over_inputs_that_answers_none_of_them_says_so_and_fails(device: Device) -> None:
    assert device.install("1").exit_code == 0
    inputs = device.folder / "in"
    inputs.mkdir()
    (inputs / "a.npz").write_bytes(write_npz({"x": np.full((2, 9), 7, np.float32)}))
    result = device.run("run", "--input", str(inputs), "--once")
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("edge-agent: none of the 2 inputs of") and str(inputs) in last
    assert "input not answered" in result.stderr  # and why
    (inputs / "b.npz").write_bytes(write_npz({"x": np.ones((1, 4), np.float32)}))
    assert device.run("run", "--input", str(inputs), "--once").exit_code == 0  # one that could be


def test_an_address_that_nothing_may_leave_to_is_named_by_its_option(device: Device) -> None:
    for address in ("nonsense", "http://collector.example/x", "https://", "https://a:b:c", "https://[x"):
        refused(device.run("review", "set", "--upload-to", address), "--upload-to", repr(address))


def test_what_cannot_be_read_as_a_bundle_is_named_with_its_folder(device: Device) -> None:
    folder = device.folder / "some" / "tmp"
    folder.mkdir(parents=True)
    refused(device.run("install", str(folder), "--trust", str(device.key)), str(folder), "directory")


def test_a_command_that_is_not_there_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["rum"])
    assert result.exit_code == 2
    assert "No such command 'rum'" in result.output


def test_an_empty_state_has_nothing_to_show(device: Device) -> None:
    assert Store(device.home).slots == Slots()
    result = device.run("status")
    assert result.exit_code == 0
    assert "not enrolled" in result.output
