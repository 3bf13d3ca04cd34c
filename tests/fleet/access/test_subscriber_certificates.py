"""Subscribers with certificates at each real broker: what they read, and each way of more that was tried."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from fleet_device import eventually, require_broker
from fleet_server import Running, fleet_server
from sqlalchemy import update
from tls_session import TlsSession

from edge_contracts.enrolment import EnrolAnswer, EnrolRequest, enrol_proof
from edge_contracts.keys import PrivateKey
from edge_fleet.access.authority import make_authority
from edge_fleet.access.subscriber_files import CA, CERTIFICATE, KEY, make_request
from edge_fleet.accounts import lets_in
from edge_fleet.brokers.base import certificate_name
from edge_fleet.errors import RequestInvalid
from edge_fleet.fleet_cli import token as commands
from edge_fleet.schema import tokens

DAY_MS = 86_400_000
WANTED = (
    "edge/v1/f/+/telemetry",
    "edge/v1/f/+/verified/+",
    "edge/v1/f/+/verified/#",
    "edge/v1/f/d1/ack",
    "edge/v1/f/d1/assignment",
    "edge/v1/f/+/hello",
    "#",
)


@pytest.fixture(scope="module", params=["nats", "mosquitto"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    require_broker(request.param)
    root = tmp_path_factory.mktemp("server") / "home"
    with fleet_server(root, broker=request.param, client_certificates=True) as found:
        yield found


class Subscriber:
    """What the command line made for one: a folder, and how to connect."""

    def __init__(self, fleet: Running, folder: Path, *options: str) -> None:
        token = fleet.server.home.admin_token.read_text().strip()
        words = ["create", "--role", "subscriber", "--certificate", str(folder), "--json", *options]
        made = CliRunner().invoke(commands, [*words, "--server", fleet.url, "--token", token])
        assert made.exit_code == 0, made.output
        self.folder, self.answer = folder, json.loads(made.output)

    def context(self, certificate: str | None = "") -> ssl.SSLContext:
        """What it connects with; None shows no certificate, a text another one for its key."""
        context = ssl.create_default_context(cafile=self.folder / CA)
        if certificate is None:
            return context
        if certificate:
            (self.folder / "other.pem").write_text(certificate)
        context.load_cert_chain(
            self.folder / ("other.pem" if certificate else CERTIFICATE), self.folder / KEY
        )
        return context


def _session(port: int, context: ssl.SSLContext, user: str | None, password: str | None = None) -> TlsSession:
    return TlsSession(port, context, WANTED, user, password)


def _comes_in(subscriber: Subscriber, context: ssl.SSLContext) -> bool:
    with _session(subscriber.answer["port"], context, subscriber.answer["user"]) as session:
        return session.comes_in()


def _refused(fleet: Running) -> int:
    return sum(int(row["count"]) for row in fleet.admin.get("/api/v1/refusals").json())


@pytest.fixture(scope="module")
def one(fleet: Running, tmp_path_factory: pytest.TempPathFactory) -> Subscriber:
    return Subscriber(fleet, tmp_path_factory.mktemp("one") / "s", "--label", "dashboard")


def test_the_key_is_made_here_and_no_password_is_told(fleet: Running, one: Subscriber) -> None:
    assert "password" not in one.answer and "token" not in one.answer
    assert (one.folder / KEY).stat().st_mode & 0o077 == 0
    certificate = x509.load_pem_x509_certificate((one.folder / CERTIFICATE).read_bytes())
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == one.answer["user"] and str(name.value).startswith("subscriber.")
    days = (certificate.not_valid_after_utc.timestamp() * 1000 - fleet.server.now_ms()) / DAY_MS
    assert days == pytest.approx(365, abs=0.1)
    actions = [(row["action"], row["subject"]) for row in fleet.admin.get("/api/v1/audit").json()]
    assert ("certificate issued", one.answer["id"]) in actions


def test_a_subscriber_hears_what_is_verified_and_nothing_that_is_for_devices(
    fleet: Running, one: Subscriber
) -> None:
    publish = fleet.server.link.publish
    with _session(one.answer["port"], one.context(), one.answer["user"]) as session:
        assert session.comes_in()
        publish("edge/v1/f/d1/ack", b"for the device")
        publish("edge/v1/f/d1/assignment", b"for the device")
        publish("edge/v1/f/d1/verified/window", b"{}")
        eventually(lambda: session.got, "what was verified")
        assert set(session.got) == {"edge/v1/f/d1/verified/window"}


def test_a_subscriber_says_nothing_in_the_name_of_anybody(fleet: Running, one: Subscriber) -> None:
    before = _refused(fleet)
    with _session(one.answer["port"], one.context(), one.answer["user"]) as session:
        assert session.comes_in()
        for topic in ("d1/hello", "d1/telemetry", "d1/status", "d1/verified/window", "d1/ack"):
            session.client.publish(f"edge/v1/f/{topic}", b"forged", qos=1).wait_for_publish(5)
        fleet.server.link.publish("edge/v1/f/d2/verified/window", b"{}")
        eventually(lambda: session.got, "what came after")
        assert set(session.got) == {"edge/v1/f/d2/verified/window"}
    assert fleet.server.link.delivers(10.0)
    assert _refused(fleet) == before, "nothing came through to be refused"


@pytest.mark.parametrize("user", ["fleet.server", "d1", "subscriber.0000000000000000"])
def test_who_it_is_says_the_certificate_and_not_the_name(fleet: Running, one: Subscriber, user: str) -> None:
    with _session(one.answer["port"], one.context(), user) as session:
        assert session.comes_in()
        fleet.server.link.publish("edge/v1/f/d1/ack", b"x")
        fleet.server.link.publish("edge/v1/f/d1/verified/window", b"{}")
        eventually(lambda: session.got, "what a subscriber hears")
        assert set(session.got) == {"edge/v1/f/d1/verified/window"}


def test_without_a_certificate_or_with_anothers_nobody_comes_in(fleet: Running, one: Subscriber) -> None:
    assert fleet.server.authority is not None
    assert not _comes_in(one, one.context(None))
    now_ms = fleet.server.now_ms()
    request = _request((one.folder / KEY).read_bytes())
    user = one.answer["user"]
    forger = make_authority("f", now_ms)
    assert not _comes_in(
        one, one.context(forger.certify_subscriber(user, request, now_ms, now_ms + DAY_MS).pem)
    )
    old = fleet.server.authority.certify_subscriber(user, request, now_ms - 2 * DAY_MS, now_ms - DAY_MS)
    assert not _comes_in(one, one.context(old.pem))
    assert _comes_in(one, one.context())


def _request(pem: bytes, name: str = "x", *extensions: x509.ExtensionType) -> str:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("name", ["d1", "fleet.server"])
def test_names_and_powers_that_a_request_asks_for_are_not_given(
    fleet: Running, one: Subscriber, name: str
) -> None:
    wishes = (
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName(name)]),
    )
    request = _request((one.folder / KEY).read_bytes(), name, *wishes)
    body = {"role": "subscriber", "certificate_request": request, "expires_s": 60}
    answer = fleet.admin.post("/api/v1/tokens", json=body)
    assert answer.status_code == 201, answer.text
    made = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    assert [str(a.value) for a in made.subject] == [answer.json()["user"]]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [n.value for n in names] == [certificate_name(f"{made.serial_number:x}")]
    assert len(made.extensions) == 4, "constraints, issuer, which one it is, and for clients alone"
    assert made.not_valid_after_utc.timestamp() * 1000 <= answer.json()["expires_ms"]


def _weak() -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _of_another_key() -> str:
    """A request whose signature another key made: its sender does not hold the key that it names."""
    pem = PrivateKey.generate().pem
    key = serialization.load_pem_private_key(pem, None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)  # type: ignore[arg-type]
    der = bytearray(made.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    text = base64.encodebytes(bytes(der)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("request_pem", "says"),
    [
        ("", "not one in PEM"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "not one in PEM"),
        (_weak(), "is not P-256"),
        (_of_another_key(), "not signed with its own key"),
    ],
    ids=["empty", "garbage", "weak", "another key"],
)
def test_a_request_that_proves_nothing_is_refused_and_leaves_nothing(
    fleet: Running, request_pem: str, says: str
) -> None:
    before = len(fleet.admin.get("/api/v1/tokens").json())
    body = {"role": "subscriber", "certificate_request": request_pem}
    answer = fleet.admin.post("/api/v1/tokens", json=body)
    assert answer.status_code == 400 and says in answer.json()["message"], answer.text
    assert len(fleet.admin.get("/api/v1/tokens").json()) == before


def test_who_was_revoked_hears_nothing_more_and_is_not_let_in_again(fleet: Running, tmp_path: Path) -> None:
    gone = Subscriber(fleet, tmp_path / "s")
    with _session(gone.answer["port"], gone.context(), gone.answer["user"]) as session:
        assert session.comes_in()
        assert fleet.admin.post(f"/api/v1/tokens/{gone.answer['id']}/revoke").status_code == 200
        eventually(lambda: not _comes_in(gone, gone.context()), "the list of revoked ones in effect")
        session.got.clear()
        fleet.server.link.publish("edge/v1/f/d1/verified/window", b"{}")
        assert fleet.server.link.delivers(10.0)
        assert session.got == []


def test_whose_time_is_over_hears_nothing_more(fleet: Running, tmp_path: Path) -> None:
    """The broker looks at the certificate when somebody connects; the account ends by itself."""
    over = Subscriber(fleet, tmp_path / "s")
    with _session(over.answer["port"], over.context(), over.answer["user"]) as session:
        assert session.comes_in()
        _expire(fleet, over.answer["id"])
        eventually(lambda: not _hears(fleet, session), "the end of the account")


def _hears(fleet: Running, session: TlsSession) -> bool:
    session.got.clear()
    fleet.server.link.publish("edge/v1/f/d1/verified/window", b"{}")
    assert fleet.server.link.delivers(10.0)
    return session.got != []


def _expire(fleet: Running, token: str) -> None:
    with fleet.server.store.write() as connection:
        here = update(tokens).where(tokens.c.id == token)
        connection.execute(here.values(expires_ms=fleet.server.now_ms()))
    fleet.server.accounts.expire()


def test_a_subscriber_with_a_password_ends_with_its_token_too(tmp_path: Path) -> None:
    with fleet_server(tmp_path / "home") as plain:
        made = plain.admin.post("/api/v1/tokens", json={"role": "subscriber", "expires_s": 3600}).json()
        account = plain.server.accounts.subscriber(made["id"])
        assert lets_in(plain.server.broker.door, account)
        plain.server.accounts.expire()
        assert lets_in(plain.server.broker.door, account), "not before its time"
        _expire(plain, made["id"])
        eventually(lambda: not lets_in(plain.server.broker.door, account), "the end of the account")
        body = {"role": "subscriber", "certificate_request": "x"}
        answer = plain.admin.post("/api/v1/tokens", json=body)
        assert answer.status_code == 409 and "asks for no certificates" in answer.json()["message"]


def test_what_does_not_fit_is_refused(fleet: Running, one: Subscriber, tmp_path: Path) -> None:
    answer = fleet.admin.post("/api/v1/tokens", json={"role": "subscriber"})
    assert answer.status_code == 409 and "--certificate FOLDER" in answer.json()["message"]
    body = {"role": "viewer", "certificate_request": "x"}
    assert fleet.admin.post("/api/v1/tokens", json=body).status_code == 422
    with pytest.raises(RequestInvalid, match="is there already"):
        make_request(one.folder)
    words = ["create", "--certificate", str(tmp_path / "new"), "--server", fleet.url, "--token", "x"]
    assert CliRunner().invoke(commands, [*words, "--role", "viewer"]).exit_code == 2
    assert CliRunner().invoke(commands, [*words, "--role", "subscriber"]).exit_code == 1
    assert not (tmp_path / "new" / KEY).exists(), "nothing is in the way of another try"


def _device(fleet: Running, folder: Path) -> tuple[EnrolAnswer, ssl.SSLContext]:
    key, token = PrivateKey.generate(), fleet.token()
    asked = EnrolRequest(
        token=token,
        public_key=key.public.base64,
        proof=base64.b64encode(key.sign(enrol_proof(token, "cam"))).decode(),
        profile=("arm-cpu",),
        name="cam",
    )
    answer = fleet.http.post("/api/v1/enrol", json=asked.model_dump(mode="json"))
    enrolled = EnrolAnswer.model_validate(answer.json())
    (folder / "crt").write_text(enrolled.mqtt_certificate)
    (folder / "key").write_bytes(key.pem)
    context = ssl.create_default_context(cadata=enrolled.mqtt_ca)
    context.load_cert_chain(folder / "crt", folder / "key")
    return enrolled, context


def test_the_example_reads_with_a_certificate(fleet: Running, one: Subscriber, tmp_path: Path) -> None:
    (tmp_path / "devices.json").write_text("[]")
    program = Path(__file__).parents[3] / "examples/subscriber.py"
    port = one.answer["port"]
    words = ["localhost", str(port), one.answer["user"], "-", "f", str(tmp_path / "devices.json")]
    command = [sys.executable, str(program), *words, str(one.folder)]
    enrolled, context = _device(fleet, tmp_path)
    with (
        (tmp_path / "said").open("w") as said,
        _session(port, context, "cam", enrolled.mqtt_password) as device,
    ):
        reader = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            assert device.comes_in()

            def told() -> bool:
                device.client.publish("edge/v1/f/cam/telemetry", b"not signed", qos=1)
                return "cam REFUSED" in (tmp_path / "said").read_text()

            eventually(told, "the example's word on what is not signed")
        finally:
            reader.terminate()
            reader.wait(20)
    assert enrolled.mqtt_user == "cam"
