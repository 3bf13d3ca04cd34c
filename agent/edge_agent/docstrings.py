"""Help where Python has left its docstrings out: the same command once more, with them.

A service or a container sets PYTHONOPTIMIZE=2, which saves the daemon 3 MB (docs/decisions/0049); what
commands say of themselves are docstrings. Whoever asks for help there gets it from a Python that has them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

HELP = frozenset({"-h", "--help"})
# the byte code below the prefix is that without docstrings
LEFT_OUT = frozenset({"PYTHONOPTIMIZE", "PYTHONPYCACHEPREFIX"})


def environment_with(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment in which Python keeps docstrings; None where it is not what left them out."""
    if "PYTHONOPTIMIZE" not in environment:
        return None
    return {name: value for name, value in environment.items() if name not in LEFT_OUT}


def asks_for_help(words: Sequence[str], groups: frozenset[str]) -> bool:
    """Whether the command line is answered by a help text; a group without a command is."""
    return not words or not HELP.isdisjoint(words) or (len(words) == 1 and words[0] in groups)


def restore_for_help(groups: frozenset[str]) -> None:
    """Start this command anew with docstrings, if it is to show them and Python has none."""
    if sys.flags.optimize < 2 or not asks_for_help(sys.argv[1:], groups):
        return
    environment = environment_with(os.environ)
    if environment is not None:  # otherwise -OO was typed, and would be again
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
