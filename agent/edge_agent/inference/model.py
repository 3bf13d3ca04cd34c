"""`Model`: a bundle open in the caller's own process, numpy in and numpy out.

For an application that wants answers without a daemon, or beside one: the same checks of signature,
digests and tensor contract, the same arithmetic, no server and no telemetry. The daemon's own inference
is `engine.py`'s.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.device.home import Home, default_home
from edge_agent.doubt.confidence import ConfidenceRule
from edge_agent.errors import InferenceFailed, InputRefused, NoModel
from edge_agent.inference.contract import ONLY_INPUT
from edge_agent.inference.session import Answer, Session
from edge_agent.inference.trusting import trusted_keys
from edge_agent.updates import installer
from edge_agent.updates.slots import Phase
from edge_agent.updates.store import Store
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import Manifest
from edge_contracts.signing import verify

log = logging.getLogger(__name__)
AnyPath = str | PathLike[str]


class ModelAnswer(Answer, frozen=True, eq=False):
    """An answer that can tell how sure it is; worked out when it is asked, and so free for who does not ask.

    Args:
        rule: The calibration of the artifact that answered, where its bundle has one.
    """

    rule: ConfidenceRule | None = None

    @property
    def confidence(self) -> tuple[float, ...] | None:
        """How likely each sample's answer is right, 0 to 1; None where the bundle has no calibration."""
        return None if self.rule is None else self.rule(self.outputs)

    @property
    def uncertain(self) -> tuple[bool, ...]:
        """Whether each sample's answer had better not be acted on: the bundle's threshold is not reached."""
        if self.rule is None:
            return (False,) * self.samples
        return tuple(not self.rule.is_sure(confidence) for confidence in self.rule(self.outputs))


class Model:
    """A bundle that answers. Threads may share it: they take turns.

    Example:
        >>> with Model("digits-1.0.0-raspberry-pi-5.bundle", trust="keys/public.pem") as model:
        ...     scores = model(np.zeros((1, 1, 8, 8), np.float32))  # shape (1, 10)
        ...     answer = model.infer({"image": np.zeros((8, 1, 8, 8), np.float32)})
        ...     answer.outputs["scores"], answer.flagged, answer.latency_ms
        ...     answer.confidence, answer.uncertain  # of each sample, where the bundle has a calibration

    Args:
        bundle: A .bundle file; None opens the model that is installed on this device.
        trust: Public keys, one of which must have signed it. Without any, the keys that the device trusts
            count, as for `edge-agent infer`; where there are none either, `signed_by` is None and a
            warning is logged: only the digests were checked.
        home: Folder of the agent; None for `$EDGE_AGENT_HOME` or `~/.edgefleet/agent`.
        threads: CPU threads of the runtime.

    Raises:
        ContractError: The bundle is damaged, or no trusted key has signed it.
        NoModel: None is installed.
        RuntimeUnavailable: Nothing here can run it.
        ModelInvalid: The artifact is not what the manifest says.
    """

    def __init__(
        self,
        bundle: AnyPath | None = None,
        *,
        trust: AnyPath | Iterable[AnyPath] = (),
        home: AnyPath | None = None,
        threads: int = 1,
    ) -> None:
        """Verify, open and be ready."""
        place = Home(Path(home)) if home is not None else default_home()
        named = [trust] if isinstance(trust, str | PathLike) else list(trust)
        self.signed_by: str | None
        self._lock = threading.Lock()
        self._closing = ExitStack()
        if bundle is None:
            self._session, self.bundle, self.signed_by = _open_installed(place, threads)
        else:
            with ExitStack() as undo:
                folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="edge-agent-"))
                keys = trusted_keys([Path(path) for path in named], place)
                opened = open_bundle(Path(bundle))
                self.bundle = opened.digest
                self.signed_by = verify(opened, keys).key_id if keys is not None else None
                if self.signed_by is None:
                    log.warning(
                        "signature not checked: no trusted key is known here", extra={"bundle": str(bundle)}
                    )
                opened.extract(Path(folder) / "bundle")
                self._session = Session.open(Path(folder) / "bundle", opened.manifest, None, threads)
                self._closing = undo.pop_all()
        self._closing.callback(self._session.close)
        manifest = self._session.manifest
        self._input, self._output = manifest.inputs[0].name, manifest.outputs[0].name
        self._is_plain = len(manifest.inputs) == len(manifest.outputs) == 1
        self._rule = ConfidenceRule.of(manifest, self._session.artifact.id)
        self._is_open = True

    @property
    def manifest(self) -> Manifest:
        """Everything the bundle states: name, version, tensors, labels, evaluation."""
        return self._session.manifest

    @property
    def name(self) -> str:
        """Of the model."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Of the model."""
        return self.manifest.version

    @property
    def labels(self) -> tuple[str, ...]:
        """By class; empty where the model has none."""
        return self.manifest.labels

    @property
    def runtime(self) -> str:
        """Name, version and device of what runs it, such as "litert 2.3.0 CPU"."""
        return self._session.runtime

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Answer a batch, for a model with one input and one output.

        Args:
            values: Shape (n, ...) in the contract's space: the source model's own.

        Returns:
            Shape (n, ...); the caller's to keep.

        Raises:
            InputRefused: The contract does not allow it, or the model has several inputs or outputs.
            InferenceFailed: The runtime reported an error, or the model is closed.
        """
        if not self._is_plain:
            inputs = ", ".join(spec.name for spec in self.manifest.inputs)
            outputs = ", ".join(spec.name for spec in self.manifest.outputs)
            raise InputRefused(
                "names", f"{self.name} has inputs {inputs} and outputs {outputs}: use infer with a mapping"
            )
        return self._answer({self._input: values}).outputs[self._output]

    def infer(self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> ModelAnswer:
        """Answer a batch, with latency, confidence and what is suspicious about its samples.

        Args:
            inputs: By tensor name, shape (n, ...); an array is the model's only input.

        Raises:
            InputRefused: The contract does not allow it.
            InferenceFailed: The runtime reported an error, or the model is closed.
        """
        answer = self._answer(inputs)
        return ModelAnswer(
            answer.inputs, answer.outputs, answer.took_ms, answer.flagged, answer.moments, self._rule
        )

    def _answer(self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> Answer:
        by_name = {ONLY_INPUT: inputs} if isinstance(inputs, np.ndarray) else inputs
        if by_name is inputs:
            _require_arrays(by_name)
        with self._lock:
            if not self._is_open:
                raise InferenceFailed(f"{self.name} is closed")
            return self._session.infer(by_name)

    def close(self) -> None:
        """Give the memory back; twice is harmless."""
        with self._lock:
            self._is_open = False
            self._closing.close()

    def __enter__(self) -> Self:
        """The model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name, version, digest and runtime."""
        return f"<Model {self.name} {self.version} {self.bundle[:19]} in {self.runtime}>"


def _require_arrays(inputs: object) -> None:
    """See that what came is arrays by name; what they hold is the contract's to check.

    Raises:
        InputRefused: "dtype".
    """
    if not isinstance(inputs, Mapping):
        raise InputRefused(
            "dtype", f"the input is a {type(inputs).__name__}, expected a numpy array, or arrays by name"
        )
    for name, values in inputs.items():
        if not isinstance(values, np.ndarray):
            raise InputRefused(
                "dtype", f"input {name!r} is a {type(values).__name__}, expected a numpy array"
            )


def _open_installed(place: Home, threads: int) -> tuple[Session, str, str]:
    """The model in the active slot, its digest and who signed it. Reads only; a daemon may be at work.

    Raises:
        NoModel: None is installed.
    """
    place.require_ours()
    slots = Store(place).slots
    # a candidate on trial has not proved itself: the model before it is still there
    slot = slots.last_good if slots.phase is Phase.TRIAL and slots.last_good is not None else slots.active
    digest = slots.bundle_in(slot)
    if slot is None or digest is None:
        raise NoModel(f"no model is installed in {place.folder}; run edge-agent install, or name a bundle")
    trusted = trusted_publishers(place, read_config(place))
    verified = installer.verify_slot(place, slot, trusted.ever, digest)
    session = Session.open(place.slot(slot), verified.manifest, slots.held[slot].choice, threads)
    return session, digest, verified.key_id
