"""Requests that wait for the inference thread: bounded, and each account in its turn.

A queue that is full refuses and says so; it never grows and never drops what it has taken in silence.
Places and turns are the accounts' first (`waiting.py`), since a client calls itself what it likes: one
account can fill half of it at most, so that there is always a place for another. Turns go round the accounts,
and within one round its clients, not round the requests: whoever sends a hundred waits behind its own.
Time comes in as an argument; what a request is answered is `engine.py`'s.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

from edge_agent.errors import DeadlinePassed, NoModel, QueueFull, RateLimited, RequestRefused
from edge_agent.inference.request import Payer, Reply, Request
from edge_agent.inference.waiting import Account, Waiting

MAX_NAMES = 8  # under one account, each with a rate of its own at a time; more share the account's
LATER = "wait for replies before sending more"
MAX_BUCKETS = 1024  # clients whose rate is remembered; beyond, the one that has been quiet for longest is not


@dataclass(frozen=True)
class QueueLimits:
    """How much may wait, and how fast it may come.

    Args:
        requests: Of all clients; one account alone may hold half of them.
        size_bytes: Of the inputs of all that wait; one account alone may hold half of them.
        rate_per_s: Requests a second of one client, None for as many as it likes.
        burst: How many may come at once although a rate is set; a second's worth unless stated.
    """

    requests: int = 64
    size_bytes: int = 64 << 20
    rate_per_s: float | None = None
    burst: int | None = None


class RequestQueue:
    """The queue. Any thread may put, one takes."""

    def __init__(self, limits: QueueLimits | None = None) -> None:
        """Begin empty."""
        self._limits = limits or QueueLimits()
        self._per_account = max(1, self._limits.requests // 2)
        self._per_client = max(1, self._per_account * 3 // 4)  # the rest is for others of its account
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, Account] = OrderedDict()  # in the order of their turns
        self._buckets: OrderedDict[Payer, tuple[float, float]] = OrderedDict()  # tokens, at what time
        self._waiting = 0
        self._bytes = 0
        self._closed = ""
        self._unserved: dict[str, int] = {}

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def put(self, request: Request, now_s: float) -> Future[Reply]:
        """Take a request in.

        Raises:
            QueueFull: With how many wait.
            RateLimited: The client asks faster than it may.
            DeadlinePassed: It is too late already.
            NoModel: The queue is closed.
        """
        size_bytes = request.size_bytes
        waiting = Waiting(request, Future())
        with self._lock:
            try:
                self._admit(request, size_bytes, now_s)
            except RequestRefused as refused:
                self._count(refused.code)
                raise
            name = request.account
            account = self._accounts.get(name)
            if account is None:
                account = self._accounts[name] = Account()
            account.put(waiting, size_bytes)
            self._waiting += 1
            self._bytes += size_bytes
        return waiting.future

    def passes(self, request: Request, now_s: float) -> bool:
        """Whether a request may be answered without waiting, since nobody else waits.

        Raises:
            RequestRefused: As `put`; it is spent like one that was put.
        """
        with self._lock:
            if self._waiting:
                return False
            try:
                self._admit(request, 0, now_s)
            except RequestRefused as refused:
                self._count(refused.code)
                raise
        return True

    def take_round(self) -> list[Waiting]:
        """One request of every account that has any, of the client whose turn it is there."""
        if not self._waiting:  # looked at without the lock: what comes meanwhile is in the next round
            return []
        taken = []
        with self._lock:
            for name, account in list(self._accounts.items()):
                waiting, size_bytes = account.take()
                taken.append(waiting)
                self._waiting -= 1
                self._bytes -= size_bytes
                if not account.waiting:
                    del self._accounts[name]
        return taken

    def not_served(self, refused: RequestRefused) -> None:
        """Count a request that was taken and then not run."""
        with self._lock:
            self._count(refused.code)

    def take_unserved(self) -> dict[str, int]:
        """What was not run since this was last asked, by reason."""
        with self._lock:
            taken, self._unserved = self._unserved, {}
        return taken

    def close(self, reason: str) -> None:
        """Refuse what comes from now on; what waits can still be taken."""
        with self._lock:
            self._closed = self._closed or reason

    def refuse_all(self) -> None:
        """Refuse what still waits in a closed queue."""
        while taken := self.take_round():
            for waiting in taken:
                if waiting.future.set_running_or_notify_cancel():
                    waiting.future.set_exception(NoModel(self._closed))

    def _admit(self, request: Request, size_bytes: int, now_s: float) -> None:
        limits = self._limits
        if self._closed:
            raise NoModel(self._closed)
        if request.deadline_s is not None and request.deadline_s <= now_s:
            raise DeadlinePassed("the request's deadline had passed when it came")
        if self._waiting >= limits.requests:
            raise QueueFull(f"{self._waiting} requests wait, allowed are {limits.requests}; try again later")
        if self._waiting:
            self._see_shares(request, size_bytes)
        if limits.rate_per_s is not None:
            self._spend(request.payer or Payer(request.client), limits.rate_per_s, now_s)

    def _see_shares(self, request: Request, size_bytes: int) -> None:
        """See that a request leaves to others what is theirs."""
        limits = self._limits
        account = self._accounts.get(request.account)
        if account is not None:
            if account.waiting >= self._per_account:
                raise QueueFull(
                    f"{account.waiting} requests of this user or address wait, allowed are "
                    f"{self._per_account} of one; {LATER}"
                )
            own = account.waiting_of(request.client)
            # a client without a payer is an account by itself
            if own >= self._per_client and request.payer is not None:
                raise QueueFull(
                    f"{own} requests of this client wait, allowed are {self._per_client} of one client; "
                    f"{LATER}"
                )
            if account.size_bytes + size_bytes > limits.size_bytes // 2:
                raise QueueFull(
                    f"{account.waiting} requests of this user or address with {account.size_bytes} bytes "
                    f"wait, with {size_bytes} more they are above {limits.size_bytes // 2} bytes; {LATER}"
                )
        # a single one may be larger than all: it was read already, and nothing else waits
        if self._bytes + size_bytes > limits.size_bytes:
            raise QueueFull(
                f"{self._waiting} requests with {self._bytes} bytes wait, "
                f"with {size_bytes} more they are above {limits.size_bytes} bytes; try again later"
            )

    def _spend(self, payer: Payer, rate_per_s: float, now_s: float) -> None:
        """Take a token from the payer's bucket, which fills at its rate."""
        burst = float(self._limits.burst or max(1.0, rate_per_s))
        if payer.name and payer not in self._buckets:
            # whoever calls itself something else each time gets no more than so many rates
            names = sum(
                other.account == payer.account
                and other.name != ""
                and left + (now_s - at_s) * rate_per_s < burst
                for other, (left, at_s) in self._buckets.items()
            )
            payer = payer if names < MAX_NAMES else Payer(payer.account)
        tokens, at_s = self._buckets.pop(payer, (burst, now_s))
        tokens = min(burst, tokens + (now_s - at_s) * rate_per_s)
        allowed = tokens >= 1.0
        self._buckets[payer] = (tokens - 1.0 if allowed else tokens, now_s)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = (1.0 - tokens) / rate_per_s
            raise RateLimited(
                f"more than {rate_per_s:g} requests a second of one client; try again in {wait_s:.3g} s"
            )

    def _count(self, reason: str) -> None:
        self._unserved[reason] = self._unserved.get(reason, 0) + 1
