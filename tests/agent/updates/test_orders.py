"""Orders as files: taken once, whatever the disk does."""

from __future__ import annotations

from pathlib import Path

from edge_agent.device.home import Home
from edge_agent.updates import orders
from edge_agent.updates.orders import Order
from edge_contracts.model import canonical_json


def ordered(folder: Path) -> Home:
    home = Home(folder)
    home.make()
    home.orders.mkdir()
    (home.orders / "1.order").write_bytes(canonical_json(Order(kind="rollback")))
    return home


def test_an_order_whose_answer_cannot_be_stored_is_not_carried_out_again(tmp_path: Path) -> None:
    home, known = ordered(tmp_path), set[str]()
    assert [name for name, _ in orders.take(home, known)] == ["1"]
    known.add("1")
    assert orders.take(home, known) == []
    (home.orders / "1.order").unlink()
    orders.take(home, known)
    assert known == set(), "nothing is remembered of orders that are gone"


def test_what_is_no_order_is_removed_and_one_that_stays_there_is_looked_at_once(tmp_path: Path) -> None:
    home, known = ordered(tmp_path), set[str]()
    (home.orders / "0.order").write_bytes(b"{}")
    (home.orders / "2.order").mkdir()  # cannot be removed as a file, as nothing can on a read-only disk
    assert [name for name, _ in orders.take(home, known)] == ["1"]
    assert sorted(path.name for path in home.orders.iterdir()) == ["1.order", "2.order"]
    assert known == {"0", "2"}


def test_an_answer_that_the_disk_does_not_take_ends_the_order(tmp_path: Path) -> None:
    home = ordered(tmp_path)
    (home.orders / "1.answer.new").mkdir()
    orders.answer(home, "1", "", "done")
    assert not (home.orders / "1.order").exists()
