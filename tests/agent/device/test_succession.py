"""Going over to another key: on the server's word alone, and whole after a cut between any two steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from enrolled_device import device_config

from edge_agent.device.config import read_config, read_device_key
from edge_agent.device.home import Home, write_durably
from edge_agent.device.succession import SAY_S, Succession
from edge_contracts.keys import PrivateKey, write_private
from edge_contracts.messages import Assignment
from edge_contracts.model import canonical_json
from edge_contracts.succession import proven

FIRST, DIRECTOR = PrivateKey.generate(), PrivateKey.generate()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    write_private(FIRST, made.key)
    config = device_config(
        public_key=FIRST.public.base64,
        director_key=DIRECTOR.public.base64,
        publisher_keys=(DIRECTOR.public.base64,),
    )
    write_durably(made.config, canonical_json(config))
    return made


def started(home: Home) -> Succession:
    """As a start of the agent takes it up."""
    config = read_config(home)
    assert config is not None
    return Succession(home, config, read_device_key(home, config))


def word(known: str = "", change: str = "") -> Assignment:
    return Assignment(device="cam-1", number=0, known_key=known, change_key=change)


def offered(found: Succession) -> str:
    """Id of the key that it proposes, its possession shown."""
    said = found.told()
    assert said is not None
    return proven("plant", "cam-1", found.key.public, said).key_id


def test_the_old_key_counts_until_the_server_says_so(home: Home) -> None:
    found = started(home)
    assert found.told() is None and not found.is_due(0.0)
    found.begin()
    name = offered(found)
    assert found.is_due(0.0) and not found.is_due(SAY_S - 1) and found.is_due(SAY_S)
    for other in ("", FIRST.public.key_id, "0" * 32):
        assert found.heard(word(known=other)) is None
    assert started(home).key == FIRST and offered(started(home)) == name
    new = found.heard(word(known=name))
    assert new is not None and new.public.key_id == name
    assert (started(home).key, found.key) == (new, new)
    assert found.told() is None and not home.next_key.exists()


def test_an_order_names_the_key_that_is_to_go_and_an_old_one_changes_nothing(home: Home) -> None:
    found = started(home)
    order = word(change=FIRST.public.key_id)
    assert found.heard(word(change="0" * 32)) is None and found.told() is None
    found.heard(order)
    name = offered(found)
    found.heard(order)
    assert offered(found) == name, "an order that is said again makes no other key"
    found.heard(word(known=name))
    assert found.heard(order) is None and found.told() is None, "a replay"


def test_a_next_key_that_was_cut_off_while_it_was_written_is_made_anew(home: Home) -> None:
    home.next_key.write_bytes(b"-----BEGIN PRIV")
    found = started(home)
    assert (found.key, found.told()) == (FIRST, None)
    found.begin()
    assert offered(found) != FIRST.public.key_id


class PowerCut(BaseException):
    """Nothing that the code could handle."""


@pytest.mark.parametrize("part", ["made", "gone over to"])
def test_a_cut_between_any_two_steps_leaves_one_key_that_counts(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    ready = tmp_path / "ready"
    shutil.copytree(home.folder, ready)
    if part == "gone over to":
        started(Home(ready)).begin()
    seen, count, done = set[bool](), 0, False
    while not done:
        place = Home(tmp_path / f"cut-{count}")
        shutil.copytree(ready, place.folder)
        found, left = started(place), [count]

        def guard(real: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def operation(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise PowerCut
                return real(*arguments, **named)

            return operation

        with monkeypatch.context() as patch, suppress(PowerCut):
            for name in ("open", "fsync", "replace", "unlink", "rename"):
                patch.setattr(os, name, guard(getattr(os, name)))
            if part == "made":
                found.begin()
            else:
                found.heard(word(known=offered(found)))
            done = True
        again = started(place)
        assert again.key == FIRST or part == "gone over to"
        seen.add(again.key == FIRST)
        # whatever it was, it goes on from there to the end
        if again.key == FIRST:
            again.begin()
            assert again.heard(word(known=offered(again))) is not None
        assert started(place).key != FIRST
        count += 1
    assert count > 3
    assert seen == ({True} if part == "made" else {True, False})
