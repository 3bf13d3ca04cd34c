"""What a subscriber connects with where certificates are asked for: a key made here, that goes nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_fleet.errors import RequestInvalid
from edge_fleet.keys import write_secret

KEY, CERTIFICATE, CA = "subscriber.key", "subscriber.pem", "broker-ca.pem"


def make_request(folder: Path) -> str:
    """Make a folder with a new key, and a request for a certificate of it, PEM.

    Raises:
        RequestInvalid: There is a key already, or the place cannot be written.
    """
    if (folder / KEY).exists():
        raise RequestInvalid(f"{folder / KEY} is there already; name another folder, nothing was changed")
    key = ec.generate_private_key(ec.SECP256R1())  # what every TLS library takes
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(folder / KEY, pem)
    except OSError as error:
        raise RequestInvalid(f"cannot write {folder / KEY}: {error.strerror}") from None
    # the name is the server's to say
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "subscriber")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def write_answer(folder: Path, answer: Mapping[str, Any]) -> None:
    """Put what the server answered beside the key."""
    write_secret(folder / CERTIFICATE, str(answer["certificate"]).encode())
    write_secret(folder / CA, str(answer["ca"]).encode())
