"""What adds up over devices, kept up to date device by device.

Everything that a gate asks of a group of devices is a sum over these: counts, logarithms of wealth, terms
of a variance. So a device that has reported more changes a sum by what it comes to now, less what it came
to before, and nobody else need be looked at again. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

Laid = TypeVar("Laid")
Laid_co = TypeVar("Laid_co", covariant=True)
Part = TypeVar("Part")
T = TypeVar("T")

# Numbers, or arrays of one shape under each name; what is not there is zero.
Numbers: TypeAlias = Mapping[Any, Any]

CHUNK = 4096  # devices laid out at once: what is laid out of all of them would not fit into memory


class Sums(Protocol[Laid_co]):
    """What some devices add up to."""

    def sum(self, key: Hashable, work: Callable[[Laid_co], Numbers]) -> Numbers:
        """The sum of a work over all devices.

        Args:
            key: Tells this work from every other, whatever it depends on besides the devices included.
            work: Gives for some devices what it gives for each of them, added up.
        """

    def pick(self, key: Hashable, work: Callable[[Laid_co], Mapping[str, T]]) -> Mapping[str, T]:
        """As `sum`, of single devices that are worth a name."""

    def all(self) -> Laid_co:
        """Everything laid out, at the cost of that."""


@dataclass(frozen=True)
class Whole(Generic[Laid]):
    """Of devices that are laid out already."""

    laid: Laid

    def sum(self, key: Hashable, work: Callable[[Laid], Numbers]) -> Numbers:
        """See `Sums`."""
        return work(self.laid)

    def pick(self, key: Hashable, work: Callable[[Laid], Mapping[str, T]]) -> Mapping[str, T]:
        """See `Sums`."""
        return work(self.laid)

    def all(self) -> Laid:
        """See `Sums`."""
        return self.laid


@dataclass(frozen=True)
class Seen(Generic[Laid]):
    """The same devices, seen in another way.

    Args:
        name: Of that way.
    """

    of: Sums[Laid]
    name: str
    view: Callable[[Laid], Laid]

    def sum(self, key: Hashable, work: Callable[[Laid], Numbers]) -> Numbers:
        """See `Sums`."""
        return self.of.sum((self.name, key), lambda laid: work(self.view(laid)))

    def pick(self, key: Hashable, work: Callable[[Laid], Mapping[str, T]]) -> Mapping[str, T]:
        """See `Sums`."""
        return self.of.pick((self.name, key), lambda laid: work(self.view(laid)))

    def all(self) -> Laid:
        """See `Sums`."""
        return self.view(self.of.all())


@dataclass
class _Kept:
    """A result, and up to which change it is right."""

    result: Any
    revision: int
    asked: int
    applied: int = 0


class Growing(Generic[Part, Laid]):
    """Sums over devices that change one by one.

    Args:
        lay: Lays some devices' parts out.
    """

    def __init__(self, lay: Callable[[Mapping[str, Part]], Laid]) -> None:
        """Start without devices."""
        self._lay = lay
        self.parts: dict[str, Part] = {}
        self._changes: list[tuple[str, Part | None]] = []  # device, and what it was
        self._first = 0  # revision of the first of them
        self._kept: dict[Hashable, _Kept] = {}
        self._looks = 0
        self._news: tuple[int, int, Laid, Laid] | None = None

    def put(self, device: str, part: Part | None) -> None:
        """Set what a device contributes; None: nothing any more."""
        before = self.parts.pop(device, None)
        if part is not None:
            self.parts[device] = part
        if before is not part:
            self._changes.append((device, before))

    def look(self) -> None:
        """Begin a look: what nobody asked in the last one is forgotten."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept.asked == self._looks}
        self._looks += 1
        oldest = min((kept.revision for kept in self._kept.values()), default=self._revision)
        del self._changes[: oldest - self._first]
        self._first, self._news = oldest, None

    def sum(self, key: Hashable, work: Callable[[Laid], Numbers]) -> Numbers:
        """See `Sums`. Rounding errors do not add up: after as many changes as devices it is summed anew."""

        def anew() -> dict[Hashable, Any]:
            total: dict[Hashable, Any] = {}
            for laid in self._chunks():
                _add(total, work(laid), 1)
            return total

        def again(total: dict[Hashable, Any], _devices: Iterable[str], before: Laid, after: Laid) -> None:
            _add(total, work(before), -1)
            _add(total, work(after), 1)

        found: dict[Hashable, Any] = self._up_to_date(("sum", key), anew, again)
        return found

    def pick(self, key: Hashable, work: Callable[[Laid], Mapping[str, T]]) -> Mapping[str, T]:
        """See `Sums`."""

        def anew() -> dict[str, T]:
            return {device: value for laid in self._chunks() for device, value in work(laid).items()}

        def again(picked: dict[str, T], devices: Iterable[str], _before: Laid, after: Laid) -> None:
            for device in devices:
                picked.pop(device, None)
            picked.update(work(after))

        found: dict[str, T] = self._up_to_date(("pick", key), anew, again)
        return found

    def all(self) -> Laid:
        """See `Sums`."""
        return self._lay(self.parts)

    @property
    def _revision(self) -> int:
        return self._first + len(self._changes)

    def _up_to_date(
        self, key: Hashable, anew: Callable[[], Any], again: Callable[[Any, Iterable[str], Laid, Laid], None]
    ) -> Any:
        kept = self._kept.get(key)
        if kept is not None:
            behind = self._revision - kept.revision
            if kept.applied + behind > len(self.parts):
                kept = None
        if kept is None:
            kept = self._kept[key] = _Kept(anew(), self._revision, self._looks)
        elif behind:
            devices, before, after = self._since(kept.revision)
            again(kept.result, devices, before, after)
            kept.applied += behind
            kept.revision = self._revision
        kept.asked = self._looks
        return kept.result

    def _since(self, revision: int) -> tuple[Iterable[str], Laid, Laid]:
        """The devices that changed since, as they were and as they are."""
        were: dict[str, Part | None] = {}
        for device, before in self._changes[revision - self._first :]:
            were.setdefault(device, before)
        if self._news is None or self._news[:2] != (revision, self._revision):
            before_ = {device: part for device, part in were.items() if part is not None}
            after = {device: self.parts[device] for device in were if device in self.parts}
            self._news = revision, self._revision, self._lay(before_), self._lay(after)
        return were, self._news[2], self._news[3]

    def _chunks(self) -> Iterable[Laid]:
        names = list(self.parts)
        for start in range(0, max(1, len(names)), CHUNK):
            yield self._lay({name: self.parts[name] for name in names[start : start + CHUNK]})


def _add(total: dict[Hashable, Any], more: Numbers, sign: int) -> None:
    for name, value in more.items():
        total[name] = total[name] + sign * value if name in total else sign * value
