"""Several threads that read the first document of a kind."""

from __future__ import annotations

import subprocess
import sys

FIRST_LOOKS = """
import sys, threading
from typing import Annotated
from msgspec import Meta
from edge_contracts.model import Frozen

sys.setswitchinterval(1e-6)
for number in range(300):
    class Inner(Frozen):
        __annotations__ = {f"f{one}": Annotated[int, Meta(ge=0)] for one in range(30)}

    class Outer(Frozen):
        __annotations__ = {"one": Inner, "more": tuple[Inner, ...]}

    inner = {f"f{one}": 1 for one in range(30)}
    together = threading.Barrier(4)
    def read():
        together.wait()
        Outer.model_validate({"one": inner, "more": [inner]})
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("read")
"""


def test_threads_may_read_the_first_document_of_a_kind_at_once() -> None:
    """In a process of its own: msgspec alone ends it."""
    done = subprocess.run([sys.executable, "-c", FIRST_LOOKS], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")
