"""A model in a process of its own, as seen from this one: a crash or a hang there costs one inference.

`IsolatedModel` is an `OpenModel` like any other. When its child dies or does not answer in time, that
inference fails and the child is gone for sure; the next inference starts another, with pauses that grow
and not for ever. What is done about an accelerator that goes on failing is `ladder.py`'s.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import (
    ChildFailed,
    InferenceFailed,
    ModelInvalid,
    RuntimeCrashed,
    RuntimeHung,
    RuntimeLost,
    RuntimeUnavailable,
)
from edge_agent.guard import channel
from edge_agent.guard.restarts import Restarts
from edge_agent.inference.isolation import COMMAND, KILL_S, Child, encoded, start
from edge_agent.runtimes.base import Tensors
from edge_agent.runtimes.choice import Option
from edge_contracts.manifest import Artifact

REFUSALS = {error.code: error for error in (ModelInvalid, RuntimeUnavailable)}


@dataclass(frozen=True)
class Patience:
    """How long to wait for a child before it counts as hung, seconds.

    Args:
        run_s: For an inference.
        first_s: For the first one after a start, which may still compile or load the accelerator.
        open_s: From start to an open model.
    """

    run_s: float = 20.0
    first_s: float = 30.0
    open_s: float = 60.0  # Python and OpenVINO take 10 s on a slow board

    @staticmethod
    def of(latency_p95_ms: float | None, gate_ms: float) -> Patience:
        """Twenty times what the trial has measured, and 2 s to 30 s whatever that is.

        Below 2 s a healthy accelerator on a busy two-core board would be called hung; throttled by heat
        it takes three to five times as long as when it was tried.

        Args:
            latency_p95_ms: Of the trial, None when it is not known.
            gate_ms: What the trial allowed.
        """
        run_s = min(30.0, max(2.0, 20e-3 * (gate_ms if latency_p95_ms is None else latency_p95_ms)))
        return Patience(run_s)


class IsolatedModel:
    """An artifact that is open in a child process. Not for use by two threads at once.

    Args:
        inputs, outputs: By tensor name, as the child's runtime states them.
    """

    def __init__(
        self,
        folder: Path,
        artifact: Artifact,
        option: Option,
        threads: int = 1,
        patience: Patience | None = None,
        restarts: Restarts | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Start the child and wait until its model is open.

        Args:
            folder: Of the extracted bundle, its digests checked; the child checks them again.
            command: What to start; tests start other programs.

        Raises:
            ModelInvalid, RuntimeUnavailable: As `Runtime.open`, said by the child.
            ChildFailed: It died or hung instead, or refuses for another reason.
        """
        self._folder, self._artifact, self._option = folder, artifact, option
        self._threads, self._patience, self._command = threads, patience or Patience(), command
        self._restarts = restarts or Restarts()
        self._child: Child | None = None
        self._channel: socket.socket | None = None
        self._closed = False
        self.starts = 0
        self.start_s = 0.0
        layout, memory = self._start()
        self._attach(layout, memory)
        self.inputs = {name: place.shape for name, place in layout.inputs.items()}
        self.outputs = {name: place.shape for name, place in layout.outputs.items()}

    @property
    def pid(self) -> int | None:
        """Process id of the child; None when there is none now."""
        return None if self._child is None else self._child.pid

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the child now."""
        child = self._child
        return 0 if child is None else child.memory_bytes

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Answer one sample.

        Raises:
            RuntimeCrashed, RuntimeHung: The child died of it, or did not answer in time and was killed.
            RuntimeLost: It is not started again yet, or not any more.
            InferenceFailed: The runtime reported an error.
        """
        link = self._channel or self._again()
        try:
            for name, view in self._inputs:
                np.copyto(view, inputs[name], casting="no")
        except (KeyError, ValueError, TypeError) as error:
            raise InferenceFailed(f"{self._option}: {error}") from None
        try:
            link.send(channel.RUN)
            reply = link.recv(channel.MAX_TEXT + 1)
        except BlockingIOError:
            self._give_up()
            raise RuntimeHung(f"{self._option}: no answer in {self._waiting_s:g} s, killed") from None
        except OSError:
            reply = b""
        if reply != channel.DONE:
            if reply:
                raise InferenceFailed(reply[1:].decode(errors="replace"))
            raise RuntimeCrashed(f"{self._option}: {self._give_up()}")
        if self._waiting_s != self._patience.run_s:
            self._wait(link, self._patience.run_s)
        return {name: view.copy() for name, view in self._outputs}

    def close(self) -> None:
        """End the child, in good order where it can; closing twice is harmless."""
        self._closed = True
        self._detach()
        if self._child is not None:
            self._child.wait(KILL_S)  # it has seen that the channel is closed
            self._child.end()
            self._child.close()
            self._child = None

    def _start(self) -> tuple[channel.Layout, mmap.mmap]:
        began_s = monotonic()
        ours, theirs = channel.pair()
        try:
            with theirs:
                child = start(self._command, (theirs.fileno(),), answers=False)
                job = {
                    "kind": "stay",
                    "folder": str(self._folder),
                    "artifact": self._artifact.model_dump(mode="json"),
                    "option": asdict(self._option),
                    "threads": self._threads,
                    "channel": theirs.fileno(),
                }
            self._child, self._channel = child, ours
            self.starts += 1
            child.give(encoded(job))
            channel.set_timeout(ours, self._patience.open_s)
            layout, memory = channel.accept(ours)
        except BlockingIOError:
            self._give_up()
            raise ChildFailed(
                "hang", f"{self._option} was not open in {self._patience.open_s:g} s, killed"
            ) from None
        except ConnectionError:
            raise ChildFailed("crash", f"{self._option}: {self._give_up()}") from None
        except ChildFailed as error:
            ours.close()
            self._give_up()
            raise REFUSALS[error.code](str(error)) if error.code in REFUSALS else error from None
        self._wait(ours, self._patience.first_s)
        self.start_s = monotonic() - began_s
        return layout, memory

    def _attach(self, layout: channel.Layout, memory: mmap.mmap) -> None:
        inputs, outputs = layout.views(memory)
        self._inputs, self._outputs = tuple(inputs.items()), tuple(outputs.items())

    def _detach(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._inputs = self._outputs = ()  # the memory goes with its last view

    def _again(self) -> socket.socket:
        """Start the child anew, if it is time to."""
        if self._closed:
            raise InferenceFailed(f"{self._option} is closed")
        now_s = monotonic()
        wait_s = self._restarts.wait_s(now_s)
        if wait_s > 0:
            raise RuntimeLost(f"{self._option}: its process is not there; started again in {wait_s:.3g} s")
        self._restarts = self._restarts.after(now_s)
        try:
            layout, memory = self._start()
        except (ChildFailed, ModelInvalid, RuntimeUnavailable) as error:
            raise RuntimeLost(f"{self._option} cannot be started again: {error}") from None
        inputs = {name: place.shape for name, place in layout.inputs.items()}
        outputs = {name: place.shape for name, place in layout.outputs.items()}
        link = self._channel
        if (inputs, outputs) != (self.inputs, self.outputs) or link is None:
            self._give_up()
            raise RuntimeLost(f"{self._option} has other tensors than before")
        self._attach(layout, memory)
        return link

    def _wait(self, link: socket.socket, timeout_s: float) -> None:
        self._waiting_s = timeout_s
        channel.set_timeout(link, timeout_s)

    def _give_up(self) -> str:
        """See that the child is gone; how it ended."""
        self._detach()
        child, self._child = self._child, None
        if child is None:
            return "there is no process"
        child.wait(0.5)  # one that dies of itself has a better reason than SIGKILL
        text = child.death() if child.end() else "the model's process does not die: a driver holds it"
        with suppress(OSError):
            child.close()
        return text
