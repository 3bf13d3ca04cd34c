"""The compose file: what it mounts is there, what it starts takes its options, and it works as it stands."""

from __future__ import annotations

import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner
from composed import DEPLOY, WAIT_S, Stack, await_ready, compose, script, stack
from fleet_device import enrol_request, eventually, mqtt_client
from paho.mqtt.client import Client

from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.keys import PrivateKey
from edge_fleet.brokers.base import MAX_PACKET_BYTES
from edge_fleet.cli import cli

SERVICES = compose()["services"]


def test_compose_reads_the_file(tmp_path: Path) -> None:
    check = [script("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    good = subprocess.run([*check, DEPLOY / "compose.yaml"], capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    broken = tmp_path / "compose.yaml"
    broken.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only: true", "readonly: yes"))
    assert subprocess.run([*check, broken], capture_output=True).returncode != 0


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_pinned_and_closed_and_starts_again(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert tag[0].isdigit() or tag[0] == "v"
    assert "latest" not in service["image"]
    assert "no-new-privileges:true" in service["security_opt"]
    if name != "metrics-access":  # it runs once
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_mounts_is_there_and_declared(name: str) -> None:
    declared = compose()
    for mount in SERVICES[name].get("volumes", []):
        source, target, *_ = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (DEPLOY / source).exists(), mount
            assert mount.endswith(":ro"), mount
        else:
            assert source in declared["volumes"], mount
    for secret in SERVICES[name].get("secrets", []):
        assert declared["secrets"][secret]["file"] == f"./secrets/{secret}"
    for network in SERVICES[name].get("networks", []):
        assert network in declared["networks"]
    for other, how in dict.fromkeys(SERVICES[name].get("depends_on", {})).items():
        assert other in SERVICES, how


def test_no_secret_is_in_an_environment_or_on_a_command_line() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            secret = any(word in variable for word in ("PASSWORD", "TOKEN", "SECRET", "KEY"))
            assert not secret or value.startswith("/run/secrets/"), (name, variable)
        assert not any("://" in word and "@" in word and ":" in word.split("@")[0].split("//")[1]
                       for word in service.get("command", []))  # fmt: skip


def test_the_script_makes_secrets_once_that_nobody_else_reaches(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(DEPLOY / "secrets.sh"), str(folder)]
    assert subprocess.run(command, capture_output=True, check=True).stdout
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == set(compose()["secrets"])
    assert all(len(text) == 64 for text in made.values())
    assert len(set(made.values())) == len(made)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def test_the_server_takes_every_option() -> None:
    helped = CliRunner().invoke(cli, ["serve", "--help"]).output
    options = [word.partition("=")[0] for word in SERVICES["server"]["command"] if word.startswith("--")]
    assert len(options) == 8
    assert all(option in helped for option in options)


@pytest.mark.parametrize("name", ["Dockerfile", "fleet.Dockerfile"])
def test_a_dockerfile_copies_what_there_is_and_runs_as_somebody(name: str) -> None:
    lines = (DEPLOY / name).read_text().splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            assert all((DEPLOY.parent / source).exists() for source in sources), line
        assert not line.startswith("FROM") or ":" in line
        assert "latest" not in line
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user not in ("root", "0")
    assert any(line.startswith("STOPSIGNAL SIGTERM") for line in lines)


def test_the_image_compiles_the_library_of_whatever_python_it_has() -> None:
    """A path that is not there is skipped without a word, and each start compiles."""
    lines = (DEPLOY / "Dockerfile").read_text().split("compileall", 1)[1].split("|| true")[0]
    asked = lines.split("$(", 1)[1].split(')"')[0].replace("/opt/edgefleet/bin/python", sys.executable)
    found = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found, "dataclasses.py").is_file()
    assert "/usr/" not in lines


def test_mosquitto_has_the_limits_of_the_one_that_the_server_runs() -> None:
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    assert f"\nmax_packet_size {MAX_PACKET_BYTES}\n" in text
    # as many as the container may open
    (most,) = [int(line.split()[1]) for line in text.splitlines() if line == "max_connections 20000"]
    assert SERVICES["mosquitto"]["ulimits"]["nofile"] > most


def test_grafana_finds_the_data_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert source["type"] == "prometheus"
    host = source["url"].removeprefix("http://").partition(":")[0]
    assert set(SERVICES[host]["networks"]) & set(SERVICES["grafana"]["networks"])
    provider = yaml.safe_load((provisioning / "dashboards" / "edgefleet.yaml").read_text())["providers"][0]
    targets = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert any(target.startswith(provider["options"]["path"] + "/") for target in targets)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, Any]]]:
    with stack(tmp_path_factory.mktemp("stack")) as found:
        yield found


def trusting(found: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(found.ca))


class Device:
    """An enrolled device at the broker's device port."""

    def __init__(self, found: Stack, name: str) -> None:
        self.key = PrivateKey.generate()
        self.found = found
        token = found.post("/api/v1/tokens", {"role": "enrol"})["token"]
        with httpx.Client(base_url=found.url, verify=trusting(found), trust_env=False) as http:
            answer = http.post("/api/v1/enrol", json=enrol_request(token, self.key, name))
        assert answer.status_code == 200, answer.text
        self.answer = EnrolAnswer.model_validate(answer.json())
        self.files = found.root / name
        self.files.mkdir()
        (self.files / "crt").write_text(self.answer.mqtt_certificate)
        (self.files / "key").write_bytes(self.key.pem)
        self.downs = 0
        self.client = self.session(with_certificate=True)

    def session(self, with_certificate: bool) -> Client:
        context = ssl.create_default_context(cadata=self.answer.mqtt_ca)
        if with_certificate:
            context.load_cert_chain(self.files / "crt", self.files / "key")
        client = mqtt_client(self.answer.mqtt_user, self.answer.mqtt_password)
        client.tls_set_context(context)
        client.on_disconnect = self._down
        return client

    def _down(self, *_: Any) -> None:
        self.downs += 1

    def comes_in(self, with_certificate: bool = True) -> bool:
        """Whether a new connection is let in."""
        heard: list[bool] = []
        client = self.session(with_certificate)
        client.on_connect = lambda _client, _data, _flags, reason, _props: heard.append(not reason.is_failure)
        client.on_disconnect = lambda *_: heard.append(False)
        try:
            client.connect(self.answer.mqtt_host, self.answer.mqtt_port)
        except OSError:
            return False
        client.loop_start()
        eventually(lambda: bool(heard), "a decision of the broker")
        client.disconnect()
        client.loop_stop()
        return heard[0]


def test_three_services_as_compose_runs_them_let_a_device_in_by_its_certificate(
    running: tuple[Stack, dict[str, Any]],
) -> None:
    found, _ = running
    device = Device(found, "d1")
    assert (device.answer.mqtt_host, device.answer.mqtt_port) == ("localhost", found.device_port)
    # its account is in effect when the enrolment is answered
    assert device.comes_in()
    assert not device.comes_in(with_certificate=False)
    shown = found.get("/api/v1/broker")
    assert (shown["kind"], shown["connected"]) == ("external", True)
    assert shown["address"] == f"localhost:{found.device_port}"


def test_a_server_that_starts_again_leaves_connections_and_a_revoked_device_comes_in_no_more(
    running: tuple[Stack, dict[str, Any]],
) -> None:
    found, processes = running
    stays, goes = Device(found, "stays"), Device(found, "goes")
    for device in (stays, goes):
        device.client.connect("localhost", found.device_port)
        device.client.loop_start()
        eventually(device.client.is_connected, "its connection")
    processes["server"].terminate()
    assert processes["server"].wait(WAIT_S) == 0
    processes["server"] = found.start("server")
    await_ready(found, processes["server"])
    found.post("/api/v1/devices/goes/revoke")
    eventually(lambda: not goes.comes_in(), "the refusal")
    assert stays.comes_in()
    assert (stays.downs, stays.client.is_connected()) == (0, True)
    for device in (stays, goes):
        device.client.disconnect()
        device.client.loop_stop()


def test_the_password_of_the_database_is_asked_for(running: tuple[Stack, dict[str, Any]]) -> None:
    found, _ = running
    wrong = found.root / "wrong-password"
    wrong.write_text("not it")
    (url,) = [word.partition("=")[2] for word in found.command("server") if word.startswith("--database")]
    for path, words in ((wrong, "password authentication failed"), (found.root / "none", "cannot read")):
        changed = f"--database={url.partition('=')[0]}={path}"
        told = subprocess.run(
            [script("edge-fleet"), "init", "--home", found.root / "other", changed],
            capture_output=True, text=True, env=found.environment,
        )  # fmt: skip
        assert told.returncode == 1
        assert words in told.stderr
        assert "not it" not in told.stderr


def test_prometheus_gets_a_token_of_its_own_and_reads_the_figures(
    running: tuple[Stack, dict[str, Any]],
) -> None:
    found, _ = running
    for _ in range(2):  # a second time it keeps what is there
        subprocess.run(found.command("metrics-access"), check=True, env=found.environment)
    assert len([t for t in found.get("/api/v1/tokens") if t["label"] == "prometheus"]) == 1
    token = (found.root / "access" / "token").read_text().strip()
    context = ssl.create_default_context(cafile=str(found.root / "access" / "ca.pem"))

    def ask(path: str) -> int:
        asked = urllib.request.Request(found.url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(asked, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert ask("/metrics") == 200
    assert ask("/api/v1/devices") == 403
    config = found.copy("prometheus/prometheus.yml")
    try:
        checked = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


def test_the_health_command_is_what_the_health_check_asks(running: tuple[Stack, dict[str, Any]]) -> None:
    found, processes = running
    words = SERVICES["server"]["healthcheck"]["test"][1:]

    def health() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, capture_output=True, text=True, env=found.environment)

    assert health().stdout.startswith("ok: database up, broker up")
    processes["mosquitto"].terminate()
    processes["mosquitto"].wait()
    eventually(lambda: health().returncode == 1, "word of it")
    assert "broker down" in health().stderr
    processes["mosquitto"] = found.start("mosquitto")
    eventually(lambda: health().returncode == 0, "it to be back")
