"""The order of a rollout, kept while devices come and go, is the order of all of them sorted."""

from __future__ import annotations

import random

from edge_fleet.rollouts.order import Order, place_of
from edge_fleet.rollouts.targets import in_order


def test_devices_that_come_and_go_stand_as_if_they_were_sorted_at_the_end() -> None:
    draw = random.Random(3)
    there = {f"cam-{n}" for n in range(600)}
    order = Order("r1", there)
    for _ in range(2000):
        device = f"cam-{draw.randrange(900)}"
        if draw.random() < 0.5:
            there.add(device)
            order.add(device)
        else:
            there.discard(device)
            order.remove(device)
    every = in_order("r1", there)
    assert [device for _, device in order] == every and len(order) == len(there)
    for count in (1, 2, 100, len(every)):
        assert order.from_end(count) == place_of("r1", every[-count])
    for index in (0, 1, 100, len(every) - 1):
        place = place_of("r1", every[index])
        assert order.at(index) == place and order.before(place) == index
        assert [device for _, device in order.until(place)] == every[:index]
    assert order.at(len(every)) is None and order.before(None) == len(list(order.until(None))) == len(every)
    assert order.from_end(0) is None and Order("r1").from_end(1) is None


def test_two_rollouts_do_not_begin_with_the_same_devices() -> None:
    names = [f"cam-{n}" for n in range(100)]
    first, second = ([device for _, device in Order(rollout, names)][:10] for rollout in ("r1", "r2"))
    assert set(first) != set(second)
