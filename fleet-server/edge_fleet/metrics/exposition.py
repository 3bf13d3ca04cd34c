"""The text format of Prometheus, version 0.0.4. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Sample:
    """One figure with its labels."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge"]
    said: str
    samples: tuple[Sample, ...]


def one(name: str, kind: Literal["counter", "gauge"], said: str, value: float) -> Family:
    """A metric without labels."""
    return Family(name, kind, said, (Sample(value),))


def by_label(
    name: str, kind: Literal["counter", "gauge"], said: str, label: str, values: Mapping[str, float]
) -> Family:
    """A metric with one label."""
    return Family(
        name, kind, said, tuple(Sample(value, {label: key}) for key, value in sorted(values.items()))
    )


def text(families: Iterable[Family]) -> str:
    """What a scrape gets."""
    lines = []
    for family in families:
        said = family.said.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {family.name} {said}", f"# TYPE {family.name} {family.kind}"]
        lines += [
            f"{family.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in family.samples
        ]
    return "\n".join([*lines, ""])


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
