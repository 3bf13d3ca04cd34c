"""A simulated device says what an agent would say, and believes only the director."""

from __future__ import annotations

from typing import Any

import pytest

from edge_contracts.envelope import chain_value, seal, unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import Ack, Assignment, DeviceState, Phase, Telemetry
from edge_contracts.topics import Channel, topic
from edge_contracts.trust import KeyStatement, sign_keys
from edge_contracts.withdrawal import Withdrawn
from edge_fleet.simulation.device import Behaviour, SimulatedDevice
from edge_fleet.simulation.stream import Outgoing

DIRECTOR, KEY = PrivateKey.generate(), PrivateKey.generate()
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def device() -> SimulatedDevice:
    behaviour = Behaviour(download_s=10, check_s=2, error_share={B: 0.5})
    return SimulatedDevice("cam-1", "f", KEY, DIRECTOR.public, ("arm-cpu",), behaviour)


def give(
    device: SimulatedDevice, number: int, bundle: str | None, now_s: float, **fields: Any
) -> list[Phase]:
    """An assignment; the phases that are told at once."""
    where = topic("f", device.id, Channel.ASSIGNMENT)
    stated: dict[str, Any] = {"counter": number, "name": "m", "version": "1"} | fields
    message = Assignment(device=device.id, number=number, bundle=bundle, **stated)
    return phases(device.take(where, seal(message, where, DIRECTOR), now_s))


def state(said: Outgoing) -> DeviceState:
    return unseal(DeviceState, said.payload, said.topic, KEY.public)


def phases(said: list[Outgoing]) -> list[Phase]:
    return [found.progress.phase for one in said if (found := state(one)).progress is not None]


def test_it_installs_in_the_time_that_it_takes(device: SimulatedDevice) -> None:
    assert give(device, 1, A, 100) == [Phase.DOWNLOADING]
    assert device.due(109) == []
    assert device.next_due_s() == 110
    assert phases(device.due(110)) == [Phase.TRIAL]
    assert phases(device.due(112)) == [Phase.CONFIRMED]
    assert device.active is not None and (device.active.bundle, device.counter) == (A, 1)


def test_it_goes_back_to_its_other_slot_without_a_download(device: SimulatedDevice) -> None:
    for number, bundle in ((1, A), (2, B)):
        give(device, number, bundle, 0)
        device.due(1000)
    assert give(device, 3, A, 100, counter=1, permit_downgrade=False) == [Phase.REFUSED]
    assert give(device, 4, A, 100, counter=1, permit_downgrade=True) == [Phase.RECEIVED]
    assert phases(device.due(102)) == [Phase.TRIAL, Phase.CONFIRMED]


def test_a_newer_assignment_ends_the_one_under_way(device: SimulatedDevice) -> None:
    give(device, 1, A, 0)
    assert give(device, 2, None, 5) == [Phase.CONFIRMED]
    assert device.due(1000) == [] and device.active is None
    assert give(device, 1, A, 6) == []  # a replay


def test_it_fails_as_it_is_told_to(device: SimulatedDevice) -> None:
    device.behaviour = Behaviour(fails={A: (Phase.ROLLED_BACK, "crash")})
    give(device, 1, A, 0)
    said = device.due(1000)
    assert phases(said) == [Phase.TRIAL, Phase.ROLLED_BACK]
    last = state(said[-1])
    assert last.progress is not None and last.progress.code == "crash" and last.active is None


def test_a_forged_or_misdirected_assignment_is_not_followed(device: SimulatedDevice) -> None:
    where = topic("f", "cam-1", Channel.ASSIGNMENT)
    for key, name in ((PrivateKey.generate(), "cam-1"), (DIRECTOR, "cam-2")):
        message = Assignment(device=name, number=9, bundle=A, counter=9)
        assert device.take(where, seal(message, where, key), 0) == []
    assert device.refused == 2 and device.assignment is None


def test_its_windows_are_chained_and_kept_until_they_are_acknowledged(device: SimulatedDevice) -> None:
    assert device.window(10, 0) is None
    give(device, 1, B, 0)
    device.due(1000)
    sent = [device.window(10, 1000), device.window(10, 1001)]
    read = [unseal(Telemetry, one.payload, one.topic, KEY.public) for one in sent if one]
    assert [one.seq for one in read] == [0, 1]
    assert sent[0] is not None and read[1].prev == chain_value(sent[0].payload)
    (record,) = read[0].recs
    assert record.kind == "window" and (record.inferences, record.errors) == (5, {"simulated": 5})
    assert len(device.stream.unacknowledged()) == 2
    where = topic("f", "cam-1", Channel.ACK)
    ack = Ack(device="cam-1", epoch=read[0].epoch, high=0, chain=read[1].prev)
    device.take(where, seal(ack, where, DIRECTOR), 0)
    assert len(device.stream.unacknowledged()) == 1


def test_a_shadow_is_compared_and_the_switch_to_it_downloads_nothing(device: SimulatedDevice) -> None:
    assert give(device, 1, B, 0, shadow=ShadowTerms()) == [Phase.REFUSED], "nothing answers there"
    give(device, 2, A, 0)
    device.due(1000)
    device.behaviour = Behaviour(download_s=10, check_s=2, differing={B: 0.25})
    assert give(device, 3, B, 1000, shadow=ShadowTerms(per_mille=400)) == [Phase.DOWNLOADING]
    assert phases(device.due(1012)) == [Phase.TRIAL, Phase.SHADOW]
    assert device.active is not None and device.active.bundle == A
    said = device.window(100, 1013)
    assert said is not None
    (window,) = unseal(Telemetry, said.payload, said.topic, KEY.public).recs
    assert window.kind == "window" and window.lineup is not None and window.lineup.shadow is not None
    shadow = window.lineup.shadow
    assert (window.bundle, shadow.bundle, shadow.compared, shadow.agreed) == (A, B, 40, 30)
    assert give(device, 4, B, 1020) == [Phase.RECEIVED]
    assert phases(device.due(1022)) == [Phase.TRIAL, Phase.CONFIRMED]
    assert device.active.bundle == B and device.shadow is None


def test_a_shadow_ends_when_something_else_is_assigned(device: SimulatedDevice) -> None:
    give(device, 1, A, 0)
    device.due(1000)
    give(device, 2, B, 1000, shadow=ShadowTerms())
    device.due(2000)
    assert device.shadow is not None
    assert give(device, 3, None, 2000) == [Phase.CONFIRMED]
    assert device.shadow is None


def test_what_is_to_lie_ready_is_switched_to_without_a_download(device: SimulatedDevice) -> None:
    give(device, 1, A, 0)
    device.due(1000)
    assert give(device, 2, B, 1000, hold=True) == [Phase.DOWNLOADING]
    assert phases(device.due(1012)) == [Phase.TRIAL, Phase.READY]
    assert device.active is not None and device.active.bundle == A
    assert give(device, 3, B, 1020) == [Phase.RECEIVED]
    assert phases(device.due(1022)) == [Phase.TRIAL, Phase.CONFIRMED]
    assert device.active.bundle == B


def test_it_parts_from_what_is_withdrawn_and_takes_it_from_nobody(device: SimulatedDevice) -> None:
    give(device, 1, A, 100)
    device.due(200)
    word = Withdrawn(n=3, bundles=(A,))
    assert give(device, 1, A, 201, withdrawn=word)[0] is Phase.ROLLED_BACK
    assert (device.active, device.progress and device.progress.code) == (None, "withdrawn")
    assert give(device, 2, A, 202) == [Phase.REFUSED]
    assert give(device, 3, B, 203, withdrawn=Withdrawn(n=2)) == [Phase.DOWNLOADING]
    device.due(300)
    assert device.active is not None and device.active.bundle == B
    assert give(device, 4, A, 301, withdrawn=Withdrawn(n=4), permit_downgrade=True)[-1] is Phase.DOWNLOADING


def test_it_goes_back_to_the_one_before_and_remembers_the_word(device: SimulatedDevice) -> None:
    for number, bundle in ((1, A), (2, B)):
        give(device, number, bundle, 100 * number)
        device.due(100 * number + 50)
    give(device, 2, B, 300, withdrawn=Withdrawn(n=1, bundles=(B,)))
    assert device.active is not None and device.active.bundle == A
    memory = device.memory()
    again = SimulatedDevice("cam-1", "f", KEY, DIRECTOR.public, ("arm-cpu",), memory=memory)
    assert state(again.hello(400)).withdrawn == 1


def test_it_is_led_from_director_to_director_and_says_whom_it_obeys(device: SimulatedDevice) -> None:
    second, third, stranger = (PrivateKey.generate() for _ in range(3))
    where = topic("f", device.id, Channel.ASSIGNMENT)

    def names(by: PrivateKey, named: PrivateKey) -> bytes:
        return sign_keys(KeyStatement(fleet="f", counter=1, director=named.public.base64), by)

    def told(by: PrivateKey, number: int, *keys: bytes) -> list[DeviceState]:
        message = Assignment(device=device.id, number=number, bundle=A, name="m", version="1", keys=keys)
        return [state(one) for one in device.take(where, seal(message, where, by), 0)]

    (hello,) = told(DIRECTOR, 9, names(DIRECTOR, second))
    assert (hello.type, hello.obeys, hello.progress) == ("hello", second.public.key_id, None)
    chain = (names(DIRECTOR, second), names(second, third))
    (status,) = told(third, 1, *chain)
    assert status.obeys == third.public.key_id
    assert status.progress is not None and status.progress.phase is Phase.DOWNLOADING
    assert told(stranger, 2, names(stranger, stranger)) == [] and device.refused == 1
