"""Mutual TLS at each real broker: each way in without the right certificate, and a real agent with it."""

from __future__ import annotations

import base64
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from enrolled_device import device_config
from fleet_device import eventually, require_broker
from fleet_server import Running, fleet_server
from sqlalchemy import select, update
from tls_session import TlsSession

from edge_agent.device.certificate import ClientCertificate
from edge_agent.device.config import read_config
from edge_agent.device.home import Home
from edge_agent.telemetry.mqtt import Happening, LinkDown
from edge_agent.telemetry.mqtt import Link as AgentLink
from edge_contracts.enrolment import EnrolAnswer, EnrolRequest, enrol_proof
from edge_contracts.keys import PrivateKey
from edge_fleet.access.authority import CERTIFICATE, KEY, make_authority, open_authority
from edge_fleet.access.certificates import revoked
from edge_fleet.brokers.choose import choose_broker
from edge_fleet.config import ServerConfig
from edge_fleet.errors import HomeInvalid, RequestInvalid
from edge_fleet.keys import make_keys
from edge_fleet.schema import certificates, devices

DAY_MS = 86_400_000


@pytest.fixture(scope="module", params=["nats", "mosquitto"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    require_broker(request.param)
    root = tmp_path_factory.mktemp("server") / "home"
    with fleet_server(root, broker=request.param, client_certificates=True) as found:
        yield found


@dataclass(frozen=True)
class Device:
    """An enrolled device, its key and its certificate in files."""

    answer: EnrolAnswer
    key: PrivateKey
    folder: Path

    def context(self, certificate: str | None, key: bytes | None = None) -> ssl.SSLContext:
        """What it connects with; None shows no certificate."""
        context = ssl.create_default_context(cadata=self.answer.mqtt_ca)
        if certificate is not None:
            (self.folder / "crt").write_text(certificate)
            (self.folder / "key").write_bytes(key or self.key.pem)
            context.load_cert_chain(self.folder / "crt", self.folder / "key")
        return context


def _enrol(fleet: Running, name: str, folder: Path) -> Device:
    key, token = PrivateKey.generate(), fleet.token()
    request = EnrolRequest(
        token=token,
        public_key=key.public.base64,
        proof=base64.b64encode(key.sign(enrol_proof(token, name))).decode(),
        profile=("arm-cpu",),
        name=name,
    )
    answer = fleet.http.post("/api/v1/enrol", json=request.model_dump(mode="json"))
    assert answer.status_code == 200, answer.text
    place = folder / name
    place.mkdir()
    return Device(EnrolAnswer.model_validate(answer.json()), key, place)


@pytest.fixture(scope="module")
def folder(fleet: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def d1(fleet: Running, folder: Path) -> Device:
    return _enrol(fleet, "d1", folder)


@pytest.fixture(scope="module")
def d2(fleet: Running, folder: Path) -> Device:
    return _enrol(fleet, "d2", folder)


def _session(device: Device, context: ssl.SSLContext, filters: list[str], user: str = "") -> TlsSession:
    answer = device.answer
    return TlsSession(answer.mqtt_port, context, filters, user or answer.mqtt_user, answer.mqtt_password)


def _comes_in(device: Device, context: ssl.SSLContext) -> bool:
    with _session(device, context, ["edge/v1/f/d1/ack"]) as session:
        return session.comes_in()


def test_a_device_comes_in_with_its_own_certificate(d1: Device) -> None:
    assert _comes_in(d1, d1.context(d1.answer.mqtt_certificate))


def test_a_right_password_without_a_certificate_is_not_let_in(d1: Device) -> None:
    assert not _comes_in(d1, d1.context(None))


@pytest.mark.parametrize("age_days", [91, -2], ids=["expired", "not valid yet"])
def test_a_certificate_out_of_its_time_is_not_let_in(fleet: Running, d1: Device, age_days: int) -> None:
    assert fleet.server.authority is not None
    begin = fleet.server.now_ms() - age_days * DAY_MS
    issued = fleet.server.authority.certify_device("d1", d1.key.public.raw, begin)
    assert not _comes_in(d1, d1.context(issued.pem))


def test_a_certificate_of_an_authority_of_the_same_name_is_not_let_in(fleet: Running, d1: Device) -> None:
    forger = make_authority("f", fleet.server.now_ms())
    issued = forger.certify_device("d1", d1.key.public.raw, fleet.server.now_ms())
    assert not _comes_in(d1, d1.context(issued.pem))


def test_a_device_is_no_authority_for_others(fleet: Running, d1: Device, d2: Device) -> None:
    signer = serialization.load_pem_private_key(d1.key.pem, None)
    assert isinstance(signer, Ed25519PrivateKey)
    issuer = x509.load_pem_x509_certificate(d1.answer.mqtt_certificate.encode())
    now = datetime.fromtimestamp(fleet.server.now_ms() // 1000, UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d2")]))
        .issuer_name(issuer.subject)
        .public_key(signer.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(signer, None)
    )
    chain = forged.public_bytes(serialization.Encoding.PEM).decode() + d1.answer.mqtt_certificate
    assert not _comes_in(d2, d1.context(chain))


def test_who_somebody_is_says_the_certificate_and_not_the_name(
    fleet: Running, d1: Device, d2: Device
) -> None:
    """The first device with the name of the second."""
    context = d1.context(d1.answer.mqtt_certificate)
    wanted = ["edge/v1/f/d1/ack", "edge/v1/f/d2/ack", "edge/v1/f/+/ack"]
    before = _refused(fleet)
    with _session(d1, context, wanted, user="d2") as session:
        assert session.comes_in()
        fleet.server.link.publish("edge/v1/f/d2/ack", b"x")
        fleet.server.link.publish("edge/v1/f/d1/ack", b"x")
        eventually(lambda: session.got, "an ack of the first device")
        session.client.publish("edge/v1/f/d2/hello", b"forged", qos=1).wait_for_publish(5)
        session.client.publish("edge/v1/f/d1/hello", b"not signed", qos=1).wait_for_publish(5)
        eventually(lambda: _refused(fleet) > before, "the server's refusal of what came through")
        assert set(session.got) == {"edge/v1/f/d1/ack"}
    assert _refused(fleet) == before + 1, "only its own topic let something through"


def test_a_certificate_with_anothers_password_opens_no_more_than_the_certificate(
    fleet: Running, d1: Device, d2: Device
) -> None:
    """mosquitto looks at the certificate alone; nats-server compares the password of its holder too."""
    with _session(d2, d1.context(d1.answer.mqtt_certificate), ["edge/v1/f/d2/ack"]) as session:
        assert session.comes_in() == (fleet.server.broker.name == "mosquitto")
        fleet.server.link.publish("edge/v1/f/d2/ack", b"x")
        assert fleet.server.link.delivers(10.0)
        assert session.got == []


def _refused(fleet: Running) -> int:
    return sum(int(row["count"]) for row in fleet.admin.get("/api/v1/refusals").json())


def test_a_device_that_was_put_out_is_not_let_in_again_and_hears_nothing(
    fleet: Running, folder: Path
) -> None:
    gone = _enrol(fleet, "d3", folder)
    context = gone.context(gone.answer.mqtt_certificate)
    with _session(gone, context, ["edge/v1/f/d3/ack"]) as session:
        assert session.comes_in()
        assert fleet.admin.post("/api/v1/devices/d3/revoke").status_code == 200
        eventually(lambda: not _comes_in(gone, context), "the list of revoked ones in effect")
        fleet.server.link.publish("edge/v1/f/d3/ack", b"x")
        assert fleet.server.link.delivers(10.0)
        assert session.got == []
    happened = _tries(gone)
    assert any(isinstance(item, LinkDown) and item.refused for item in happened), happened


def _tries(device: Device) -> list[Happening]:
    """What the agent's own link hears of the broker, until it is refused."""
    answer, home = device.answer, Home(device.folder / "home")
    home.make()
    home.key.write_bytes(device.key.pem)
    config = device_config(
        mqtt_host=answer.mqtt_host or "127.0.0.1",
        mqtt_port=answer.mqtt_port,
        mqtt_tls=True,
        mqtt_ca=answer.mqtt_ca,
        mqtt_user=answer.mqtt_user,
        mqtt_password=answer.mqtt_password,
        client_id="edge-of-one-put-out",
        mqtt_certificate=answer.mqtt_certificate,
        mqtt_certificate_renew_ms=answer.mqtt_certificate_renew_ms,
    )
    happened: list[Happening] = []
    link = AgentLink(config, happened.append, Random(1), ClientCertificate(home, config))
    link.start()
    try:  # an attempt that is reset before the alert is read says nothing
        eventually(lambda: any(isinstance(h, LinkDown) and h.refused for h in happened), "the refusal")
    finally:
        link.stop()
    return happened


def test_asking_often_makes_no_more_certificates_and_near_the_end_there_is_another(
    fleet: Running, d2: Device
) -> None:
    headers = {"X-Edge-Device": "d2", "Authorization": f"Bearer {d2.answer.mqtt_password}"}
    for _ in range(3):
        answer = fleet.http.post("/api/v1/certificate", headers=headers)
        assert answer.json()["certificate"] == d2.answer.mqtt_certificate
    now_ms = fleet.server.now_ms()
    assert answer.json()["renew_ms"] == pytest.approx(now_ms + 60 * DAY_MS, abs=DAY_MS)
    with fleet.server.store.write() as connection:
        soon = now_ms + 29 * DAY_MS
        connection.execute(update(certificates).where(certificates.c.device == "d2").values(expires_ms=soon))
    renewed = fleet.http.post("/api/v1/certificate", headers=headers).json()["certificate"]
    assert renewed != d2.answer.mqtt_certificate
    assert _comes_in(d2, d2.context(renewed))
    wrong = {**headers, "Authorization": "Bearer x"}
    assert fleet.http.post("/api/v1/certificate", headers=wrong).status_code == 401


def test_a_real_agent_comes_in_and_renews_its_certificate(fleet: Running, tmp_path: Path) -> None:
    home = tmp_path / "device"
    script = str(Path(sys.executable).with_name("edge-agent"))
    # the certificate of the device port is for localhost as for 127.0.0.1
    words = ["--server", fleet.url, "--token", fleet.token(), "--profile", "arm-cpu", "--name", "cam"]
    subprocess.run([script, "enroll", *words, "--home", home], check=True, capture_output=True, timeout=60)
    place = Home(home)
    config = read_config(place)
    assert config is not None and config.mqtt_certificate
    own = ClientCertificate(place, config)
    assert not own.renew(fleet.server.now_ms())
    first = place.certificate.read_text()
    with fleet.server.store.write() as connection:
        soon = fleet.server.now_ms() + DAY_MS
        connection.execute(update(certificates).where(certificates.c.device == "cam").values(expires_ms=soon))
    place.certificate.write_text("Renew: 1\n" + first.partition("\n")[2])
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen([script, "run", "--home", home], stdout=log, stderr=log)
    try:
        eventually(lambda: _seen(fleet, "cam"), "a hello of the agent")
    finally:
        agent.terminate()
        agent.wait(30)
    assert place.certificate.read_text() not in (first, "Renew: 1\n" + first.partition("\n")[2])


def test_a_real_agent_that_changes_its_key_comes_in_with_a_certificate_for_the_new_one(
    fleet: Running, tmp_path: Path
) -> None:
    home = tmp_path / "device"
    script = str(Path(sys.executable).with_name("edge-agent"))
    words = ["--server", fleet.url, "--token", fleet.token(), "--profile", "arm-cpu", "--name", "cam-k"]
    subprocess.run([script, "enroll", *words, "--home", home], check=True, capture_output=True, timeout=60)
    subprocess.run([script, "keys", "rotate", "--home", home], check=True, capture_output=True, timeout=60)
    place = Home(home)
    config = read_config(place)
    assert config is not None
    ClientCertificate(place, config).renew(0)  # its first one is written down
    first, serials = place.certificate.read_bytes(), set(serials_of(fleet, "cam-k"))
    old_key = place.key.read_bytes()
    for _ in range(2):
        begun_ms = fleet.server.now_ms()
        with (tmp_path / "log").open("ab") as log:
            agent = subprocess.Popen([script, "run", "--hello", "1", "--home", home], stdout=log, stderr=log)
        try:
            eventually(lambda: bounded(fleet, "cam-k"), "a hello that the new key has signed")
            eventually(partial(is_heard_since, fleet, "cam-k", begun_ms), "a hello of this start")
        finally:
            agent.terminate()
            agent.wait(30)
    assert place.certificate.read_bytes() != first
    shown = x509.load_pem_x509_certificate(place.certificate.read_bytes().partition(b"\n")[2])
    now = read_config(place)
    assert now is not None and now.public_key != config.public_key
    raw = shown.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert base64.b64encode(raw).decode() == now.public_key
    with fleet.server.store.read() as connection:
        assert serials <= set(revoked(connection, fleet.server.now_ms()))
    told = EnrolAnswer(
        device="cam-k",
        fleet=now.fleet,
        mqtt_host=now.mqtt_host,
        mqtt_port=now.mqtt_port,
        mqtt_tls=now.mqtt_tls,
        mqtt_ca=now.mqtt_ca,
        mqtt_user="cam-k",
        mqtt_password=now.mqtt_password,
        director_key=now.director_key,
        publisher_keys=now.publisher_keys,
    )
    before = Device(told, PrivateKey.generate(), tmp_path)
    context = before.context(first.partition(b"\n")[2].decode(), old_key)
    eventually(lambda: not _comes_in(before, context), "the end of the certificate for the former key")


def serials_of(fleet: Running, device: str) -> list[str]:
    with fleet.server.store.read() as connection:
        query = select(certificates.c.serial).where(certificates.c.device == device)
        return list(connection.execute(query).scalars())


def bounded(fleet: Running, device: str) -> bool:
    found = fleet.admin.get(f"/api/v1/devices/{device}").json()["former_keys"]
    return bool(found) and found[0]["below_seq"] is not None


def is_heard_since(fleet: Running, device: str, since_ms: int) -> bool:
    return int(fleet.admin.get(f"/api/v1/devices/{device}").json()["last_seen_ms"] or 0) > since_ms


def _seen(fleet: Running, device: str) -> bool:
    with fleet.server.store.read() as connection:
        query = select(devices.c.last_seen_ms).where(devices.c.id == device)
        return connection.execute(query).scalar() is not None


def test_a_broker_that_gets_nothing_of_who_was_revoked_is_refused(tmp_path: Path) -> None:
    config = ServerConfig(broker="mqtts://broker.example:8883", client_certificates=True)
    with pytest.raises(RequestInvalid, match="need --broker-files"):
        choose_broker(config, tmp_path, lambda: None)


def test_the_authority_is_made_once_and_its_files_belong_together(tmp_path: Path) -> None:
    make_keys(tmp_path)
    first = open_authority(tmp_path, "f", 10**12)
    assert open_authority(tmp_path, "f", 2 * 10**12).pem == first.pem
    assert (tmp_path / KEY).stat().st_mode & 0o077 == 0
    other = make_authority("f", 10**12)
    (tmp_path / CERTIFICATE).write_text(other.pem)
    with pytest.raises(HomeInvalid, match="is not the key of"):
        open_authority(tmp_path, "f", 10**12)
    (tmp_path / CERTIFICATE).write_text("no certificate")
    with pytest.raises(HomeInvalid, match="is damaged"):
        open_authority(tmp_path, "f", 10**12)
