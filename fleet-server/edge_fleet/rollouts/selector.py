"""Which devices a rollout is for: `all`, or terms such as `profile=arm-cpu,site=lab|yard,line!=3`.

Every term must hold. `profile` also matches a profile that the device's own extends; `device` is
its id; `health` is how it does (`Health`); any other key is a label. A device without the
label fails `=` and passes `!=`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from edge_contracts.nearest import meant

ALL = "all"
_TERM = re.compile(r"^([A-Za-z0-9_-]{1,64})(!?=)([^,=!]{1,512})$")


class Health(StrEnum):
    """How a device does, as `select` may ask; the first that is true."""

    FAILING = "failing"  # its last assignment was refused or taken back
    SILENT = "silent"  # never heard, or not for five minutes
    EMPTY = "empty"  # no model runs on it
    DEGRADED = "degraded"  # its model runs in another way than the profile's first
    OK = "ok"


class SelectorInvalid(ValueError):
    """A selector that cannot be read."""


@dataclass(frozen=True)
class Term:
    """One condition: the key has (or, negated, has not) one of the values."""

    key: str
    values: frozenset[str]
    negated: bool

    def holds(self, device: str, profile: Sequence[str], labels: Mapping[str, str], health: str) -> bool:
        """Whether it is true of a device."""
        if self.key == "profile":
            has = not self.values.isdisjoint(profile)
        elif self.key == "health":
            has = health in self.values
        elif self.key == "device":
            has = device in self.values
        else:
            has = labels.get(self.key) in self.values
        return has is not self.negated


@dataclass(frozen=True)
class Selector:
    """A conjunction of terms; none means every device."""

    terms: tuple[Term, ...] = ()

    def matches(
        self, device: str, profile: Sequence[str], labels: Mapping[str, str], health: str = ""
    ) -> bool:
        """Whether a device is meant.

        Args:
            profile: Its lineage, nearest first.
            health: How it does, in one word.
        """
        return all(term.holds(device, profile, labels, health) for term in self.terms)


@lru_cache(maxsize=1024)  # a stage by label is asked for each device
def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        SelectorInvalid: A term that is not KEY=VALUE or KEY!=VALUE, or nothing at all.
    """
    if text.strip() == ALL:
        return Selector()
    terms = []
    for part in text.split(","):
        found = _TERM.match(part.strip())
        if found is None:
            raise SelectorInvalid(
                f"selector term {part.strip()!r} is not KEY=VALUE or KEY!=VALUE; "
                f"several values are joined by '|', every device is {ALL!r}"
            )
        key, operator, values = found.groups()
        alternatives = frozenset(value.strip() for value in values.split("|"))
        if "" in alternatives:
            raise SelectorInvalid(f"selector term {part.strip()!r} has an empty value")
        terms.append(Term(key, alternatives, operator == "!="))
    return Selector(tuple(terms))


def require_known_health(selector: Selector) -> None:
    """Refuse a word that `health` never is: such a term would name nobody, or everybody, without a word.

    Raises:
        SelectorInvalid: There is one.
    """
    for term in selector.terms:
        for word in sorted(term.values - set(Health)) if term.key == "health" else ():
            raise SelectorInvalid(f"no device's health is {word!r}{meant(word, map(str, Health))}")
