"""What somebody may have meant who gave a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable


def meant(name: str, known: Iterable[str], every: bool = True, cutoff: float = 0.5) -> str:
    """The rest of an error line: the nearest name, and all that there are.

    Args:
        every: Whether to list them.
        cutoff: Likeness from which on a name is near, 0 to 1.
    """
    import difflib  # a device has no use for it until somebody mistypes

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    if not every:
        return guess
    return f"{guess} Known: {', '.join(names)}" if near else f"; known: {', '.join(names)}"
