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


def permuted_reshape(base: Shape, perm: Sequence[int], shape: Shape) -> tuple[Shape, tuple[int, ...]] | None:
    """Swap a transpose with the reshape after it.

    reshape(transpose(x, perm), shape) == transpose(reshape(x, new shape), new perm).

    Args:
        base: Shape of x.

    Returns:
        (new shape, new perm), or None when the permutation breaks a group of the reshape up.
    """
    seen = tuple(base[p] for p in perm)
    placed: list[tuple[float, Run]] = []
    last = -1.0
    for before, after in groups(seen, shape):
        axes = [perm[i] for i in before]
        real = [a for a in axes if base[a] != 1] or axes
        if any(later < earlier for earlier, later in pairwise(real)):
            return None
        between = [a for a in range(real[0], real[-1] + 1) if a not in axes and base[a] != 1] if real else []
        if between:
            return None
        if axes:
            last = float(real[0])
            placed.append((last, after))
        else:
            last += 1e-3  # a new axis of size 1 stays behind the group that it followed
            placed.append((last, after))
    order = sorted(range(len(placed)), key=lambda k: placed[k][0])
    axes_in_new_order = [axis for k in order for axis in placed[k][1]]
    new_shape = tuple(shape[a] for a in axes_in_new_order)
    return new_shape, tuple(axes_in_new_order.index(a) for a in range(len(shape)))
