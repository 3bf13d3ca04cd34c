"""A smaller network taught by the whole one, without labels; needs the extra `[torch]`.

Hinton, Vinyals and Dean, arXiv:1503.02531: the divergence of the softened answers (T = 2, times T squared),
here with the squared error of the logits and of a few inner results. Samples are varied as they come, and
the teacher answers for the varied ones. One thread, a fixed seed and a number of steps instead of a time:
the same samples give the same weights on the same processor. The student's best state is kept, so that it
is never worse than before on the samples that are kept back for that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.errors import DistillationRefused
from edge_convert.graph import Array, Graph, Op
from edge_convert.pruning import balance
from edge_convert.pruning.sensitivity import distance
from edge_convert.pruning.shrink import with_weights
from edge_convert.pruning.variations import varied
from edge_convert.quantizing.statistics import sample_count

if TYPE_CHECKING:
    from edge_convert.pruning.torch_graph import Tensor, Tensors

_BATCH = 64
_TEMPERATURE = 2.0
_LOGITS, _FEATURES = 0.3, 0.1
_STEP = 0.005  # of a tensor's root mean square
_WARM_UP = 20
_CHECK_EVERY = 50
_CLIP = 1.0
_SEED = 20
_MOST_FEATURES = 3
_FEWEST_LEARNT, _FEWEST_CHECKS = 12, 4


@dataclass(frozen=True)
class DistillOptions:
    """How long to teach.

    Args:
        steps: Of 64 samples each.
        seconds: Stop early after so long; then the result depends on the machine's speed, which the record
            says. None never does.
    """

    steps: int = 1000
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Taught:
    """A graph that was taught.

    Args:
        steps: That were done.
        best: The step whose weights were kept; 0 when no step was better than none.
        before, after: `sensitivity.distance` to the teacher on the samples kept back.
        stopped: Whether time ran out.
    """

    graph: Graph
    steps: int
    best: int
    before: float
    after: float
    stopped: bool = False

    @property
    def summary(self) -> str:
        """For the record of moves."""
        late = ", stopped by the clock" if self.stopped else ""
        return (
            f"distilled for {self.steps} steps{late}, kept step {self.best}: "
            f"distance {self.before:.4f} -> {self.after:.4f} on samples apart"
        )


def why_not(teacher: Graph, student: Graph) -> str:
    """Why this cannot be done here, or "": a missing package, or an operator without a gradient."""
    try:
        from edge_convert.pruning import torch_graph
    except ModuleNotFoundError as missing:
        return f"distillation needs {missing.name}: pip install 'edgefleet[torch]'"
    return torch_graph.refused(teacher) or torch_graph.refused(student)


def distill(
    teacher: Graph,
    student: Graph,
    learn: Mapping[str, Array],
    check: Mapping[str, Array],
    options: DistillOptions,
    kept: Mapping[str, NDArray[np.int64]] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Taught:
    """Teach the student what the teacher answers.

    Args:
        learn: Samples by input port name; labels are not needed.
        check: Samples that nothing was fitted to, to choose the state that is kept.
        kept: By tensor: which of the teacher's channels the student has; all where it is not named.

    Raises:
        DistillationRefused: An operator has no gradient here, the extra is missing, or there are fewer than
            12 samples to learn from or 4 to check with.
    """
    if reason := why_not(teacher, student):
        raise DistillationRefused(reason)
    for samples, fewest, what in ((learn, _FEWEST_LEARNT, "learn from"), (check, _FEWEST_CHECKS, "check")):
        if (count := sample_count(samples)) < fewest:
            raise DistillationRefused(f"{count} samples to {what}; expected at least {fewest}")
    return _Lesson(teacher, student, learn, check, kept or {}).run(options, clock)


class _Lesson:
    """One teacher, one student and their samples."""

    def __init__(
        self,
        teacher: Graph,
        student: Graph,
        learn: Mapping[str, Array],
        check: Mapping[str, Array],
        kept: Mapping[str, NDArray[np.int64]],
    ) -> None:
        from edge_convert.pruning.torch_graph import TorchGraph

        self._teacher, self._student = TorchGraph(teacher), TorchGraph(student)
        self._learn, self._check = _bound(student, learn), check
        self._wanted = reference.run(teacher, check)
        self._shares = np.sqrt(balance.weights(balance.kinds(reference.run(teacher, learn))))
        self._features = _features(teacher, student, kept)

    def run(self, options: DistillOptions, clock: Callable[[], float]) -> Taught:
        """Teach, and keep the best."""
        import torch

        student, graph = self._student, self._student.graph
        before = best = self._distance(graph)
        found, kept_step, done, start = graph, 0, 0, clock()
        with _one_thread():
            student.train()
            optimizer = torch.optim.Adam(
                [{"params": [p], "lr": _STEP * _size(p)} for p in student.parameters.values()]
            )
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, options.steps))
            batches = self._batches()
            stopped = False
            while done < options.steps and not stopped:
                optimizer.zero_grad(set_to_none=True)
                self._loss(next(batches)).backward()
                torch.nn.utils.clip_grad_norm_(list(student.parameters.values()), _CLIP)
                optimizer.step()
                schedule.step()
                done += 1
                stopped = options.seconds is not None and clock() - start > options.seconds
                if done % _CHECK_EVERY == 0 or done == options.steps or stopped:
                    now = with_weights(graph, student.weights())
                    if (loss := self._distance(now)) < best:
                        found, best, kept_step = now, loss, done
        return Taught(found, done, kept_step, before, best, stopped)

    def _distance(self, graph: Graph) -> float:
        loss = distance(self._wanted, reference.run(graph, self._check))
        return loss if math.isfinite(loss) else math.inf

    def _loss(self, feeds: Tensors) -> Tensor:
        import torch

        with torch.no_grad():
            wanted = self._teacher(feeds)
        found = self._student(feeds)
        total = torch.zeros(())
        for theirs, ours in zip(*(_heads(g.graph) for g in (self._teacher, self._student)), strict=True):
            want, have = wanted[theirs.logits], found[ours.logits]
            error = _relative_error(want, have)
            total = total + (_LOGITS * error + _divergence(want, have) if theirs.softmax else error)
        for name, channels in self._features.items():
            total = total + _FEATURES / len(self._features) * _relative_error(
                wanted[name][..., channels], found[name]
            )
        return total

    def _batches(self) -> Iterator[Tensors]:
        """Samples drawn and varied, without end."""
        import torch

        random = np.random.default_rng(_SEED)
        count = len(self._shares)
        while True:
            # of rare classes more than there are, but not as many as of the frequent ones
            chosen = random.choice(
                count, min(_BATCH, count), replace=False, p=self._shares / self._shares.sum()
            )
            drawn = {name: array[chosen] for name, array in self._learn.items()}
            yield {
                name: torch.from_numpy(np.ascontiguousarray(array))
                for name, array in varied(drawn, random).items()
            }


@dataclass(frozen=True)
class _Head:
    """What of an output is compared: a softmax's input, or the output itself."""

    logits: str
    softmax: bool


def _heads(graph: Graph) -> list[_Head]:
    producers = graph.producers()
    heads = []
    for name in graph.output_tensors():
        node = producers.get(name)
        is_softmax = node is not None and node.op in (Op.SOFTMAX, Op.LOG_SOFTMAX)
        heads.append(_Head(node.inputs[0] if node and is_softmax else name, is_softmax))
    return heads


def _features(
    teacher: Graph, student: Graph, kept: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.int64]]:
    """Inner tensors to compare, with the teacher's channels that the student has: the last few that layers
    read and that stand in both, on the same grid."""
    found: dict[str, NDArray[np.int64]] = {}
    for node in reversed(student.nodes):
        name = node.inputs[0]
        if node.op not in (Op.CONV2D, Op.DENSE) or name in found or student.tensor(name).is_constant:
            continue
        if name not in teacher.tensors or name in {port.tensor for port in student.inputs}:
            continue
        theirs, ours = teacher.tensor(name).shape, student.tensor(name).shape
        channels = kept.get(name, np.arange(theirs[-1]))
        if theirs[:-1] == ours[:-1] and len(channels) == ours[-1]:
            found[name] = channels
        if len(found) == _MOST_FEATURES:
            break
    return found


def _divergence(wanted: Tensor, found: Tensor) -> Tensor:
    from torch.nn import functional

    soft = functional.log_softmax(wanted / _TEMPERATURE, -1)
    ours = functional.log_softmax(found / _TEMPERATURE, -1)
    rows = math.prod(wanted.shape[:-1])
    return _TEMPERATURE**2 * functional.kl_div(ours, soft, log_target=True, reduction="sum") / rows


def _relative_error(wanted: Tensor, found: Tensor) -> Tensor:
    spread = (wanted - wanted.mean(dim=0)).square().mean()
    return (wanted - found).square().mean() / (spread + 1e-12)


def _rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine."""
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - _WARM_UP) / max(1, steps - _WARM_UP))))


def _size(parameter: Tensor) -> float:
    """Root mean square; a bias of zeros may move, too."""
    return max(float(parameter.detach().square().mean().sqrt()), 1e-3)


def _bound(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds by tensor name in the graph's layout."""
    bound = {}
    for port in graph.inputs:
        array = np.asarray(feeds[port.name]).astype(graph.tensor(port.tensor).dtype, copy=False)
        bound[port.tensor] = array if port.perm is None else np.transpose(array, port.perm)
    return bound


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread, for sums in one order; as it was, afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
