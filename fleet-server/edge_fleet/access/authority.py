"""The fleet's own certificate authority: what a broker asks its clients for, and shows them.

A device's certificate is for the key that it proved at its enrolment (docs/decisions/0093): the private
half never leaves the device, and a certificate alone opens nothing. RFC 5280 by the `cryptography` library.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_contracts.errors import one_line
from edge_fleet.brokers.base import certificate_name
from edge_fleet.errors import HomeInvalid, RequestInvalid
from edge_fleet.keys import write_secret

KEY, CERTIFICATE = "authority.key", "authority.pem"
AUTHORITY_DAYS = 20 * 365
SERVER_DAYS = 825  # made anew at every start
DEVICE_DAYS = 90
RENEW_SHARE = 2 / 3  # of its life, after which a device asks for the next one
# the broker reads the list from a file that we write at every change: its age says nothing
CRL_DAYS = 10 * 365
_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A device's or subscriber's certificate; `serial` in hex."""

    serial: str
    pem: str
    expires_ms: int


@dataclass(frozen=True)
class Authority:
    """The key that certifies, and its own certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate that others check with."""
        return _pem(self.certificate)

    def certify_device(
        self, device: str, public_key: bytes, now_ms: int, days: float = DEVICE_DAYS
    ) -> Issued:
        """A certificate for a device's Ed25519 key; its common name is the device, and so its MQTT user."""
        end_ms = now_ms // 1000 * 1000 + round(timedelta(days=days).total_seconds() * 1000)
        return self._certify_client(device, Ed25519PublicKey.from_public_bytes(public_key), now_ms, end_ms)

    def certify_subscriber(self, user: str, request: str, now_ms: int, expires_ms: int) -> Issued:
        """A certificate for the key of a request (RFC 2986, PEM); its common name is the MQTT user.

        Of the request only the key counts, and that its sender holds it: names and extensions are ours.

        Raises:
            RequestInvalid: It is not one, is not signed with its own key, or the key is weak.
        """
        return self._certify_client(user, _requested_key(request), now_ms, expires_ms)

    def certify_own(self, serial: str, now_ms: int) -> bytes:
        """A certificate of the server's own that counts as the one of a serial, and its key; PEM.

        For the server at its own broker: as itself, and to try whether somebody's would be let in.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        end_ms = now_ms + SERVER_DAYS * 86_400_000
        made = self._certify_client("edgefleet server", key.public_key(), now_ms, end_ms, serial)
        return made.pem.encode() + _private_pem(key)

    def _certify_client(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey | Ed25519PublicKey | rsa.RSAPublicKey,
        now_ms: int,
        expires_ms: int,
        counts_as: str = "",
    ) -> Issued:
        number = x509.random_serial_number()
        serial = f"{number:x}"
        uri = x509.UniformResourceIdentifier(certificate_name(counts_as or serial))
        made = (
            self._builder(name, _time(now_ms), _time(expires_ms), number)
            .public_key(key)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Issued(serial, _pem(made), expires_ms)

    def certify_server(self, hosts: Sequence[str], now_ms: int) -> tuple[str, bytes]:
        """A certificate for the broker under these names and addresses, and its key; PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        begin = _time(now_ms)
        made = (
            self._builder("edgefleet broker", begin, begin + timedelta(days=SERVER_DAYS))
            .public_key(key.public_key())
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _pem(made), _private_pem(key)

    def revocations(self, serials: Sequence[str], now_ms: int) -> bytes:
        """The list of certificates that count no longer, PEM."""
        now = _time(now_ms)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _SKEW)
            .next_update(now + timedelta(days=CRL_DAYS))
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, name: str, begin: datetime, end: datetime, number: int | None = None
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .serial_number(number or x509.random_serial_number())
            .not_valid_before(begin - _SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )


def open_authority(folder: Path, fleet: str, now_ms: int) -> Authority:
    """The authority of a home's keys; made when there is none yet.

    Raises:
        HomeInvalid: Its files cannot be read or written, or do not belong together.
    """
    try:
        if not (folder / CERTIFICATE).exists():
            made = make_authority(fleet, now_ms)
            write_secret(folder / KEY, _private_pem(made.key))
            write_secret(folder / CERTIFICATE, made.pem.encode())  # last: now it is whole
        key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except OSError as error:
        raise HomeInvalid(f"cannot use {error.filename}: {error.strerror}") from None
    except ValueError:
        raise HomeInvalid(f"{folder / KEY} or {folder / CERTIFICATE} is damaged; restore a backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise HomeInvalid(f"{folder / KEY} is not the key of {folder / CERTIFICATE}; restore a backup")
    return Authority(key, certificate)


def make_authority(fleet: str, now_ms: int) -> Authority:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, begin = _name(f"edgefleet {fleet}"), _time(now_ms)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _SKEW)
        .not_valid_after(begin + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_only(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def _requested_key(request: str) -> ec.EllipticCurvePublicKey | Ed25519PublicKey | rsa.RSAPublicKey:
    try:
        parsed = x509.load_pem_x509_csr(request.encode())
        signed, key = parsed.is_signature_valid, parsed.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = one_line(error)
        raise RequestInvalid(f"the certificate request is not one in PEM: {reason}") from None
    if not signed:
        raise RequestInvalid("the certificate request is not signed with its own key")
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
        return key
    raise RequestInvalid(
        "the certificate request's key is not P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )


def _signs_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _time(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1000, UTC)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
