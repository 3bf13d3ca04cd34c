"""How the axes before and after a RESHAPE belong together: the arithmetic that passes share.

A reshape falls into groups: runs of axes before it whose sizes multiply to those of a run of
axes after it. A permutation passes a reshape if it keeps each run before it in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Shape = tuple[int, ...]
Run = tuple[int, ...]


def groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[Run, Run]]:
    """The finest pairs (axes before, axes after) of equal product, in order.

    An axis of size 1 is a group of its own where it stands alone, with nothing on the other side.
    """
    pairs: list[tuple[Run, Run]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        if i < len(before) and j < len(after) and before[i] == after[j]:
            i, j = i + 1, j + 1
        elif i < len(before) and before[i] == 1:
            i += 1
        elif j < len(after) and after[j] == 1:
            j += 1
        else:
            left, right = before[i], after[j]
            i, j = i + 1, j + 1
            while left != right:
                if left < right:
                    left, i = left * before[i], i + 1
                else:
                    right, j = right * after[j], j + 1
        pairs.append((tuple(range(start_i, i)), tuple(range(start_j, j))))
    return pairs


def _runs(base: Shape, perm: Sequence[int], shape: Shape) -> list[tuple[Run, Run]]:
    """The groups of a reshape behind a transpose: (axes of x in the order they are read, axes after)."""
    seen = [base[p] for p in perm]
    return [(tuple(perm[i] for i in before), after) for before, after in groups(seen, shape)]


def whole_groups(base: Shape, perm: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """The permutation of x that brings the axes of each group together, and moves nothing else.

    Args:
        base: Shape of x, which is transposed by `perm` and reshaped to `shape`.
    """

    def is_whole(run: Run) -> bool:
        real = [a for a in run if base[a] != 1]
        ordered = all(earlier < later for earlier, later in pairwise(real))
        inside = range(real[0], real[-1] + 1) if real else ()
        return ordered and all(a in run or base[a] == 1 for a in inside)

    runs = [run for run, _ in _runs(base, perm, shape)]
    if all(is_whole(run) for run in runs):
        return tuple(range(len(base)))
    # a group stands where the last of its axes stood
    placed = sorted((max(run), run) for run in runs if run)
    return tuple(axis for _, run in placed for axis in run)


def permuted_reshape(base: Shape, perm: Sequence[int], shape: Shape) -> tuple[Shape, tuple[int, ...]]:
    """Swap a transpose with the reshape after it.

    reshape(transpose(x, perm), shape) == transpose(reshape(x, new shape), new perm).

    Args:
        base: Shape of x; the groups are in one piece in it (`whole_groups`).

    Returns:
        (new shape, new perm).
    """
    placed: list[tuple[tuple[int, int], Run]] = []
    anchor = (-1, 0)
    for run, after in _runs(base, perm, shape):
        real = [a for a in run if base[a] != 1] or run
        # a new axis of size 1 stays behind the group that it followed
        anchor = (real[0], 0) if real else (anchor[0], anchor[1] + 1)
        placed.append((anchor, after))
    axes = [axis for _, after in sorted(placed, key=lambda place: place[0]) for axis in after]
    return tuple(shape[a] for a in axes), tuple(axes.index(a) for a in range(len(shape)))
