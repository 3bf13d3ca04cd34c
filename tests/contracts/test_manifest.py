"""What a manifest says must go together: each rule broken once."""

from __future__ import annotations

from typing import Any

import pytest
import samples

from edge_contracts.errors import FormatInvalid


def artifact(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = samples.manifest_fields()["artifacts"][0]
    return made | changes


def bound(kind: str, **changes: Any) -> dict[str, Any]:
    """The artifact with one binding changed."""
    return artifact(**{kind: [artifact()[kind][0] | changes]})


def test_an_artifact_is_found_by_its_id_and_no_other_is() -> None:
    made = samples.manifest()
    assert made.artifact("float32") is made.artifacts[0]
    with pytest.raises(KeyError, match="int8"):
        made.artifact("int8")


def test_axes_in_another_order_are_a_permutation() -> None:
    made = samples.manifest(artifacts=[bound("inputs", perm=[1, 0])])
    assert made.artifacts[0].inputs[0].perm == (1, 0)


@pytest.mark.parametrize(
    ("artifacts", "message"),
    [
        ([artifact(), artifact()], "two artifacts have the same id"),
        ([artifact(), artifact(id="int8")], "two files have the same path"),
        ([bound("inputs", name="q")], "artifact float32 does not bind the inputs of the contract in order"),
        ([bound("outputs", name="x")], "artifact float32 does not bind the outputs of the contract in order"),
        ([artifact(inputs=artifact()["inputs"] * 2)], "does not bind the inputs"),
        ([bound("inputs", perm=[0, 0])], "artifact float32: perm of 'x' is not a permutation"),
        ([bound("outputs", perm=[0, 1, 2])], "artifact float32: perm of 'y' is not a permutation"),
    ],
)
def test_artifacts_that_do_not_belong_together_are_refused(
    artifacts: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(FormatInvalid, match=message):
        samples.manifest(artifacts=artifacts)
