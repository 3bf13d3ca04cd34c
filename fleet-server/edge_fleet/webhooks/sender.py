"""The loop that delivers: takes what is due, sends it signed, writes what was answered."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

import httpx
from sqlalchemy.exc import SQLAlchemyError

from edge_fleet.services import Services
from edge_fleet.webhooks import rows
from edge_fleet.webhooks.retries import is_taken
from edge_fleet.webhooks.signing import headers

log = logging.getLogger(__name__)

POLL_S = 1.0
TIMEOUT_S = 10.0


class Sender:
    """Delivers the webhooks of one server, one after the other."""

    def __init__(
        self, services: Services, secret: Callable[[str], str], chance: Callable[[], float] = random.random
    ) -> None:
        """Take the parts.

        Args:
            secret: Of a webhook by its id.
        """
        self._services, self._secret, self._chance = services, secret, chance

    def run(self, stop: threading.Event) -> None:
        """Deliver until told to stop."""
        # no redirection is followed and no proxy of the environment is asked: only the stated URL is reached
        with httpx.Client(follow_redirects=False, trust_env=False, timeout=TIMEOUT_S) as client:
            while not stop.wait(POLL_S):
                try:
                    self.deliver(client, stop)
                except SQLAlchemyError as error:
                    log.error("webhooks wait", extra={"reason": " ".join(str(error).split())[:300]})

    def deliver(self, client: httpx.Client, stop: threading.Event) -> int:
        """Send what is due; how many receivers took it."""
        with self._services.store.read() as connection:
            found = rows.due(connection, self._services.now_ms())
        taken, failed = 0, set[str]()
        for one in found:
            if stop.is_set():
                break
            if one.webhook in failed:  # one receiver that hangs holds up the others once in a round
                continue
            took, answer = self._send(client, one)
            taken += took
            with self._services.store.write() as connection:
                rows.note(connection, one, took, answer, self._chance(), self._services.now_ms())
            if not took:
                failed.add(one.webhook)
                log.warning("webhook not taken", extra={"webhook": one.webhook, "answer": answer})
        return taken

    def _send(self, client: httpx.Client, one: rows.Due) -> tuple[bool, str]:
        signed = headers(self._secret(one.webhook), one.message, self._services.now_ms() // 1000, one.body)
        try:
            # the body of the answer is nobody's business and may be endless: it is not read
            with client.stream("POST", one.url, content=one.body, headers=signed) as answer:
                return is_taken(answer.status_code), f"HTTP {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return False, f"{type(error).__name__}: {' '.join(str(error).split())}"
