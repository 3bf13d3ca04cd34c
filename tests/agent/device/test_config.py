"""The file of the enrolment, with one field after the other wrong: refused on one line, by every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from enrolled_device import device_config

from edge_agent.cli import main
from edge_agent.device.config import read_config
from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid
from edge_contracts.keys import PrivateKey
from edge_contracts.model import canonical_json

KEY = PrivateKey.generate().public.base64
CONFIG = device_config(
    server="https://fleet.example:8443",
    mqtt_host="mqtt.fleet.example.",
    mqtt_port=8883,
    mqtt_tls=True,
    publisher_keys=(KEY,),
)


def home_with(tmp_path: Path, **wrong: Any) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    home.config.write_text(json.dumps(json.loads(canonical_json(CONFIG)) | wrong))
    return home


@pytest.mark.parametrize(
    ("server", "mqtt_host"),
    [("http://127.0.0.1:8080", "127.0.0.1"), ("http://[::1]:8080/fleet", "::1"), ("https://büro", "büro")],
)
def test_addresses_of_every_kind_are_read(tmp_path: Path, server: str, mqtt_host: str) -> None:
    found = read_config(home_with(tmp_path, server=server, mqtt_host=mqtt_host))
    assert found is not None
    assert (found.server, found.mqtt_host) == (server, mqtt_host)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("server", ""),
        ("server", "fleet.example"),
        ("server", "ftp://fleet.example"),
        ("server", "https:///x"),
        ("server", "https://a b"),
        ("mqtt_host", "../../x"),
        ("mqtt_host", "a" * 64),
        ("mqtt_host", "a..b"),
        ("mqtt_host", "\0"),
        ("director_key", "x"),
        ("director_key", "AAAA"),
        ("publisher_keys", [KEY, "x"]),
    ],
    ids=lambda value: "a key and none" if isinstance(value, list) else str(value),  # KEY is random
)
def test_an_address_or_key_that_is_none_is_named_on_one_line(tmp_path: Path, field: str, value: Any) -> None:
    home = home_with(tmp_path, **{field: value})
    with pytest.raises(HomeInvalid, match=rf"config\.json: {field}.*enroll --force"):
        read_config(home)
    refused = CliRunner().invoke(main, ["keys", "show", "--home", str(home.folder)])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    status = CliRunner().invoke(main, ["status", "--home", str(home.folder)])
    assert status.exit_code == 0 and f"config.json: {field}" in status.stdout
    doctor = CliRunner().invoke(main, ["doctor", "--home", str(home.folder)])
    assert f"config.json: {field}" in doctor.stdout
