"""The loop that delivers: takes what is due, sends it signed, writes what was answered.

Each receiver is one task: whoever hangs, drips or is away holds up nobody else, and none of them takes longer
than a stated time in all, however it spends that.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

import httpx
from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.errors import one_line
from edge_fleet.services import Services
from edge_fleet.webhooks import rows
from edge_fleet.webhooks.retries import in_words, is_refused_for_good, is_taken
from edge_fleet.webhooks.signing import headers

log = logging.getLogger(__name__)

POLL_S = 1.0
TIMEOUT_S = 10.0  # of one attempt, from the look-up of the name to the answer's status


def open_client() -> httpx.AsyncClient:
    """What deliveries are sent with: no redirection is followed and no proxy of the environment is asked."""
    return httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=None)


class Sender:
    """Delivers the webhooks of one server, to each receiver one after the other."""

    def __init__(
        self,
        services: Services,
        secret: Callable[[str], str],
        chance: Callable[[], float] = random.random,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Take the parts.

        Args:
            secret: Of a webhook by its id.
            timeout_s: Of one attempt in all.
        """
        self._services, self._secret, self._chance = services, secret, chance
        self._timeout_s = timeout_s
        self._busy: dict[str, asyncio.Task[int]] = {}  # by webhook

    def run(self, stop: threading.Event) -> None:
        """Deliver until told to stop; what is under way then is sent again under the same id."""
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        async with open_client() as client:
            while not await asyncio.to_thread(stop.wait, POLL_S):
                try:
                    await self.begin(client)
                except SQLAlchemyError as error:
                    _wait(error)
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def begin(self, client: httpx.AsyncClient) -> list[asyncio.Task[int]]:
        """Begin to send what is due to each receiver that is not being sent anything yet.

        Returns:
            What is under way: how many deliveries each receiver takes.
        """
        for webhook, task in list(self._busy.items()):
            if task.done():
                del self._busy[webhook]
                task.result()  # a fault of our own is not passed over
        found = await asyncio.to_thread(self._due)
        for webhook, mine in groupby(found, attrgetter("webhook")):
            if webhook not in self._busy:
                self._busy[webhook] = asyncio.create_task(self._deliver(client, list(mine)))
        return list(self._busy.values())

    async def _deliver(self, client: httpx.AsyncClient, mine: list[rows.Due]) -> int:
        """Send one receiver what is due, up to the first that it does not take; how many it took."""
        for taken, one in enumerate(mine):
            outcome = await self._send(client, one)
            try:
                await asyncio.to_thread(self._note, one, outcome)
            except SQLAlchemyError as error:
                _wait(error)
                return taken
            if not outcome.taken:
                log.warning("webhook not taken", extra={"webhook": one.webhook, "answer": outcome.answer})
                return taken
        return len(mine)

    async def _send(self, client: httpx.AsyncClient, one: rows.Due) -> rows.Outcome:
        signed = headers(self._secret(one.webhook), one.message, self._services.now_ms() // 1000, one.body)
        try:
            # the body of the answer is nobody's business and may be endless: it is not read
            async with (
                asyncio.timeout(self._timeout_s),
                client.stream("POST", one.url, content=one.body, headers=signed) as answer,
            ):
                status = answer.status_code
                return rows.Outcome(is_taken(status), in_words(status), is_refused_for_good(status))
        except TimeoutError:
            return rows.Outcome(False, f"no answer within {self._timeout_s:g} s")
        except httpx.ConnectError as error:
            return rows.Outcome(False, f"cannot be reached: {one_line(error)}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return rows.Outcome(False, f"gives no answer of HTTP: {one_line(error)}")

    def _due(self) -> list[rows.Due]:
        with self._services.store.read() as connection:
            return rows.due(connection, self._services.now_ms())

    def _note(self, one: rows.Due, outcome: rows.Outcome) -> None:
        with self._services.store.write() as connection:
            rows.note(connection, one, outcome, self._chance(), self._services.now_ms())


def _wait(error: SQLAlchemyError) -> None:
    log.error("webhooks wait", extra={"reason": one_line(error)})
