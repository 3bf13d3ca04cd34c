"""Sending kept inputs away: only to an address that a person at the device has allowed, within a data budget.

Each input is one POST of a COSE_Sign1 envelope (RFC 9052), signed with the device's key; what is in it
says docs/doubt.md. Bytes are written off durably before they are sent: a power cut costs budget, never
more than the budget. The fleet server takes them at /api/v1/review; any web server that answers 2xx does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Literal
from urllib.parse import urlsplit

import cbor2

from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import write_durably
from edge_agent.doubt.ring import ReviewRing
from edge_agent.doubt.settings import ReviewSettings
from edge_agent.errors import AgentError, HomeInvalid, ReviewDamaged, ServerRefused
from edge_contracts import cose
from edge_contracts.arrays import write_npz
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey
from edge_contracts.model import Count, Frozen, canonical_json, parse_json

log = logging.getLogger(__name__)

FORMAT = "edgefleet.review-ledger/1"
LOOK_S = 60.0
LONGEST_PAUSE_S = 3600.0
OVERHEAD_BYTES = 600  # of a request's headers and TLS records, about; a handshake is 4 kB more
HANDSHAKE_BYTES = 4096
DAY_S = 86_400


class Ledger(Frozen):
    """What was sent.

    Args:
        day: Of the budget, days since 1970 (UTC) by the device's clock.
        spent_bytes: On that day.
        ring: `ReviewRing.identity` that the numbers are of.
        sent: Largest number of an input that the other side has taken, or refused for good.
    """

    format: Literal["edgefleet.review-ledger/1"] = "edgefleet.review-ledger/1"
    day: int = 0
    spent_bytes: Count = 0
    ring: str = ""
    sent: int = -1


def spend(ledger: Ledger, size_bytes: int, per_day: int, now_s: float) -> Ledger | None:
    """The ledger with so many bytes written off, or None when the day's budget does not allow them. Pure.

    A clock that went back opens no new day: the old one goes on until it is passed.
    """
    day = max(ledger.day, int(now_s // DAY_S))
    spent = (ledger.spent_bytes if day == ledger.day else 0) + size_bytes
    if spent > per_day:
        return None
    return ledger.model_copy(update={"day": day, "spent_bytes": spent})


@dataclass(frozen=True)
class Sender:
    """Who sends.

    Args:
        server: Address of the fleet's server.
        server_ca: PEM of the CA that its certificate must come from, "" for the system's.
    """

    fleet: str
    device: str
    key: PrivateKey
    server: str = ""
    server_ca: str = ""

    @staticmethod
    def of(config: DeviceConfig, key: PrivateKey) -> Sender:
        """An enrolled device."""
        return Sender(config.fleet, config.device, key, config.server, config.server_ca)

    @property
    def context(self) -> str:
        """What the signature is bound to besides the content (external_aad)."""
        return f"edge/v1/{self.fleet}/{self.device}/review"

    def ca_of(self, url: str) -> str:
        """The CA of an address for which none was stated: the fleet's where it is the fleet's server."""
        return self.server_ca if _origin(url) == _origin(self.server) else ""


def sealed(ring: ReviewRing, number: int, sender: Sender) -> bytes:
    """One kept input as it travels.

    Raises:
        ReviewDamaged: It cannot be read (any more).
    """
    head, inputs = ring.load(number)
    known = head.model_dump(mode="python")
    payload = {"v": 1, "type": "review", "device": sender.device, "number": number, "about": known}
    return cose.sign(cbor2.dumps(payload | {"inputs": write_npz(inputs)}), sender.context, sender.key)


class Outbound:
    """The thread that sends; only there when it may.

    Args:
        ledger: File that it keeps.
        settings: An address and a budget.
        clock: Unix seconds.
    """

    def __init__(
        self,
        ring: ReviewRing,
        ledger: Path,
        settings: ReviewSettings,
        sender: Sender,
        clock: Callable[[], float] = time,
    ) -> None:
        """Take the parts; `start` runs the thread."""
        self._ring, self._path, self._settings, self._sender = ring, ledger, settings, sender
        self._clock = clock
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="review-upload", daemon=True)

    def start(self) -> None:
        """Begin to look for what may be sent."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request that is under way; nobody waits for that."""
        self._ending.set()

    def send_waiting(self) -> int:
        """Send what has not been sent, oldest first, as far as the budget goes; how many the other side took.

        Raises:
            ServerUnreachable: Nobody answers; what was written off stays so.
            HomeInvalid: The ring or the ledger cannot be read or written: then nothing is sent.
        """
        count, ring = 0, self._ring.identity
        for entry in self._ring.entries():
            ledger = read_ledger(self._path)
            if ledger.ring != ring:
                ledger = ledger.model_copy(update={"ring": ring, "sent": -1})
            if entry.head is None or entry.number <= ledger.sent or self._ending.is_set():
                continue
            try:
                content = sealed(self._ring, entry.number, self._sender)
            except ReviewDamaged:
                continue  # pushed out meanwhile, or damaged
            cost = len(content) + OVERHEAD_BYTES + HANDSHAKE_BYTES
            spent = spend(ledger, cost, self._settings.bytes_per_day, self._clock())
            if spent is None:
                return count  # tomorrow, in order
            write_durably(self._path, canonical_json(spent))
            from edge_agent.device import http  # TLS and all: not before something leaves

            try:
                headers = {"Content-Type": "application/cose"}
                ca = self._settings.upload_ca or self._sender.ca_of(self._settings.upload_to)
                with http.opened(self._settings.upload_to, headers, content, ca):
                    count += 1
            except ServerRefused as refused:  # this one, for good: the next may be taken
                log.warning("kept input refused", extra={"number": entry.number, "reason": str(refused)})
            write_durably(self._path, canonical_json(spent.model_copy(update={"sent": entry.number})))
        return count

    def _run(self) -> None:
        pause_s = LOOK_S
        while not self._ending.is_set():
            try:
                count = self.send_waiting()
            except AgentError as error:
                log.warning("kept inputs not sent", extra={"reason": str(error)})
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                pause_s = LOOK_S
                if count:
                    log.info("kept inputs sent", extra={"inputs": count})
            self._ending.wait(pause_s)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def read_ledger(path: Path) -> Ledger:
    """What was sent so far.

    Raises:
        HomeInvalid: The file is there but cannot be read: without it the budget is not known.
    """
    try:
        return parse_json(Ledger, path.read_bytes(), str(path), FORMAT)
    except FileNotFoundError:
        return Ledger()
    except OSError as error:
        raise HomeInvalid(f"cannot read {path}: {error.strerror}") from None
    except ContractError as error:
        raise HomeInvalid(f"{error}; nothing is uploaded until the file is removed") from None
