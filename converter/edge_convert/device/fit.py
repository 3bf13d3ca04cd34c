"""How a file fits a class of device: one value for every target, for inspect, reports and refusals.

Nothing here runs a model. `judge` puts rows (made by `fit_rows.py` from what was written), sizes and
the profile's limits together; latency is predicted from the profile's throughput and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from edge_contracts.profile import DeviceProfile, Precision


class Place(StrEnum):
    """Where an operator runs."""

    ACCELERATOR = "accelerator"
    CPU = "cpu"
    NOWHERE = "not at all"


@dataclass(frozen=True)
class Row:
    """One operator of a file on one class of device.

    Args:
        operator: "CONV_2D #3", or the float graph's own word and its node.
        rule: One clause that says why it runs there.
        source: The document, issue or check that the rule is from.
        precision: Of what it computes on: "int8", "float32", ...
        parameter_bytes: Its constants as they are stored.
        macs: Multiply-accumulates of one inference.
    """

    operator: str
    place: Place
    rule: str
    source: str
    precision: str = ""
    parameter_bytes: int = 0
    macs: int = 0


@dataclass(frozen=True)
class OnChip:
    """What an accelerator's own memory holds of the parameters.

    Args:
        parameter_bytes: Of the operators that run on it.
        memory_bytes: What it has; a part of that goes to the program itself.
        kept_bytes, streamed_bytes: The two parts of `parameter_bytes`: those that stay on the chip, and
            those that are sent again at every inference.
        subgraphs: Parts of the model that the vendor's compiler makes as it is run here: one, from the start.
        possible_subgraphs: Stretches of operators that could run on it, were it let make several (-a).
    """

    parameter_bytes: int
    memory_bytes: int
    kept_bytes: int
    streamed_bytes: int
    subgraphs: int
    possible_subgraphs: int


@dataclass(frozen=True)
class Fit:
    """How a file fits a profile.

    Args:
        fits: Whether an artifact could be installed and run there, by these figures.
        reasons: Sentences for people, the decisive ones first.
        rows: Every operator, in running order.
        accelerated: Whether the profile has an accelerator.
        activation_bytes: Largest need for activations at one time, as `planner.py` lays them out.
        artifact_bytes: Of the files.
        memory_bytes: Of artifact and activations together.
        blocked: Why a vendor's compiler would refuse the whole file; usually empty.
        on_chip: None without an accelerator that has a memory to plan by.
        rates_from: What the profile says of its figures, the rates among them.
        predicted_ms: By precision, one inference at the profile's sustained rate: a prediction.
    """

    profile: str
    title: str
    fits: bool
    reasons: tuple[str, ...]
    rows: tuple[Row, ...]
    accelerated: bool
    parameters: int
    macs: int
    activation_bytes: int
    artifact_bytes: int
    blocked: tuple[str, ...] = ()
    on_chip: OnChip | None = None
    predicted_ms: Mapping[str, float] | None = None
    rates_from: str = ""

    @property
    def memory_bytes(self) -> int:
        """Artifact and activations together."""
        return self.artifact_bytes + self.activation_bytes

    def share(self, place: Place) -> float:
        """Share of the operators that run somewhere, 0 to 1."""
        return sum(row.place is place for row in self.rows) / len(self.rows) if self.rows else 0.0

    @property
    def best_place(self) -> Place:
        """Where an operator should run there."""
        return Place.ACCELERATOR if self.accelerated else Place.CPU

    def row_fields(self) -> list[dict[str, Any]]:
        """The rows as plain values; `mapped` says whether one runs where it should."""
        return [
            {
                "operator": row.operator,
                "where": row.place.value,
                "mapped": row.place is self.best_place,
                "rule": row.rule,
                "source": row.source,
                "precision": row.precision,
                "parameter_bytes": row.parameter_bytes,
                "macs": row.macs,
            }
            for row in self.rows
        ]

    def summary_fields(self) -> dict[str, Any]:
        """All but the rows, as plain values."""
        return {
            "profile": self.profile,
            "title": self.title,
            "fits": self.fits,
            "reasons": list(self.reasons),
            "operators": len(self.rows),
            "shares": {place.value: self.share(place) for place in Place},
            "parameters": self.parameters,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
            "artifact_bytes": self.artifact_bytes,
            "memory_bytes": self.memory_bytes,
            "on_chip": None if self.on_chip is None else asdict(self.on_chip),
            "predicted_ms": dict(self.predicted_ms or {}),
            "rates_from": self.rates_from,
            "prediction": "multiply-accumulates over the profile's sustained rate; not a measurement",
        }


def judge(
    profile: DeviceProfile,
    rows: Sequence[Row],
    parameters: int,
    activation_bytes: int,
    artifact_bytes: int,
    on_chip: OnChip | None = None,
    reasons: Sequence[str] = (),
    blocked: Sequence[str] = (),
) -> Fit:
    """Put the figures beside the profile's limits.

    Args:
        reasons: What the target has to say besides.
        blocked: Why the whole file is refused; any such sentence means that it does not fit.
    """
    macs = sum(row.macs for row in rows)
    needed = artifact_bytes + activation_bytes
    nowhere = [row for row in rows if row.place is Place.NOWHERE]
    mapped = sum(row.place is Place.ACCELERATOR for row in rows)
    said = [*blocked, *(f"{row.operator} runs nowhere there: {row.rule}" for row in nowhere[:1])]
    fits = not blocked and not nowhere
    if profile.accelerator is not None:
        least = profile.accelerator.min_mapped_share
        share = mapped / len(rows) if rows else 0.0
        said.append(
            f"{mapped} of {len(rows)} operators on the accelerator ({share:.0%}), {least:.0%} asked for"
        )
        fits = fits and share >= least
    said += reasons
    if on_chip is not None:
        said.append(
            f"{on_chip.subgraphs} sub-graph there, as the compiler is run; "
            f"{on_chip.possible_subgraphs} stretches of operators could be"
        )
        said.append(
            f"{on_chip.kept_bytes} of {on_chip.parameter_bytes} bytes of parameters stay on the chip "
            f"({on_chip.memory_bytes} bytes less the program), {on_chip.streamed_bytes} are streamed"
        )
    said.append(f"{artifact_bytes} bytes of artifact, {profile.artifact_bytes} allowed")
    said.append(
        f"{needed} bytes with {activation_bytes} of activations at their peak, {profile.memory_bytes} allowed"
    )
    fits = fits and artifact_bytes <= profile.artifact_bytes and needed <= profile.memory_bytes
    return Fit(
        profile.name,
        profile.title,
        fits,
        tuple(said),
        tuple(rows),
        profile.accelerator is not None,
        parameters,
        macs,
        activation_bytes,
        artifact_bytes,
        tuple(blocked),
        on_chip,
        predicted_ms(macs, profile.macs_per_second),
        profile.source,
    )


def predicted_ms(macs: int, rates: Mapping[Precision, float]) -> dict[str, float]:
    """Milliseconds of one inference at sustained rates, by precision: work over rate and nothing else."""
    return {str(name): 1000 * macs / rate for name, rate in sorted(rates.items()) if rate > 0}
