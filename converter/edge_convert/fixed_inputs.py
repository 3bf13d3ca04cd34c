"""What the user fixes of a source that leaves it open: sizes of its inputs, and values of some of them.

A device runs static shapes. A model exported with open sizes (any picture, any length of sound) gets
them here, by input or by the name that the file gives a size; an input that is the same for ever (a
sampling rate) may be given its value, which leaves no input and no branch on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_convert.errors import SourceInvalid, UnsupportedFeature

ONLY_INPUT = ""  # stands for the name where a model has one input only
# the longest side that is taken: beyond it a size is a slip of the finger, and an allocation
LARGEST_SIZE = 2**24
OPTION = "--input-shape"


@dataclass(frozen=True)
class FixedInputs:
    """Sizes and values by name.

    Args:
        shapes: Whole shapes by input name; ONLY_INPUT for the only one.
        sizes: One size each, by the name that the file gives an open axis.
        values: Elements of inputs that are no inputs any more.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __or__(self, other: FixedInputs) -> FixedInputs:
        """Both together."""
        return FixedInputs(
            {**self.shapes, **other.shapes}, {**self.sizes, **other.sizes}, {**self.values, **other.values}
        )

    def __bool__(self) -> bool:
        """Whether anything is fixed."""
        return bool(self.shapes or self.sizes or self.values)

    def of(self, name: str, stated: Sequence[int | str | None]) -> tuple[int, ...]:
        """The static shape of an input.

        Args:
            stated: As the file has it: sizes, names of open axes, None for an open one without a name.

        Raises:
            UnsupportedFeature: An axis besides the first stays open; the message says which option helps.
            SourceInvalid: What was given contradicts the file.
        """
        wanted = self.shapes.get(name, self.shapes.get(ONLY_INPUT))
        if wanted is None and len(stated) == 1 and name in self.sizes:
            wanted = (self.sizes[name],)
        if wanted is not None:
            return _agreed(name, stated, wanted)
        shape: list[int] = []
        for axis, size in enumerate(stated):
            if isinstance(size, str) and size in self.sizes:
                shape.append(self.sizes[size])
            elif isinstance(size, int):
                shape.append(size)
            elif axis == 0:
                shape.append(1)
            else:
                raise UnsupportedFeature(_open(name, stated, axis))
        if shape and shape[0] > 1:
            raise UnsupportedFeature(
                f"input {name!r} has a fixed batch of {shape[0]}; export the model with batch 1 or a dynamic "
                f"one, or take all of it as one sample: {OPTION} {name}={','.join(map(str, shape))}"
            )
        return tuple(shape)

    def check_used(self, inputs: Sequence[str], open_axes: Iterable[str]) -> None:
        """Refuse names that the model does not have.

        Raises:
            SourceInvalid: One of them, with those that there are.
        """
        if ONLY_INPUT in self.shapes and len(inputs) > 1:
            raise SourceInvalid(
                f"{OPTION} without a name is for models with one input; this one has {', '.join(inputs)}"
            )
        for name in (*self.shapes, *self.values):
            if name and name not in inputs:
                raise SourceInvalid(f"the model has no input {name!r}; it has {', '.join(inputs)}")
        known = sorted(set(open_axes))
        for name in self.sizes:
            if name not in known and name not in inputs:
                there = ", ".join(known) if known else "none with a name"
                raise SourceInvalid(f"the model has no open axis {name!r}; it has {there}")


NOTHING_FIXED = FixedInputs()


def _agreed(name: str, stated: Sequence[int | str | None], wanted: tuple[int, ...]) -> tuple[int, ...]:
    fits = len(wanted) == len(stated) and all(
        not isinstance(size, int) or size == given for size, given in zip(stated, wanted, strict=True)
    )
    if not fits:
        raise SourceInvalid(
            f"{OPTION} gives {','.join(map(str, wanted))} for input {name!r}, which has shape "
            f"{_readable(stated)}"
        )
    return wanted


def _open(name: str, stated: Sequence[int | str | None], axis: int) -> str:
    label = f" ({stated[axis]!r})" if stated[axis] else ""
    example = ",".join(str(s) if isinstance(s, int) else "1" if i == 0 else "N" for i, s in enumerate(stated))
    return (
        f"input {name!r} has shape {_readable(stated)}, dynamic dimension {axis}{label}; "
        f"fix it: {OPTION} {name}={example}"
    )


def _readable(stated: Sequence[int | str | None]) -> str:
    return f"[{', '.join('?' if s is None else str(s) for s in stated)}]"


def parse(shapes: Sequence[str], values: Sequence[str] = ()) -> FixedInputs:
    """Read the options.

    Args:
        shapes: "1,3,224,224", "image=1,3,224,224" (an input), or "height=224" (an open axis).
        values: "sr=16000" or "scale=1,1,0.5".

    Raises:
        ValueError: One of them is not of this form; the text says what was expected.
    """
    whole: dict[str, tuple[int, ...]] = {}
    sizes: dict[str, int] = {}
    for text in shapes:
        name, _, listed = text.rpartition("=")
        numbers = _integers(listed)
        if numbers is None:
            raise ValueError(f"{text!r}: expected 1,3,224,224 or INPUT=1,3,224,224 or AXIS=224")
        if name in whole or name in sizes:
            raise ValueError(f"{text!r}: given twice")
        if name and len(numbers) == 1:
            sizes[name] = numbers[0]
        else:
            whole[name] = numbers
    fixed: dict[str, tuple[float, ...]] = {}
    for text in values:
        name, _, listed = text.rpartition("=")
        try:
            elements = tuple(float(part) for part in listed.split(","))
        except ValueError:
            elements = ()
        if not name or not elements or not all(map(math.isfinite, elements)):
            raise ValueError(f"{text!r}: expected INPUT=NUMBER or INPUT=NUMBER,NUMBER,...")
        fixed[name] = elements
    return FixedInputs(whole, sizes, fixed)


def _integers(listed: str) -> tuple[int, ...] | None:
    parts = listed.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        return None
    numbers = tuple(int(part) for part in parts)
    return numbers if all(1 <= n <= LARGEST_SIZE for n in numbers) else None
