"""Sizes and values that the user gives: read from text, checked against the file, and named when missing."""

from __future__ import annotations

import pytest

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs, parse


def test_options_are_whole_shapes_single_axes_and_values() -> None:
    fixed = parse(["1,3,48,320", "state=2,1,128", "height=224"], ["sr=16000", "gain=1,0.5"])
    assert fixed == FixedInputs(
        {"": (1, 3, 48, 320), "state": (2, 1, 128)}, {"height": 224}, {"sr": (16000.0,), "gain": (1.0, 0.5)}
    )


@pytest.mark.parametrize(
    ("shapes", "values", "words"),
    [
        (["1,3,x"], [], "'1,3,x': expected 1,3,224,224 or INPUT="),
        (["h=0"], [], "expected"),
        (["h=-1"], [], "expected"),
        (["h=99999999999"], [], "expected"),
        (["h=2", "h=3"], [], "'h=3': given twice"),
        ([], ["16000"], "expected INPUT=NUMBER"),
        ([], ["sr=nan"], "expected INPUT=NUMBER"),
        ([], ["sr="], "expected INPUT=NUMBER"),
    ],
)
def test_what_is_not_of_the_form_is_refused(shapes: list[str], values: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(shapes, values)


def test_an_open_batch_is_one_and_other_axes_come_from_the_user() -> None:
    assert NOTHING_FIXED.of("x", ("n", 3, 8)) == (1, 3, 8)
    assert FixedInputs(sizes={"h": 5}).of("x", (None, 3, "h")) == (1, 3, 5)
    assert FixedInputs({"": (1, 3, 7)}).of("x", (None, 3, None)) == (1, 3, 7)
    assert FixedInputs({"x": (2, 1, 7)}).of("x", (2, "n", 7)) == (2, 1, 7)
    assert FixedInputs(sizes={"x": 9}).of("x", (None,)) == (9,)


@pytest.mark.parametrize(
    ("fixed", "stated", "words"),
    [
        (
            NOTHING_FIXED,
            ("n", 3, "h"),
            r"shape \[n, 3, h\], dynamic dimension 2 \('h'\); fix it: --input-shape x=",
        ),
        (NOTHING_FIXED, (4, 3), "fixed batch of 4.*--input-shape x=4,3"),
    ],
)
def test_what_stays_open_names_the_option_that_helps(
    fixed: FixedInputs, stated: tuple[int | str | None, ...], words: str
) -> None:
    with pytest.raises(UnsupportedFeature, match=words):
        fixed.of("x", stated)


@pytest.mark.parametrize("wanted", [(1, 4, 8), (1, 3)])
def test_a_shape_that_contradicts_the_file_is_refused(wanted: tuple[int, ...]) -> None:
    with pytest.raises(SourceInvalid, match=r"for input 'x', which has shape \[n, 3, \?\]"):
        FixedInputs({"x": wanted}).of("x", ("n", 3, None))


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        (FixedInputs({"y": (1,)}), "no input 'y'; it has a, b"),
        (FixedInputs({"": (1,)}), "without a name is for models with one input"),
        (FixedInputs(values={"sr": (1.0,)}), "no input 'sr'"),
        (FixedInputs(sizes={"w": 3}), "no open axis 'w'; it has h"),
    ],
)
def test_names_that_the_model_has_not_are_refused(fixed: FixedInputs, words: str) -> None:
    with pytest.raises(SourceInvalid, match=words):
        fixed.check_used(["a", "b"], ["h"])
