"""Signatures of webhooks, as the Standard Webhooks specification 1.0 has them. Pure.

HMAC-SHA256 over `ID.TIMESTAMP.BODY`; the timestamp is signed, so that a receiver can refuse a copy that is
sent again later, and the id stays the same over all attempts, so that it can leave out what it has.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300


def secret_of(key: bytes) -> str:
    """A secret as receivers' libraries take it."""
    return PREFIX + base64.b64encode(key).decode()


def sign(secret: str, message: str, timestamp_s: int, body: bytes) -> str:
    """The value of the signature header."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.digest(key, f"{message}.{timestamp_s}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def headers(secret: str, message: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """What a delivery carries."""
    return {
        ID: message,
        TIMESTAMP: str(timestamp_s),
        SIGNATURE: sign(secret, message, timestamp_s, body),
        "content-type": "application/json",
        "user-agent": "edge-fleet",
    }


def verify(secret: str, found: Mapping[str, str], body: bytes, now_s: float) -> str:
    """Why a receiver must not believe a delivery; "" when it may.

    Args:
        found: Headers with lower-case names.
    """
    message, timestamp = found.get(ID, ""), found.get(TIMESTAMP, "")
    if not (message and timestamp.isascii() and timestamp.isdigit()):
        return "it has no id or no timestamp"
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        return f"its timestamp is {now_s - int(timestamp):.0f} s away from now"
    try:
        expected = sign(secret, message, int(timestamp), body)
    except (binascii.Error, ValueError):
        return "the secret is not base64"
    told = found.get(SIGNATURE, "").split(" ")
    return "" if any(hmac.compare_digest(expected, one) for one in told) else "the signature is another"
