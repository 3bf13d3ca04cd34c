"""The collector of cycles leaves alone what stays, and still finds what goes."""

from __future__ import annotations

import gc
import weakref

from edge_fleet import collector


class Node:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def test_what_is_there_is_not_looked_through_and_cycles_of_later_still_go() -> None:
    before = gc.get_threshold()
    kept = Node()
    try:
        collector.settle()
        assert gc.get_freeze_count() > 1000
        assert not any(one is kept for one in gc.get_objects()), "it is looked through"
        gone = weakref.ref(Node())
        gc.collect()
        assert gone() is None
        assert gc.get_threshold() == collector.THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
