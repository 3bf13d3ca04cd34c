"""What a person at the device has settled about doubt: who stands beside the active model, what is kept.

Two small documents, replaced as a whole (`write_durably`), that commands write and the daemon reads
again when they change; so they hold over restarts and power cuts, and need no option of `run`.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from msgspec import Meta, field

from edge_agent.device.home import Home, write_durably
from edge_agent.errors import HomeInvalid
from edge_contracts.digest import DIGEST_PATTERN, Digest, short
from edge_contracts.errors import ContractError
from edge_contracts.model import (
    Count,
    Finite,
    Frozen,
    Identifier,
    Positive,
    canonical_json,
    matching,
    parse_json,
)
from edge_contracts.on_disk import sync_folder

log = logging.getLogger(__name__)

REVIEW_FORMAT = "edgefleet.review-settings/1"
LINEUP_FORMAT = "edgefleet.lineup/1"
ORDERED_FORMAT = "edgefleet.ordered-shadow/1"
SHADOW_MEMORY_BYTES = 256 << 20
LAST_GOOD = "last-good"  # the pinned bundle in the other slot, whichever that is now
DigestOrLastGood = Annotated[str, matching(f"^({DIGEST_PATTERN[1:-1]}|{LAST_GOOD})$")]


class ReviewSettings(Frozen):
    """What is kept for review, and whether any of it may leave.

    Args:
        keep: Whether uncertain inputs are kept at all.
        max_bytes, max_count: Bounds of the ring.
        per_minute: At most so many are kept, so that a bad hour does not wear the flash out.
        upload_to: https address that kept inputs may be sent to; "" for nowhere.
        upload_ca: PEM of the CA that its certificate must come from; "" for the fleet's where it is the
            fleet's server, else for the system's.
        bytes_per_day: Data budget of uploads.
    """

    format: Literal["edgefleet.review-settings/1"] = "edgefleet.review-settings/1"
    keep: bool = True
    max_bytes: Count = 32 << 20
    max_count: Annotated[int, Meta(ge=0, le=100_000)] = 500
    per_minute: Annotated[int, Meta(ge=0, le=600)] = 6
    upload_to: Annotated[str, Meta(max_length=500)] = ""
    upload_ca: str = ""
    bytes_per_day: Count = 1 << 20

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.upload_to and not may_receive(self.upload_to):
            raise ValueError("inputs leave over https only (http to this machine itself)")


class ExperimentSettings(Frozen):
    """An A/B experiment: a bundle beside the active one."""

    name: Identifier
    bundle: Digest
    per_mille: Annotated[int, Meta(ge=0, le=1000)]


class ShadowSettings(Frozen):
    """A candidate on a share of the inputs, and what it may cost.

    Args:
        cpu_share: Of one core, over time.
        memory_bytes: Resident memory of its process, runtime included.
        latency_ms: One inference may take so long; above, it is stopped.
    """

    bundle: Digest
    per_mille: Annotated[int, Meta(ge=0, le=1000)] = 100
    cpu_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    memory_bytes: Annotated[int, Meta(gt=0)] = SHADOW_MEMORY_BYTES
    latency_ms: Positive = 2000


class ChoiceSettings(Frozen):
    """How to run a bundle, as its trial settled on."""

    artifact: str
    runtime: str
    device: str
    fallback: str = ""
    latency_p95_ms: Finite | None = None


class LineupSettings(Frozen):
    """Who stands beside the active model.

    Args:
        second: Digest, or "last-good" for the pinned bundle in the other slot, whichever that is now.
        choices: How to run each bundle, by digest.
    """

    format: Literal["edgefleet.lineup/1"] = "edgefleet.lineup/1"
    second: DigestOrLastGood | None = None
    experiment: ExperimentSettings | None = None
    shadow: ShadowSettings | None = None
    choices: Mapping[Digest, ChoiceSettings] = field(default_factory=dict)

    @property
    def bundles(self) -> frozenset[str]:
        """Digests of the bundles that are installed for it."""
        named = (
            self.second if self.second != LAST_GOOD else None,
            self.experiment.bundle if self.experiment else None,
            self.shadow.bundle if self.shadow else None,
        )
        return frozenset(digest for digest in named if digest is not None)


class OrderedShadow(Frozen):
    """A shadow that the server has assigned; `ordered.py` says how long it stands.

    Args:
        assignment: Its number.
        choice: How to run it, as its trial settled on.
    """

    format: Literal["edgefleet.ordered-shadow/1"] = "edgefleet.ordered-shadow/1"
    assignment: Count
    shadow: ShadowSettings
    choice: ChoiceSettings


def may_receive(address: str) -> bool:
    """Whether inputs may leave to an address: over https, or to this machine itself."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    local = parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")
    return local or (parts.scheme == "https" and bool(host))


S = TypeVar("S", ReviewSettings, LineupSettings)


def review_path(home: Home) -> Path:
    """The document about reviews."""
    return home.folder / "review.json"


def lineup_path(home: Home) -> Path:
    """The document about the lineup."""
    return home.folder / "lineup.json"


def read_review(home: Home) -> ReviewSettings:
    """As stored, or as it is without a document; raises HomeInvalid for a damaged one."""
    return _read(ReviewSettings, review_path(home), REVIEW_FORMAT)


def read_lineup(home: Home) -> LineupSettings:
    """As stored, or nobody; raises HomeInvalid for a damaged document."""
    return _read(LineupSettings, lineup_path(home), LINEUP_FORMAT)


def store_review(home: Home, settings: ReviewSettings) -> None:
    """Replace the document; raises HomeInvalid when the disk does not take it."""
    home.make()
    write_durably(review_path(home), canonical_json(settings))


def store_lineup(home: Home, settings: LineupSettings) -> None:
    """Replace the document; raises HomeInvalid when the disk does not take it."""
    home.make()
    write_durably(lineup_path(home), canonical_json(settings))


def ordered_path(home: Home) -> Path:
    """The document about the assigned shadow."""
    return home.folder / "shadow.json"


def read_ordered(home: Home) -> OrderedShadow | None:
    """The assigned shadow; None without one, and for a damaged document: nobody is there to mend it."""
    path = ordered_path(home)
    try:
        return parse_json(OrderedShadow, path.read_bytes(), str(path), ORDERED_FORMAT)
    except FileNotFoundError:
        return None
    except (OSError, ContractError) as error:
        log.error("assigned shadow cannot be read", extra={"reason": str(error)})
        return None


def store_ordered(home: Home, ordered: OrderedShadow) -> None:
    """Replace the document; raises HomeInvalid when the disk does not take it."""
    write_durably(ordered_path(home), canonical_json(ordered))


def drop_ordered(home: Home) -> None:
    """Remove the document, for good; raises OSError when the disk does not take it."""
    ordered_path(home).unlink(missing_ok=True)
    sync_folder(home.folder)


@contextmanager
def alone(home: Home, wait: bool = True) -> Iterator[None]:
    """Only one changes the documents at a time, a command or the daemon.

    Raises:
        HomeInvalid: The home cannot be written.
        BlockingIOError: Another is at work, and waiting was not asked for.
    """
    try:
        handle = os.open(home.folder / "lineup.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeInvalid(f"cannot write {home.folder}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def described(found: LineupSettings) -> list[str]:
    """A line for each member, as a person reads it."""
    lines = []
    if found.second is not None:
        lines.append(f"second      {_named(found.second)}, asked when the active model is unsure or fails")
    if found.experiment is not None:
        one = found.experiment
        share = f"{one.per_mille / 10:g} % of the keys"
        lines.append(f"experiment  {one.name}: {_named(one.bundle)} answers {share}")
    if found.shadow is not None:
        lines.append(f"shadow      {_shadowing(found.shadow)}")
    return lines


def described_in(home: Home) -> list[str]:
    """The same of a device; a document that cannot be read is one line that says so."""
    ordered = read_ordered(home)
    lines = [] if ordered is None else [f"assigned    shadow {_shadowing(ordered.shadow)}"]
    try:
        return lines + described(read_lineup(home))
    except HomeInvalid as error:
        return [*lines, str(error)]


def stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a document is replaced; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(kind: type[S], path: Path, format_name: str) -> S:
    try:
        return parse_json(kind, path.read_bytes(), str(path), format_name)
    except FileNotFoundError:
        return kind()
    except OSError as error:
        raise HomeInvalid(f"cannot read {path}: {error.strerror}") from None
    except ContractError as error:
        raise HomeInvalid(f"{error}; remove the file to begin anew") from None


def _shadowing(shadow: ShadowSettings) -> str:
    return (
        f"{_named(shadow.bundle)} sees {shadow.per_mille / 10:g} % of the inputs, at "
        f"{shadow.cpu_share:.0%} of a core, {shadow.memory_bytes >> 20} MB, {shadow.latency_ms:g} ms"
    )


def _named(digest: str) -> str:
    return "the last good bundle" if digest == LAST_GOOD else short(digest)
