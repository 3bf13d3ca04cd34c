"""Several samples at once: the same answers bit for bit, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, build, reference
from numpy.typing import NDArray

from edge_agent.errors import InferenceFailed, ModelInvalid
from edge_agent.inference.session import Session
from edge_agent.inference.wide import WIDE, Codes, WideForm
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import OpenModel, Tensors, TensorShape
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import Artifact

ALWAYS, NEVER = 1e9, 0.0
X = np.random.default_rng(4).uniform(-2, 2, (2 * WIDE + 3, 4)).astype(np.float32)


class Counted:
    """A real open model that counts, and whose wide form can be made to lie or to fail."""

    def __init__(self, model: Any, spoil: Callable[[Tensors], Tensors] | None = None) -> None:
        self.model, self.spoil, self.runs, self.closed = model, spoil, 0, False
        self.wide: list[Counted] = []

    @property
    def inputs(self) -> Mapping[str, TensorShape]:
        found: Mapping[str, TensorShape] = self.model.inputs
        return found

    @property
    def outputs(self) -> Mapping[str, TensorShape]:
        found: Mapping[str, TensorShape] = self.model.outputs
        return found

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        self.runs += 1
        found: Tensors = self.model.run(inputs)
        return self.spoil(found) if self.spoil is not None and self.is_wide else found

    @property
    def is_wide(self) -> bool:
        return bool(next(iter(self.model.inputs.values())).shape[0] == WIDE)

    def close(self) -> None:
        self.closed = True
        self.model.close()

    def widened(self, samples: int) -> OpenModel:
        self.wide.append(Counted(self.model.widened(samples), self.spoil))
        return self.wide[-1]


@pytest.fixture(params=["litert", "openvino"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Artifact]:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    bundle = open_bundle(build("float32"))
    bundle.extract(tmp_path / "b")
    artifact = bundle.manifest.artifacts[0]
    return registry.load(request.param).open(tmp_path / "b", artifact, "CPU"), artifact


def codes(artifact: Artifact, x: NDArray[Any] = X) -> Codes:
    (binding,) = artifact.inputs
    return [(binding.tensor, x.reshape(-1, 1, 4))]


def asked(form: WideForm, artifact: Artifact, x: NDArray[Any] = X) -> list[bytes]:
    rows, seconds = form.run(codes(artifact, x), len(x))
    assert len(rows) == len(seconds) == len(x)
    assert (seconds > 0).all()
    assert {one.shape for row in rows for one in row.values()} == {(1, 3)}
    return [b"".join(one.tobytes() for one in row.values()) for row in rows]


def test_what_is_answered_at_once_is_what_is_answered_one_by_one(opened: tuple[Any, Artifact]) -> None:
    model, artifact = opened
    alone = asked(WideForm(model), artifact)
    counted = Counted(model)
    form = WideForm(counted, lambda: codes(artifact, GOLDEN_X), ALWAYS)
    assert asked(form, artifact) == alone
    (wide,) = counted.wide
    counted.runs = wide.runs = 0
    assert asked(form, artifact) == alone
    assert (wide.runs, counted.runs) == (2, 3), "two times eight, and three that are left"
    form.close()
    assert wide.closed
    assert asked(form, artifact) == alone, "one by one again"
    assert len(counted.wide) == 1, "it is tried once"


def test_fewer_samples_open_nothing(opened: tuple[Any, Artifact]) -> None:
    model, artifact = opened
    counted = Counted(model)
    form = WideForm(counted, lambda: codes(artifact, GOLDEN_X), ALWAYS)
    for count in (1, 2, WIDE - 1):
        asked(form, artifact, X[:count])
    assert not counted.wide


def swapped(found: Tensors) -> Tensors:
    return {name: values[::-1].copy() for name, values in found.items()}


def off_by_one_bit(found: Tensors) -> Tensors:
    for values in found.values():
        values.view(np.uint8).reshape(-1)[-4] ^= 1
    return found


@pytest.mark.parametrize("spoil", [swapped, off_by_one_bit])
def test_a_wide_form_that_answers_golden_inputs_otherwise_is_not_used(
    opened: tuple[Any, Artifact], spoil: Callable[[Tensors], Tensors]
) -> None:
    model, artifact = opened
    alone = asked(WideForm(model), artifact)
    counted = Counted(model, spoil)
    form = WideForm(counted, lambda: codes(artifact, GOLDEN_X), ALWAYS)
    assert asked(form, artifact) == alone
    (wide,) = counted.wide
    assert wide.closed


def test_a_wide_form_that_is_not_faster_is_not_used(opened: tuple[Any, Artifact]) -> None:
    model, artifact = opened
    counted = Counted(model)
    form = WideForm(counted, lambda: codes(artifact, GOLDEN_X), NEVER)
    asked(form, artifact)
    (wide,) = counted.wide
    assert wide.closed
    counted.runs = 0
    asked(form, artifact)
    assert counted.runs == len(X)


def test_a_file_that_cannot_be_resized_is_run_one_by_one(opened: tuple[Any, Artifact]) -> None:
    model, artifact = opened

    class Fixed(Counted):
        def widened(self, samples: int) -> OpenModel:
            raise ModelInvalid("a reshape to one sample")

    counted = Fixed(model)
    form = WideForm(counted, lambda: codes(artifact, GOLDEN_X), ALWAYS)
    assert asked(form, artifact) == asked(WideForm(model), artifact)


def test_a_wide_form_that_fails_later_costs_no_answer(opened: tuple[Any, Artifact]) -> None:
    model, artifact = opened
    left = [True] * 7  # the proof runs it six times, then one batch is answered

    def fails(found: Tensors) -> Tensors:
        if not left:
            raise InferenceFailed("out of memory")
        left.pop()
        return found

    counted = Counted(model, fails)
    form = WideForm(counted, lambda: codes(artifact, GOLDEN_X), ALWAYS)
    alone = asked(WideForm(model), artifact)
    assert asked(form, artifact) == alone
    assert counted.wide[0].closed
    assert asked(form, artifact) == alone


def test_a_session_answers_a_large_batch_as_it_answers_sample_by_sample(tmp_path: Path) -> None:
    bundle = open_bundle(build("int8"))
    bundle.extract(tmp_path / "b")
    session = Session.open(tmp_path / "b", bundle.manifest)
    session._several = WideForm(session._model, lambda: session._golden(tmp_path / "b"), ALWAYS)
    found = session.infer({"x": X})
    assert session._several._wide is not None
    alone = session.infer_apart({"x": X})
    assert found.outputs["scores"].tobytes() == alone.outputs["scores"].tobytes()
    assert np.allclose(found.outputs["scores"], reference(X), atol=0.05)
    assert (found.latency_ms > 0).all()
    session.close()
