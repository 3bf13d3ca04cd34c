"""The same path - enrol, hello, telemetry, ack - with every broker, database and transport."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fleet_device import (
    FleetDevice,
    connect,
    enrol,
    enrol_request,
    eventually,
    mqtt_client,
    require_broker,
)
from fleet_server import fleet_server

from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.keys import PrivateKey
from edge_contracts.topics import Channel
from edge_fleet.accounts import lets_in
from edge_fleet.brokers.base import Account, Door, device_account, server_account
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.brokers.external import parse_url
from edge_fleet.brokers.nats import NatsBroker
from edge_fleet.config import Address
from edge_fleet.errors import RequestInvalid


def round_trip(device: FleetDevice) -> None:
    device.connect()
    device.hello()
    assert device.assignments.get(timeout=10).number == 0
    for _ in range(3):
        device.send(Channel.TELEMETRY, device.outbox.add())
    assert device.wait_ack(2).high == 2
    device.close()


@pytest.mark.parametrize("broker", ["nats", "mosquitto"])
def test_every_broker_with_every_database(tmp_path: Path, database_url: str, broker: str) -> None:
    require_broker(broker)
    with fleet_server(tmp_path / "home", broker=broker, database=database_url) as fleet:
        round_trip(enrol(fleet.http, fleet.token()))
        assert fleet.admin.get("/api/v1/metrics").json()["stored"]["envelopes"] == 3


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[tuple[NatsBroker, int]]:
    """A broker that the server does not manage, with an account for the server."""
    port = free_loopback_port()
    broker = NatsBroker(tmp_path / "foreign", Address("127.0.0.1", port), None, lambda: None)
    broker.start([server_account("f", "p@ss/word")])
    yield broker, port
    broker.stop()


def test_a_broker_by_url_needs_the_accounts_that_the_server_lists(
    tmp_path: Path, foreign: tuple[NatsBroker, int]
) -> None:
    broker, port = foreign
    url = f"mqtt://fleet.server:p%40ss%2Fword@127.0.0.1:{port}"
    with fleet_server(tmp_path / "home", broker=url) as fleet:
        device = enrol(fleet.http, fleet.token())
        assert (device.enrolled.mqtt_host, device.enrolled.mqtt_port) == ("127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError):
            device.connect()
        listed = [Account(**row) for row in fleet.admin.get("/api/v1/broker/accounts").json()]
        broker.update([server_account("f", "p@ss/word"), *listed[1:]])
        eventually(lambda: _enters(device), "the account")
        round_trip(device)
        assert fleet.admin.post("/api/v1/broker/outage", json={"seconds": 1}).status_code == 409


def _enters(device: FleetDevice) -> bool:
    client = mqtt_client(device.enrolled.mqtt_user, device.enrolled.mqtt_password)
    try:
        connect(client, device.enrolled.mqtt_port)
    except ConnectionRefusedError:
        return False
    client.disconnect()
    client.loop_stop()
    return True


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mqtt://broker", ("broker", 1883, False, "", "")),
        ("mqtts://u:p%3A@broker:99", ("broker", 99, True, "u", "p:")),
        ("mqtt://[::1]:1884", ("::1", 1884, False, "", "")),
    ],
)
def test_a_brokers_url_is_taken_apart(url: str, found: tuple[Any, ...]) -> None:
    broker = parse_url(url)
    assert (broker.address.host, broker.address.port, broker.tls, broker.user, broker.password) == found
    assert "p:" not in repr(broker)


@pytest.mark.parametrize("url", ["mqtt://", "http://broker", "mqtt://broker:port", "mqtt://broker/path", ""])
def test_a_url_that_is_not_a_brokers_is_refused(url: str) -> None:
    with pytest.raises(RequestInvalid):
        parse_url(url)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device port")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_path, key_path


@pytest.mark.parametrize("broker", ["nats", "mosquitto"])
def test_the_device_port_speaks_tls_and_devices_are_told_how_to_check_it(
    tmp_path: Path, certificate: tuple[Path, Path], broker: str
) -> None:
    require_broker(broker)
    cert, key = map(str, certificate)
    with fleet_server(tmp_path / "home", broker=broker, tls_cert=cert, tls_key=key) as fleet:
        request = enrol_request(fleet.token(), PrivateKey.generate())
        told = EnrolAnswer.model_validate(fleet.http.post("/api/v1/enrol", json=request).json())
        assert told.mqtt_tls and told.mqtt_ca == certificate[0].read_text()
        client = mqtt_client(told.mqtt_user, told.mqtt_password)
        client.tls_set_context(ssl.create_default_context(cadata=told.mqtt_ca))
        assert connect(client, told.mqtt_port, [f"edge/v1/f/{told.device}/ack"]) == [True]
        client.disconnect()
        client.loop_stop()
        plain = Door(Address("127.0.0.1", told.mqtt_port))
        assert not lets_in(plain, device_account("f", told.device, told.mqtt_password))
