"""Options of a command that belong together, and reach it as one value.

Light to import: the command line needs it for every `--help`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

Command = Callable[..., None]


def as_one(
    name: str, kind: type[Any], options: Sequence[Callable[[Command], Command]]
) -> Callable[[Command], Command]:
    """Give a command these options; it gets them as one argument.

    Args:
        name: Of the argument.
        kind: A dataclass whose fields are called as the options' values. It may refuse what does not go
            together with a `click.UsageError`.
    """

    def with_options(command: Command) -> Command:
        def with_one(**given: Any) -> None:
            ours = {item.name: given.pop(item.name) for item in fields(kind)}
            command(**{name: kind(**ours)}, **given)

        made: Command = functools.wraps(command)(with_one)
        for option in reversed(options):
            made = option(made)
        return made

    return with_options
