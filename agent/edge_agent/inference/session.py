"""A session: one bundle open for inference, in the contract's own space.

It checks inputs, binds them to the artifact's tensors, runs the model sample by sample and binds the
answers back. Whether the bundle may be run at all is decided before (signature, trial); what is
counted of its answers is `windows.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edge_agent.errors import ModelInvalid
from edge_agent.guard.isolated import IsolatedModel, Patience
from edge_agent.inference.binding import InputBinder, OutputBinder, artifact_shape, contract_shape
from edge_agent.inference.contract import Checked, ContractCheck
from edge_agent.inference.straight import Straight
from edge_agent.inference.wide import Codes, WideForm
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import CPU, OpenModel, TensorShape
from edge_agent.runtimes.choice import Choice, choose, options
from edge_contracts.features import Moments, is_large, row_moments
from edge_contracts.manifest import Artifact, Binding, Manifest, TensorSpec


class Answer(Struct, frozen=True, eq=False):
    """What a batch was answered; a Struct, since a frozen dataclass takes a microsecond to make.

    Args:
        inputs: As they were checked, by name, in the contract's dtypes, shape (n, ...).
        outputs: By name, in the contract's space, shape (n, ...).
        took_ms: Of each sample; checking and binding are in it, shared out evenly.
        flagged: Samples that were answered although they look suspicious, by reason ("out-of-range").
        moments: Mean and standard deviation of the sample, by large input, where they were worked out
            while the processor's cache still had it (`Session.monitor`); None where they are left out.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    took_ms: Sequence[float]
    flagged: Mapping[str, int]
    moments: Mapping[str, Moments] | None = {}

    @property
    def latency_ms(self) -> NDArray[np.float64]:
        """`took_ms` as an array, shape (n,)."""
        return np.array(self.took_ms, np.float64)

    @property
    def samples(self) -> int:
        """Size of the batch."""
        return len(self.took_ms)


class Session:
    """One bundle open in one runtime. Not for use by two threads at once.

    Args:
        manifest: Of the bundle.
        choice: Which artifact runs where, and why it is not the first choice.
        runtime: Name, version and device, such as "litert 2.3.0 CPU".
    """

    def __init__(self, manifest: Manifest, choice: Choice, runtime: str, model: OpenModel) -> None:
        """Work out once what every inference needs; `Session.open` is how to get one."""
        self.manifest = manifest
        self.choice = choice
        self.runtime = runtime
        self.artifact = manifest.artifact(choice.option.artifact)
        _check_binding(manifest, self.artifact, model)
        self._model = model
        self._several = self._apart = WideForm(model)
        self._check = ContractCheck(manifest.inputs)
        self._monitored: tuple[str, ...] = ()
        self._is_wanted: Callable[[], bool] = bool
        self._binders = [
            (spec.name, b.tensor, InputBinder(spec, b))
            for spec, b in zip(manifest.inputs, self.artifact.inputs, strict=True)
        ]
        self._unbinders = [
            (spec.name, b.tensor, OutputBinder(spec, b))
            for spec, b in zip(manifest.outputs, self.artifact.outputs, strict=True)
        ]
        self._straight: Straight | None = None
        if len(self._binders) == 1:
            _, tensor, binder = self._binders[0]
            self._straight = Straight.of(manifest.inputs[0], tensor, binder)

    @staticmethod
    def open(
        folder: Path,
        manifest: Manifest,
        choice: Choice | None = None,
        threads: int = 1,
        isolate: bool | None = None,
    ) -> Session:
        """Open an extracted bundle.

        Args:
            folder: What `Bundle.extract` wrote, its digests checked (`open_folder`).
            manifest: Of a VerifiedManifest wherever the model is installed.
            choice: What a trial settled on; None chooses the first option that is here.
            isolate: Whether the runtime lives in a child process; None for all but a plain CPU's.

        Raises:
            RuntimeUnavailable: Nothing here can run it.
            ModelInvalid: The artifact is not what the manifest says.
            ChildFailed: The child process died, or did not open it in time.
        """
        choice = choice or choose(options(manifest))
        option = choice.option
        runtime = registry.load(option.runtime)
        model: OpenModel
        if option.device != CPU if isolate is None else isolate:
            patience = Patience.of(choice.latency_p95_ms, manifest.gates.latency_p95_ms)
            model = IsolatedModel(folder, manifest.artifact(option.artifact), option, threads, patience)
        else:
            model = runtime.open(folder, manifest.artifact(option.artifact), option.device, threads)
        try:
            session = Session(
                manifest, choice, f"{option.runtime} {runtime.version()} {option.device}", model
            )
            session._several = WideForm(model, lambda: session._golden(folder))
            return session
        except ModelInvalid:
            model.close()
            raise

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Answer:
        """Answer a batch.

        Args:
            inputs: By tensor name (or "x" for the only one), shape (n, ...) in the contract's space.

        Raises:
            InputRefused: The contract does not allow an input; nothing of the batch was answered.
            InferenceFailed: The runtime reported an error.
        """
        start = perf_counter()
        straight = self._straight
        if straight is not None and len(inputs) == 1 and straight.name in inputs:
            values = inputs[straight.name]
            ready = straight(values)
            if ready is not None:
                row = self._model.run(ready[0])
                outputs = {}
                for name, tensor, unbinder in self._unbinders:
                    outputs[name] = unbinder.row(row[tensor])
                took_ms = (perf_counter() - start) * 1e3
                return Answer({straight.name: values}, outputs, (took_ms,), {}, ready[1])
        checked = self._check.look(inputs)
        count = checked.samples
        if count == 1:  # by far the commonest: nothing to stack, nothing to share out
            codes = {}
            for name, tensor, binder in self._binders:
                codes[tensor] = binder.row(checked.inputs[name], checked.ends[name])
            moments: dict[str, Moments] | None = {}
            if self._monitored:
                moments = self._moments(checked) if self._is_wanted() else None
            row = self._model.run(codes)
            outputs = {}
            for name, tensor, unbinder in self._unbinders:
                outputs[name] = unbinder.row(row[tensor])
            took_ms = (perf_counter() - start) * 1e3
            return Answer(checked.inputs, outputs, (took_ms,), checked.flagged, moments)
        bound = [(tensor, bind(checked.inputs[name])) for name, tensor, bind in self._binders]
        rows, seconds = self._several.run(bound, count)
        outputs = {
            name: unbind(np.stack([row[tensor] for row in rows])) for name, tensor, unbind in self._unbinders
        }
        seconds += (perf_counter() - start - seconds.sum()) / count
        return Answer(checked.inputs, outputs, (seconds * 1e3).tolist(), checked.flagged)

    def monitor(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Work out the moments of large inputs with single samples: somebody counts them.

        Args:
            is_wanted: Asked at each; False leaves it out.
        """
        self._is_wanted = is_wanted
        self._monitored = tuple(spec.name for spec in self.manifest.inputs if is_large(spec.shape))
        if self._straight is not None:
            self._straight.monitor(is_wanted)

    def _moments(self, checked: Checked) -> dict[str, Moments]:
        """Of a single sample's large inputs."""
        found = {}
        for name in self._monitored:
            low, high = checked.ends[name]
            found[name] = row_moments(checked.inputs[name].reshape(-1), max(-low, high))
        return found

    def infer_apart(self, inputs: Mapping[str, NDArray[Any]]) -> Answer:
        """The same sample by sample, even where several at once would be faster: as the model was verified.

        Raises:
            InputRefused, InferenceFailed: As `infer`.
        """
        several, self._several = self._several, self._apart
        try:
            return self.infer(inputs)
        finally:
            self._several = several

    @property
    def child(self) -> IsolatedModel | None:
        """The child process that holds the runtime, where there is one."""
        return self._model if isinstance(self._model, IsolatedModel) else None

    def close(self) -> None:
        """Give the model's memory back."""
        self._several.close()
        self._model.close()

    def _golden(self, folder: Path) -> Codes:
        """Codes of the golden inputs, for the proof of a wide form."""
        from edge_agent.inference.golden import read_golden

        golden = read_golden(folder, self.manifest, self.artifact.id)
        return [(tensor, bind(golden.inputs[name])) for name, tensor, bind in self._binders]


def _check_binding(manifest: Manifest, artifact: Artifact, model: OpenModel) -> None:
    """See that the opened file has the tensors that the manifest binds, and that they fit the contract."""
    for kind, bindings, specs, tensors in (
        ("input", artifact.inputs, manifest.inputs, model.inputs),
        ("output", artifact.outputs, manifest.outputs, model.outputs),
    ):
        if kind == "input" and len(tensors) != len(bindings):
            raise ModelInvalid(
                f"artifact {artifact.id} has {len(tensors)} inputs ({', '.join(tensors)}), "
                f"the manifest binds {len(bindings)}"
            )
        for binding, spec in zip(bindings, specs, strict=True):
            _check_tensor(kind, artifact, binding, tensors)
            _check_shape(kind, artifact, binding, spec)


def _check_tensor(
    kind: str, artifact: Artifact, binding: Binding, tensors: Mapping[str, TensorShape]
) -> None:
    """See that a tensor is there, and what the manifest says it is."""
    found = tensors.get(binding.tensor)
    if found is None:
        raise ModelInvalid(
            f"artifact {artifact.id} has no {kind} {binding.tensor!r}, it has {', '.join(tensors)}"
        )
    if found != TensorShape(binding.dtype, binding.shape):
        raise ModelInvalid(
            f"{kind} {binding.tensor!r} of artifact {artifact.id} is {found.dtype} {found.shape}, "
            f"the manifest says {binding.dtype} {binding.shape}"
        )
    if binding.scale is not None and np.dtype(binding.dtype).kind not in "iu":
        raise ModelInvalid(
            f"{kind} {binding.name!r} of artifact {artifact.id} is {binding.dtype} and has a scale; "
            "only integers are quantized"
        )


def _check_shape(kind: str, artifact: Artifact, binding: Binding, spec: TensorSpec) -> None:
    """See that a tensor's shape is what the contract's becomes."""
    fits = spec.shape[:1] == (1,) and len(spec.shape) == len(binding.shape)
    if kind == "input":
        fits = fits and artifact_shape(spec, binding) == binding.shape
    else:
        fits = fits and contract_shape(binding) == spec.shape
    if not fits:
        raise ModelInvalid(
            f"{kind} {binding.name!r} of artifact {artifact.id}: shape {binding.shape} with perm "
            f"{binding.perm} does not fit the contract's {spec.shape}"
        )
