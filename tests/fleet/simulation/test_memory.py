from __future__ import annotations

import base64
from pathlib import Path

import pytest
from simulated_devices import identity

from edge_contracts.envelope import chain_value, seal, unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import ActiveModel, Assignment, Phase, Progress, Telemetry
from edge_contracts.topics import Channel, topic
from edge_fleet.errors import RequestInvalid
from edge_fleet.simulation.device import Behaviour, SimulatedDevice
from edge_fleet.simulation.memory import IDENTITIES, Memory, StateFolder

DIRECTOR, KEY = PrivateKey.generate(), PrivateKey.generate()
FIRST = ActiveModel(bundle="sha256:" + "00" * 32, name="first", version="0", artifact="int8", runtime="r")


def device(memory: Memory | None = None) -> SimulatedDevice:
    takes = Behaviour(download_s=1, check_s=1)
    return SimulatedDevice("d", "f", KEY, DIRECTOR.public, ("x86-cpu",), takes, FIRST, memory=memory)


def assign(found: SimulatedDevice, number: int, now_s: float) -> None:
    where = topic("f", "d", Channel.ASSIGNMENT)
    message = Assignment(device="d", number=number, bundle="sha256:" + "11" * 32, counter=1)
    found.take(where, seal(message, where, DIRECTOR), now_s)


def test_a_device_goes_on_with_its_numbers_and_its_chain(tmp_path: Path) -> None:
    before = device()
    sent = [before.window(10, 1.0), before.window(10, 2.0)]
    folder = StateFolder(tmp_path / "s")
    folder.put([before.memory()])
    after = device(memory=folder.take()["d"])
    assert [one.payload for one in after.stream.unacknowledged()] == [one.payload for one in sent if one]
    following = after.window(10, 3.0)
    assert following is not None
    assert sent[1] is not None
    told = unseal(Telemetry, following.payload, following.topic, KEY.public)
    assert (told.epoch, told.seq, told.prev) == (before.stream.epoch, 2, chain_value(sent[1].payload))


def test_a_run_that_was_killed_leaves_no_memory_to_fork_from(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "s")
    folder.put([device().memory()])
    assert set(folder.take()) == {"d"}
    assert folder.take() == {}, "a run that begins has taken it out"
    assert device().stream.epoch != device().stream.epoch


def test_what_it_runs_is_kept_and_an_installation_under_way_begins_again(tmp_path: Path) -> None:
    done, under_way = device(), device()
    for found in (done, under_way):
        assign(found, 1, 0.0)
    done.due(10.0)
    assert done.active is not None
    folder = StateFolder(tmp_path / "s")
    folder.put([done.memory()])
    again = device(memory=folder.take()["d"])
    assert again.active == done.active
    assert again.progress == Progress(assignment=1, phase=Phase.CONFIRMED)
    assign(again, 1, 20.0)
    assert again.next_due_s() is None, "it has it already"
    folder.put([under_way.memory()])
    again = device(memory=folder.take()["d"])
    assert again.active == FIRST
    assign(again, 1, 20.0)
    again.due(30.0)
    assert again.active == done.active


def test_identities_are_only_added_to_and_a_half_written_one_is_passed_over(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "s")
    folder.add([identity("honest", "a")])
    folder.add([identity("forged", "b")])
    with (tmp_path / "s" / IDENTITIES).open("ab") as stream:
        stream.write(b'{"kind":"hon')  # power cut
    assert [(one.kind, one.device) for one in folder.identities()] == [("honest", "a"), ("forged", "b")]
    assert folder.tag() == StateFolder(tmp_path / "s").tag()
    assert len(base64.b16decode(folder.tag().upper())) == 2


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / IDENTITIES).write_text("{}\n")
    with pytest.raises(RequestInvalid, match="another folder"):
        StateFolder(tmp_path).identities()
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestInvalid, match="cannot make"):
        StateFolder(tmp_path / "file")
