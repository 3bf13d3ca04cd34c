"""The source in its own framework, as an `Engine`: the child process runs it, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_convert.engine import EnginePort
from edge_convert.frameworks.worker import Worker
from edge_convert.graph import Array, Graph


class FrameworkEngine:
    """A model that a worker has open.

    It speaks the names and shapes of the float graph's ports, which were made from the same model.
    Its times would include the pipe's: `runtime` is that of no profile, so none is taken.
    """

    def __init__(self, worker: Worker, graph: Graph) -> None:
        """Take the worker over; it ends with this."""
        self._worker = worker
        self.runtime = worker.framework
        self.inputs = tuple(EnginePort(p.name, p.shape, graph.tensor(p.tensor).dtype) for p in graph.inputs)
        self.outputs = tuple(EnginePort(p.name, p.shape, graph.tensor(p.tensor).dtype) for p in graph.outputs)

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample."""
        _, answers = self._worker.ask(
            {"do": "run"}, **{str(i): feeds[port.name] for i, port in enumerate(self.inputs)}
        )
        return {port.name: answers[str(i)] for i, port in enumerate(self.outputs)}

    def repeat(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """Bind one sample and return the call."""

        def call() -> None:
            self.infer(feeds)

        return call
