"""Recipes: how to compress a model, one TOML file each in `recipes/`.

Listing the folder is the registration. A recipe's name can be decoded, and a file whose name says
something else than its content is refused:

    w<weights>[m][_a<activations>_<range rule>][_eq][_bc | _lsr]
    wi8_ai8_p9999_bc   int8 weights and activations, ranges at the 99.99th percentile, biases corrected
    wi8m_ai8_mse       int8 with weight scales, too, by least squared error
    wi8_ai8_minmax_lsr weights rounded by least squares of their layer's results, biases corrected
    wi8_ai8_mse_eq_lsr channels scaled to fill their tensor's range first
    wf16               float16 weights, float activations

What the words do is `quantize.py`'s matter.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Annotated, Any, Literal

from msgspec import Meta

from edge_contracts.digest import digest_of
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.model import Finite, Frozen, Identifier, canonical_json
from edge_contracts.nearest import meant
from edge_contracts.profile import Precision
from edge_convert.errors import RecipeInvalid

FORMAT = "edgefleet.recipe/1"


class ActivationRule(Frozen):
    """How the range of an int8 activation is chosen from its true statistics.

    Args:
        range: "minmax" takes every value in; "percentile" leaves out the same share at either end;
            "mse" minimises the expected squared error of rounding and clipping together.
        percentile: Share of the values below the upper end, percent; for "percentile" only.
    """

    range: Literal["minmax", "percentile", "mse"]
    percentile: Annotated[float, Meta(gt=50, lt=100)] | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.percentile is None) == (self.range == "percentile"):
            raise ValueError("percentile must be stated for range 'percentile' and for no other")

    @property
    def word(self) -> str:
        """How a recipe's name says it."""
        if self.percentile is None:
            return self.range
        return "p" + f"{self.percentile:f}".rstrip("0").replace(".", "")


class WeightRule(Frozen):
    """How the symmetric scale of int8 weights is chosen.

    Args:
        range: "absmax" lands the largest weight on the last code; "mse" may saturate a few weights
            for finer steps.
        rounding: "nearest" code, or "least_squares" of the layer's results on calibration samples.
    """

    range: Literal["absmax", "mse"] = "absmax"
    rounding: Literal["nearest", "least_squares"] = "nearest"


class Recipe(Frozen):
    """One way to compress.

    Args:
        precision: Of the artifact it makes; a profile lists which it can run.
        activations: For int8 only.
        equalize: Whether channels are scaled to fill their tensor's range before it is quantized.
        bias_correction: Whether biases take up the mean error of their node's outputs.
        min_sqnr_db: What it must reach on the fixture model of the tests, decibels.
    """

    format: Literal["edgefleet.recipe/1"]
    name: Identifier
    title: str
    precision: Precision
    weights: WeightRule = WeightRule()
    activations: ActivationRule | None = None
    equalize: bool = False
    bias_correction: bool = False
    min_sqnr_db: Finite

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.activations is not None) != (self.precision == "int8"):
            raise ValueError("activations must be stated for precision 'int8' and for no other")
        if self.precision != "int8" and (
            self.equalize or self.bias_correction or self.weights != WeightRule()
        ):
            raise ValueError("equalize, bias_correction and a weight rule are for precision 'int8' only")
        if self.weights.rounding != "nearest" and not self.bias_correction:
            raise ValueError("rounding by least squares leaves the means to bias_correction, which is off")
        if self.name != self.decodable_name:
            raise ValueError(f"a recipe with this content is named {self.decodable_name!r}")

    @property
    def decodable_name(self) -> str:
        """The name that its content spells."""
        if self.activations is None:
            return {"float16": "wf16", "float32": "wf32"}[self.precision]
        weights = "wi8m" if self.weights.range == "mse" else "wi8"
        ending = "_bc" if self.bias_correction else ""
        if self.weights.rounding == "least_squares":
            ending = "_lsr"
        return f"{weights}_ai8_{self.activations.word}{'_eq' * self.equalize}{ending}"

    @property
    def digest(self) -> str:
        """Digest of its content, for the provenance; comments do not count."""
        return digest_of(canonical_json(self))


def names() -> list[str]:
    """Names of all recipes, sorted."""
    folder = resources.files("edge_convert") / "recipes"
    return sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """Read a recipe by name.

    Raises:
        RecipeInvalid: No such recipe (the nearest name is given), or its file has a fault.
    """
    known = names()
    if name not in known:
        raise RecipeInvalid(f"no recipe {name!r}{meant(name, known)}")
    content = (resources.files("edge_convert") / "recipes" / f"{name}.toml").read_bytes()
    return parse(content, f"recipe {name}")


def parse(content: bytes, what: str) -> Recipe:
    """Turn a file into a recipe, or refuse on one line.

    Raises:
        RecipeInvalid: Not TOML, another format version, an unknown key (the nearest right one is
            named), a missing or wrong value, or a name that says something else.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeInvalid(f"{what} is not TOML: {error}") from None
    if raw.get("format") != FORMAT:
        raise RecipeInvalid(f"{what} has format {raw.get('format')!r}, expected {FORMAT!r}")
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        known = [*Recipe.model_fields, *ActivationRule.model_fields, *WeightRule.model_fields]
        raise RecipeInvalid(f"{what}: {first_fault(error, known)}") from None
