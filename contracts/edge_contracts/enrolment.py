"""How a device comes into a fleet: the bodies of its requests to the server by HTTPS, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, field

from edge_contracts.model import Frozen, Identifier, later


class EnrolRequest(Frozen):
    """Body of POST /api/v1/enrol: a one-time token and a key made on the device.

    Args:
        public_key: Raw 32 bytes, base64.
        proof: Signature of `enrol_proof(token, name)` by that key, base64: the device has the other half.
        name: Device id asked for, or None to be given one.
    """

    token: Annotated[str, Meta(min_length=8, max_length=200)]
    public_key: str
    proof: str
    profile: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=8)]
    name: Identifier | None = None
    labels: Annotated[Mapping[Identifier, Annotated[str, Meta(max_length=128)]], Meta(max_length=32)] = field(
        default_factory=dict
    )


class EnrolAnswer(Frozen):
    """What a device needs to know of its fleet, once.

    Args:
        mqtt_host: "" means the host that the enrolment went to.
        mqtt_tls: Whether the broker's device port speaks TLS; `mqtt_ca` is its CA in PEM.
        director_key, publisher_keys: Raw, base64: who may assign, who may publish.
        mqtt_certificate: PEM, for the device's own key: what the broker knows it by; "" for none.
        mqtt_certificate_renew_ms: When to ask for the next: `CertificateAnswer.renew_ms`.
    """

    device: Identifier
    fleet: Identifier
    mqtt_host: str
    mqtt_port: Annotated[int, Meta(gt=0, lt=65_536)]
    mqtt_tls: bool
    mqtt_ca: str
    mqtt_user: str
    mqtt_password: str
    director_key: str
    publisher_keys: tuple[str, ...]
    mqtt_certificate: str = later("")
    mqtt_certificate_renew_ms: int = later(0)


class CertificateAnswer(Frozen):
    """Answer of POST /api/v1/certificate: what the device shows the broker.

    Args:
        certificate: PEM, for the device's own key.
        renew_ms: Unix milliseconds after which the device should ask again; it is valid for longer.
    """

    certificate: str
    renew_ms: int


def enrol_proof(token: str, name: str | None) -> bytes:
    """What a device signs to show that it holds the private half of its key."""
    return f"edgefleet-enrol-v1\n{token}\n{name or ''}".encode()
