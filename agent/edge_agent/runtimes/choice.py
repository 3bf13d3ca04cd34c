"""Choosing which artifact runs in which runtime on which device: the first that can.

The order of preference is the manifest's (artifacts, then each artifact's runtimes) and the runtime's
(its devices). Whoever gets less than the first choice is told why: a fallback is reported, never silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_agent.errors import RuntimeUnavailable, RuntimeUnknown
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import Runtime
from edge_contracts.manifest import Manifest

MAX_FALLBACK = 300  # characters, as `messages.ActiveModel.fallback` allows


@dataclass(frozen=True)
class Option:
    """One way to run a bundle.

    Args:
        artifact: Id of the artifact.
        runtime: Name of the runtime.
        device: Name of the runtime's device.
    """

    artifact: str
    runtime: str
    device: str

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.artifact} in {self.runtime} on {self.device}"


@dataclass(frozen=True)
class Choice:
    """The option taken.

    Args:
        fallback: Why it is not the first choice, at most MAX_FALLBACK characters; "" when it is.
        latency_p95_ms: Of single inferences, as the trial measured it; None where there was none.
    """

    option: Option
    fallback: str = ""
    latency_p95_ms: float | None = None


def options(manifest: Manifest, load: Callable[[str], Runtime] = registry.load) -> dict[Option, str]:
    """Every way to run a bundle in order of preference, with what is missing for it ("" for nothing)."""
    found: dict[Option, str] = {}
    for artifact in manifest.artifacts:
        for name in artifact.runtimes:
            try:
                devices = load(name).devices(artifact)
            except RuntimeUnknown as error:
                found[Option(artifact.id, name, "?")] = str(error)
                continue
            for device in devices:
                found[Option(artifact.id, name, device.name)] = device.missing
    return found


def choose(ways: Mapping[Option, str], failed: Mapping[Option, str] | None = None) -> Choice:
    """The first option from which nothing is missing.

    Args:
        ways: From `options`.
        failed: Options that were tried and why they are out, such as a trial that crashed.

    Raises:
        RuntimeUnavailable: There is none; every reason is given.
    """
    out = {option: missing for option, missing in ways.items() if missing} | dict(failed or {})
    for option in ways:
        if option not in out:
            better = [o for o in list(ways)[: list(ways).index(option)] if o in out]
            return Choice(option, _reasons(better, out))
    raise RuntimeUnavailable(f"nothing here can run the bundle: {_reasons(list(ways), out) or 'no artifact'}")


def _reasons(ways: Sequence[Option], out: Mapping[Option, str]) -> str:
    text = "; ".join(f"not {option}: {out[option]}" for option in ways)
    return text if len(text) <= MAX_FALLBACK else text[: MAX_FALLBACK - 3] + "..."
