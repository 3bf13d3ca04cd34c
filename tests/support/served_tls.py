"""A CA and certificates of it for 127.0.0.1, in files as a renewal writes them. No tests."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """A CA of its own.

    Args:
        name: Common name.
    """

    def __init__(self, name: str) -> None:
        """Make its key and its certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(self._name, self._name, self._key.public_key(), -1, 10)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.pem = made.sign(self._key, hashes.SHA256()).public_bytes(PEM).decode()

    def issue(
        self, cert: Path, key: Path, starts_days: float = -1, days: float = 90, password: bytes = b""
    ) -> None:
        """A new key and certificate for 127.0.0.1 into two files, the certificate first."""
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
        made = _builder(name, self._name, private.public_key(), starts_days, days)
        made = made.add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(PEM))
        how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        key.write_bytes(private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
        key.chmod(0o600)

    def client(self) -> ssl.SSLContext:
        """What a client that verifies goes by: this CA, and the address in the certificate."""
        return ssl.create_default_context(cadata=self.pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, starts_days: float, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer,
        subject,
        key,
        x509.random_serial_number(),
        now + timedelta(days=starts_days),
        now + timedelta(days=days),
    )
