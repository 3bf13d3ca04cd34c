"""What importing the contracts leaves behind in a process."""

from __future__ import annotations

import subprocess
import sys


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_contracts_come_without_typing_extensions_and_do_not_bar_them() -> None:
    contracts = "import sys, edge_contracts.messages; print('typing_extensions' in sys.modules)"
    assert said(contracts) == "False"
    assert said(contracts + "; import typing_extensions; print(typing_extensions.Any)") == "False\ntyping.Any"


def test_typing_extensions_that_were_there_stay_the_same() -> None:
    before = "import sys, typing_extensions as t; import edge_contracts.messages; "
    assert said(before + "print(sys.modules['typing_extensions'] is t)") == "True"


def test_msgspec_that_was_there_stays_the_same() -> None:
    before = "import sys, msgspec as m; import edge_contracts.messages; "
    assert (
        said(before + "print(sys.modules['msgspec'] is m, 'typing_extensions' in sys.modules)") == "True True"
    )
