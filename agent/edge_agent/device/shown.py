"""What `edge-agent doctor` makes of the certificate that the device shows to the broker.

The agent asks for the next one before it connects, once two thirds of its time are over. A connection that
has stood since then is no fault; that half of the rest is over too is worth a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import time

from edge_agent.device.certificate import read_certificate
from edge_agent.device.config import DeviceConfig
from edge_agent.device.finding import Finding, Grade
from edge_agent.device.home import Home
from edge_agent.device.words import moment
from edge_agent.errors import HomeInvalid

SUBJECT = "certificate"
_ASKS = "the agent asks the server for the next one before it connects"


def examine(home: Home, config: DeviceConfig) -> Iterator[Finding]:
    """Look at it, where the broker asks for one."""
    if not config.mqtt_certificate:
        return
    try:
        stored = read_certificate(home)
    except HomeInvalid as error:
        yield Finding(SUBJECT, Grade.WRONG, str(error), "run this as the agent's user, or see its mode")
        return
    pem, renew_ms = stored or (config.mqtt_certificate.encode(), config.mqtt_certificate_renew_ms)
    try:
        starts_ms, ends_ms = _times(pem)
    except ValueError:
        advice = "restart the agent: it asks the server for another; otherwise edge-agent enroll --force"
        yield Finding(SUBJECT, Grade.WRONG, f"{home.certificate} is damaged", advice)
        return
    yield judge(starts_ms, renew_ms, ends_ms, int(time() * 1000))


def judge(starts_ms: int, renew_ms: int, ends_ms: int, now_ms: int) -> Finding:
    """How it stands with a certificate, by this device's clock; all in Unix milliseconds."""
    if now_ms < starts_ms:
        detail = f"the broker takes it from {moment(starts_ms)} on; here it is {moment(now_ms)}"
        return Finding(SUBJECT, Grade.WRONG, detail, "start NTP (timedatectl set-ntp true), or date --set")
    if now_ms >= ends_ms:
        advice = (
            f"see that the clock is right and the server is reached: {_ASKS}; where its log says that the "
            "server refuses, ask whether this device was revoked; to join again: edge-agent enroll --force"
        )
        detail = f"ended {moment(ends_ms)}, not renewed since {moment(renew_ms)}: the broker does not take it"
        return Finding(SUBJECT, Grade.WRONG, detail, advice)
    if now_ms > (renew_ms + ends_ms) // 2:
        advice = f"see that the server is reached, then restart the agent: {_ASKS}"
        detail = f"ends {moment(ends_ms)}, and was to be renewed from {moment(renew_ms)} on"
        return Finding(SUBJECT, Grade.NOTICE, detail, advice)
    detail = f"shown to the broker until {moment(ends_ms)}, renewed from {moment(renew_ms)} on"
    return Finding(SUBJECT, Grade.GOOD, detail)


def _times(pem: bytes) -> tuple[int, int]:
    from cryptography import x509  # nobody but the doctor needs it, and it takes memory

    found = x509.load_pem_x509_certificates(pem)[0]
    times = (found.not_valid_before_utc, found.not_valid_after_utc)
    return int(times[0].timestamp() * 1000), int(times[1].timestamp() * 1000)
