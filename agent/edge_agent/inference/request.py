"""What an application asks of the daemon, and what it gets: a request and its reply.

Whoever takes requests in (HTTP, a Unix socket, MQTT) makes a `Request`; `Engine.submit` turns it into a
future `Reply`. Tensors are the contract's, whatever the artifact inside works with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edge_contracts.manifest import Manifest

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Payer:
    """Whose place in the queue a request takes, and whose rate it is counted at.

    Args:
        account: What the client cannot choose: its user at a Unix socket, its address elsewhere.
        name: What it calls itself; "" for the account as a whole.
    """

    account: str
    name: str = ""


@dataclass(frozen=True)
class Caller:
    """Who is at the other end of a connection.

    Args:
        client: Whose turn it is among those of its account: the process, the address, or the name that it
            gives itself.
    """

    client: str
    payer: Payer

    def calling_itself(self, name: str) -> Caller:
        """The same under a name; "" for none."""
        name = name[:64]
        return Caller(name, Payer(self.payer.account, name)) if name else self


@dataclass(frozen=True, eq=False)
class Request:
    """One question to the model.

    Args:
        inputs: By tensor name (or "x" for the only one), shape (n, ...) in the contract's space. The
            arrays must not change until the reply is there: they are not copied.
        client: Who asks; turns go round the accounts, and within one round its clients.
        deadline_s: By the monotonic clock; not run when that has passed. None never expires.
        origin: What the client calls it, for logs and for the label that may come later (`feedback`).
        routing_key: What decides between two models that share the traffic: the same key, the same model.
            "" for what the request is called, or else for the client's name.
        parameters: What else the client said, by name; nothing here reads it.
        payer: Whose place and rate it is counted at; None for the client's own.
    """

    inputs: Arrays
    client: str = "local"
    deadline_s: float | None = None
    origin: str = ""
    routing_key: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    payer: Payer | None = None

    @property
    def account(self) -> str:
        """Whose it is, whatever its client calls itself."""
        return self.client if self.payer is None else self.payer.account

    @property
    def size_bytes(self) -> int:
        """Memory of its inputs."""
        return sum(values.nbytes for values in self.inputs.values())


@dataclass(frozen=True, eq=False)
class Reply:
    """What exactly one model answered to one request.

    Args:
        outputs: By name, in the contract's space, shape (n, ...).
        latency_ms: Of the whole request in the model, without its time in the queue.
        model, version, bundle: Name, version and manifest digest of the model that answered.
        artifact: The form of it that ran.
        manifest: Of that model, for whoever reads its outputs.
        flagged: Samples that were answered although they look suspicious, by reason.
        uncertain: No model was sure: the answer had better not be used.
        confidence: Of the least certain sample, 0 to 1; None where nothing is known of it.
        path: What was tried, in order, and what each found, such as ("active:unsure", "second:sure").
    """

    outputs: Arrays
    latency_ms: float
    model: str
    version: str
    bundle: str
    artifact: str
    manifest: Manifest
    flagged: Mapping[str, int]
    uncertain: bool = False
    confidence: float | None = None
    path: tuple[str, ...] = ()
