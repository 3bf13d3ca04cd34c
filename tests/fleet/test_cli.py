"""The command line as a person uses it: processes, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_device import FleetDevice, enrol, eventually
from fleet_server import client
from own_mounts import READ_ONLY, mounted
from samples import KEY
from samples import archive as bundle_bytes

from edge_contracts.keys import PrivateKey
from edge_contracts.topics import Channel
from edge_fleet.brokers.child import free_loopback_port

PROGRAM = [sys.executable, "-c", "from edge_fleet.cli import main; main()"]


def run(*arguments: str | Path, home: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    extra = ["--home", str(home)] if home else []
    return subprocess.run(
        [*PROGRAM, *map(str, arguments), *extra],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )


def refused(result: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line of a refusal."""
    assert result.returncode == code, result
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[-1]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A server process that serves."""
    mqtt = f"127.0.0.1:{free_loopback_port()}"
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--home", str(home), "--http", "127.0.0.1:0", "--mqtt", mqtt, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    while not (line := process.stdout.readline()).startswith("  admin token"):
        assert line, process.stderr.read()
    return process


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server runs in a process of its own."""
    path = tmp_path_factory.mktemp("cli") / "home"
    process = start(path)
    yield path
    stop(process)


@pytest.fixture(scope="module")
def device(home: Path) -> Iterator[FleetDevice]:
    """A device that has said hello and sent three envelopes."""
    token = run("token", "create", home=home).stdout.strip()
    url = json.loads((home / "server.json").read_text())["url"]
    with client(url) as http:
        found = enrol(http, token, "cam-1")
    found.connect()
    found.hello()
    for _ in range(3):
        found.send(Channel.TELEMETRY, found.outbox.add())
    found.wait_ack(2)
    yield found
    found.close()


def test_devices_are_listed_for_a_person_and_for_a_program(home: Path, device: FleetDevice) -> None:
    assert "cam-1" in run("devices", home=home).stdout
    (found,) = json.loads(run("devices", "--json", home=home).stdout)
    assert (found["id"], found["public_key"]) == ("cam-1", device.key.public.base64)
    assert found["telemetry"]["high"] == 2


def test_options_may_stand_before_or_after_a_sub_command(home: Path, device: FleetDevice) -> None:
    after = run("devices", "show", "cam-1", home=home)
    before = run("devices", "--home", home, "show", "cam-1")
    assert after.returncode == before.returncode == 0
    assert device.key.public.base64 in after.stdout and device.key.public.base64 in before.stdout
    shown = json.loads(run("devices", "show", "cam-1", "--json", home=home).stdout)
    assert shown["id"] == "cam-1"


def test_telemetry_is_one_object_a_line_with_contiguous_numbers(home: Path, device: FleetDevice) -> None:
    result = run("telemetry", "tail", "--json", "--no-follow", home=home)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["device"], row["epoch"], row["seq"]) for row in rows] == [
        ("cam-1", device.outbox.epoch, seq) for seq in range(3)
    ]
    assert rows[0]["records"][0]["kind"] == "window"


def test_what_was_refused_is_counted_for_the_operator(home: Path, device: FleetDevice) -> None:
    forged = FleetDevice(device.enrolled, PrivateKey.generate(), device.profile)
    device.send(Channel.TELEMETRY, forged.outbox.add())
    eventually(lambda: json.loads(run("refusals", "--json", home=home).stdout), "the refusal")
    shown = run("refusals", home=home).stdout.splitlines()
    assert shown[1].split()[:3] == ["key-unknown", "cam-1", "1"]


def test_telemetry_tail_follows_until_it_is_interrupted(home: Path, device: FleetDevice) -> None:
    # whoever runs these tests in the background ignores the interrupt, and children inherit that
    command = ["env", "--default-signal=INT", *PROGRAM, "telemetry", "tail", "--json", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None and tail.stderr is not None
        assert [json.loads(tail.stdout.readline())["seq"] for _ in range(3)] == [0, 1, 2]
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 130
        assert "Traceback" not in tail.stderr.read()


def test_a_release_is_published_once_its_publisher_is_trusted(home: Path, tmp_path: Path) -> None:
    bundle, key = tmp_path / "sample.bundle", tmp_path / "public.pem"
    bundle.write_bytes(bundle_bytes())
    key.write_bytes(KEY.public.pem)
    assert "edge-fleet trust add" in refused(run("release", "publish", bundle, home=home))
    assert run("trust", "add", key, "--label", "ci", home=home).stdout == f"trusted: {KEY.public.key_id}\n"
    published = run("release", "publish", bundle, home=home)
    assert published.stdout == "published sample 1.0.0 (counter 1): arm-cpu\n"
    assert "sample" in run("release", "list", home=home).stdout
    assert KEY.public.key_id in run("trust", "list", home=home).stdout


@pytest.mark.parametrize("role", ["viewer", "operator", "publisher", "admin"])
def test_an_api_token_is_one_word_and_opens_the_api(home: Path, role: str) -> None:
    token = run("token", "create", "--role", role, home=home).stdout.strip()
    url = json.loads((home / "server.json").read_text())["url"]
    assert run("devices", "--server", url, "--token", token).returncode == 0
    assert run("devices", "--server", url, EDGE_FLEET_TOKEN=token).returncode == 0


def test_tokens_are_listed_with_their_end(home: Path) -> None:
    run("token", "create", "--role", "viewer", "--expires", "72", "--label", "short-lived", home=home)
    run("token", "create", "--role", "viewer", "--label", "lasting", home=home)
    told = {line.split()[2]: line for line in run("token", "list", home=home).stdout.splitlines()}
    assert told["label"].endswith("expires")
    assert told["short-lived"].endswith("in 3 d") and told["lasting"].endswith("never")


def test_one_logs_in_at_the_local_server_without_naming_it(home: Path) -> None:
    def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [*PROGRAM, *arguments, "--home", str(home)]
        typed = "four words will do\n"
        return subprocess.run(words, input=typed, capture_output=True, text=True, timeout=60)

    assert asked("user", "add", "ada", "--role", "operator").returncode == 0
    token = asked("user", "login", "ada").stdout.strip()
    assert run("devices", "--token", token, home=home).returncode == 0


def test_help_shows_no_limit_where_there_is_none() -> None:
    assert "None]" not in run("rollout", "create", "--help").stdout


def test_a_subscriber_is_given_a_user_and_a_password(home: Path) -> None:
    made = json.loads(run("token", "create", "--role", "subscriber", "--json", home=home).stdout)
    assert {"user", "password", "host", "port", "topic"} <= made.keys()
    assert made["topic"] == "edge/v1/main/+/telemetry"


def test_a_second_server_with_the_same_home_is_refused(home: Path) -> None:
    result = run("serve", "--http", "127.0.0.1:0", "--mqtt", f"127.0.0.1:{free_loopback_port()}", home=home)
    assert "another server runs with the home" in refused(result)


@pytest.mark.parametrize("option", ["--http", "--mqtt"])
def test_a_port_in_use_is_one_line_and_leaves_nothing_running(tmp_path: Path, option: str) -> None:
    ports = {"--http": "127.0.0.1:0", "--mqtt": f"127.0.0.1:{free_loopback_port()}"}
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ports[option] = f"127.0.0.1:{holder.getsockname()[1]}"
        result = run("serve", *(word for pair in ports.items() for word in pair), home=tmp_path / "h")
    assert "Address already in use" in refused(result)
    assert not (tmp_path / "h" / "server.json").exists()


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert "no server runs with the home" in refused(run("devices", home=tmp_path / "none"))
    port = free_loopback_port()
    result = run("devices", "--server", f"http://127.0.0.1:{port}", "--token", "t")
    assert f"no server at http://127.0.0.1:{port}" in refused(result)
    assert "is not a URL" in refused(run("devices", "--server", "localhost", "--token", "t"))


def test_something_else_that_answers_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={"PYTHONUNBUFFERED": "1"}
    ) as other:
        assert other.stdout is not None
        port = other.stdout.readline().split(" port ")[1].split()[0]
        result = run("devices", "--server", f"http://127.0.0.1:{port}", "--token", "t")
        other.terminate()
    assert "is not an edge-fleet server" in refused(result)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["devices", "show", "none"], "no device 'none'"),
        (["release", "publish", "/nowhere.bundle"], "cannot read /nowhere.bundle"),
        (["trust", "add", "/nowhere.pem"], "cannot read key /nowhere.pem"),
        (["devices", "revoke", "none"], "no device 'none'"),
        (["telemetry", "tail", "--no-follow", "--device", "none"], "no device 'none'"),
    ],
)
def test_what_is_not_there_is_one_line(home: Path, arguments: list[str], said: str) -> None:
    assert said in refused(run(*arguments, home=home))


def test_a_wrong_token_is_one_line(home: Path) -> None:
    url = json.loads((home / "server.json").read_text())["url"]
    assert "not known here" in refused(run("devices", "--server", url, "--token", "wrong"))
    assert "needs --token" in refused(run("devices", "--server", url))


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["token", "create", "--role", "king"],
        ["release", "publish"],
        ["token", "create", "--device-label", "nolabel"],
        ["token", "create", "--expires", "nan"],
        ["token", "create", "--expires", "inf"],
        ["rollout", "create", "--release", "a@1", "--stages", "1", "--bake", "nan"],
        ["rollout", "create", "--release", "a@1", "--stages", "1", "--gate", "error_rate=nan"],
    ],
)
def test_wrong_usage_is_one_line_that_says_where_help_is(home: Path, arguments: list[str]) -> None:
    result = run(*arguments, home=home if arguments[0] in ("token", "rollout") else None)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("edge-fleet: ") and "(see edge-fleet" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--broker", "rabbit"], "broker"),
        (["--broker", "mqtt://127.0.0.1:1"], "does not let the server in"),
        (["--http", "nonsense"], "--http 'nonsense' is not HOST:PORT"),
        (["--database", "mysql://x"], "is not supported"),
        (["--tls-cert", "/nowhere.pem"], "TLS needs both"),
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], "cannot use /nowhere.pem"),
        (["--fleet", "a/b"], "fleet"),
    ],
)
def test_a_server_that_cannot_start_says_why(tmp_path: Path, options: list[str], said: str) -> None:
    defaults = {"--http": "127.0.0.1:0", "--mqtt": f"127.0.0.1:{free_loopback_port()}"}
    for option in options[::2]:
        defaults.pop(option, None)
    result = run("serve", *options, *(w for pair in defaults.items() for w in pair), home=tmp_path / "h")
    assert said in refused(result)


def test_a_new_home_keeps_no_setting_that_was_refused(tmp_path: Path) -> None:
    home = tmp_path / "h"
    for option, wrong in (
        ("--http", "nonsense"),
        ("--mqtt", "nonsense"),
        ("--broker", "mqtt://"),
        ("--database", "mysql://x"),
        ("--database", "postgresql://127.0.0.1:1/none"),
        ("--tls-cert", "/nowhere.pem"),
    ):
        refused(run("serve", option, wrong, home=home))
        assert not (home / "config.json").exists(), option
    assert run("init", home=home).returncode == 0


def test_the_local_commands_work_with_whichever_database_the_home_is_served(tmp_path: Path) -> None:
    home = tmp_path / "h"
    stop(start(home))
    token = (home / "admin.token").read_bytes()
    process = start(home, "--database", f"sqlite:///{tmp_path / 'other.db'}")
    assert run("devices", home=home).returncode == 0
    stop(process)
    assert (home / "admin.token").read_bytes() == token


def test_init_makes_a_home_once_and_its_secrets_are_the_owners(tmp_path: Path) -> None:
    home = tmp_path / "h"
    assert run("init", "--fleet", "plant-1", home=home).returncode == 0
    for name in ("keys/director.pem", "keys/broker.secret", "admin.token", "config.json"):
        assert (home / name).stat().st_mode & 0o077 == 0, name
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert "is a server home already" in refused(run("init", home=home))
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    result = run("serve", "--fleet", "other", home=home)
    assert result.returncode == 2 and "'plant-1'" in result.stderr


def test_a_server_goes_on_where_it_was_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "h"
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(home)
        url = json.loads((home / "server.json").read_text())["url"]
        pid = json.loads(run("broker", "show", "--json", home=home).stdout)["pid"]
        with client(url) as http:
            enrol(http, run("token", "create", home=home).stdout.strip())
        stop(process, number)
        assert not (home / "server.json").exists()
        assert not Path(f"/proc/{pid}").exists()
    process = start(home)
    assert len(json.loads(run("devices", "--json", home=home).stdout)) == 2
    stop(process)


def test_a_killed_server_takes_its_broker_along_and_starts_again(tmp_path: Path) -> None:
    home = tmp_path / "h"
    process = start(home)
    pid = json.loads(run("broker", "show", "--json", home=home).stdout)["pid"]
    process.kill()
    process.communicate()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of the broker")
    assert "no server at" in refused(run("devices", home=home))
    stop(start(home))


def test_a_missing_extra_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """As after `pip install edgefleet` alone."""
    blocked = (
        "import sys\n"
        "for name in ('fastapi', 'httpx', 'paho', 'sqlalchemy', 'uvicorn'): sys.modules[name] = None\n"
        "from edge_fleet.cli import main; main()"
    )
    for arguments in (["serve", "--home", str(tmp_path / "h")], ["devices", "--server", "http://x"]):
        result = subprocess.run(
            [sys.executable, "-c", blocked, *arguments, "--home", str(tmp_path / "h")],
            capture_output=True,
            text=True,
        )
        assert "pip install 'edgefleet[server]'" in refused(result, 2)
    assert subprocess.run([sys.executable, "-c", blocked, "--help"], capture_output=True).returncode == 0


def test_help_and_version_are_not_errors() -> None:
    assert "rollout" in run("--help").stdout
    assert run("--version").returncode == 0


def test_a_home_on_a_disk_that_is_read_only_is_one_line(tmp_path: Path) -> None:
    there = tmp_path / "home"
    assert run("init", home=there).returncode == 0
    for command, told in (
        (("serve",), f"{there}/lock: Read-only file system"),
        (("backup", str(tmp_path / "kept.backup")), "its folder is read-only: copy the folder to read it"),
        (("audit", "verify"), "its folder is read-only: copy the folder to read it"),
    ):
        result = mounted(READ_ONLY, there, *PROGRAM, *command, "--home", str(there))
        assert refused(result).endswith(told)
