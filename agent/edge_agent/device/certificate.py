"""The certificate that the broker knows this device by, where it asks for one; renewed before it expires.

It is for the device's own key, which stays where it is. The file is PEM, with a line before it that says
when to ask for the next one (RFC 7468 section 2: text before the block is explanation).
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import Home, write_durably
from edge_agent.errors import AgentError, HomeInvalid
from edge_contracts.enrolment import CertificateAnswer
from edge_contracts.errors import ContractError
from edge_contracts.model import parse_json

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

PATH = "/api/v1/certificate"
_RENEW = re.compile(rb"\ARenew: ([0-9]{1,15})\n")


def read_certificate(home: Home) -> tuple[bytes, int] | None:
    """What is stored and when to ask for the next one, Unix milliseconds; None where the enrolment's counts.

    Raises:
        HomeInvalid: The file cannot be read.
    """
    try:
        content = home.certificate.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeInvalid(f"cannot read {home.certificate}: {error.strerror}") from None
    found = _RENEW.match(content)
    return None if found is None else (content, int(found[1]))


class ClientCertificate:
    """The certificate of one device, used from the network's thread."""

    def __init__(self, home: Home, config: DeviceConfig) -> None:
        """Take what is stored; the first certificate came with the enrolment."""
        self._home, self._config = home, config

    def prepare(self, context: ssl.SSLContext) -> None:
        """Have a context show the certificate; ask the server for the next one first when it is time.

        Raises:
            HomeInvalid: The certificate or the key is damaged.
        """
        if not self._config.mqtt_certificate:
            return
        self.renew(time.time_ns() // 1_000_000)
        try:
            context.load_cert_chain(self._home.certificate, self._home.key)
            return
        except OSError:  # ssl.SSLError among them
            self.replace()  # the device has gone over to another key, or the file is damaged
        try:
            context.load_cert_chain(self._home.certificate, self._home.key)
        except OSError as error:
            raise HomeInvalid(
                f"{self._home.certificate} is not a certificate for {self._home.key}: "
                f"{error.strerror or error}; enrol again"
            ) from None

    def renew(self, now_ms: int) -> bool:
        """Ask for the next one when it is time; whether there is a new one.

        A device without a clock does not know that it is time; nor could it check the broker's certificate.
        """
        if now_ms < self._renew_ms():
            return False
        try:
            answer = self._asked()
        except (AgentError, ContractError) as error:
            log.warning("certificate not renewed", extra={"reason": str(error)})
            return False
        if answer.renew_ms <= self._renew_ms():
            return False
        self._write(answer.certificate, answer.renew_ms)
        log.info("certificate renewed", extra={"renew_ms": answer.renew_ms})
        return True

    def replace(self) -> None:
        """Ask for one although it is not time: for a key that this one is not for."""
        try:
            answer = self._asked()
        except (AgentError, ContractError) as error:
            log.warning("certificate not replaced", extra={"reason": str(error)})
            return
        self._write(answer.certificate, answer.renew_ms)
        log.info("certificate replaced", extra={"renew_ms": answer.renew_ms})

    def _renew_ms(self) -> int:
        stored = read_certificate(self._home)
        if stored is None:  # the first time, or damaged by somebody: begin with the enrolment's
            self._write(self._config.mqtt_certificate, self._config.mqtt_certificate_renew_ms)
            return self._config.mqtt_certificate_renew_ms
        return stored[1]

    def _write(self, pem: str, renew_ms: int) -> None:
        write_durably(self._home.certificate, f"Renew: {renew_ms}\n{pem}".encode())

    def _asked(self) -> CertificateAnswer:
        from edge_agent.device.http import post_json

        headers = {
            "X-Edge-Device": self._config.device,
            "Authorization": f"Bearer {self._config.mqtt_password}",
        }
        content = post_json(self._config.server + PATH, b"{}", self._config.server_ca, headers)
        return parse_json(CertificateAnswer, content, "the server's certificate")
