from __future__ import annotations

from pathlib import Path

import pytest

from edge_contracts.errors import FormatInvalid
from edge_fleet.errors import RequestInvalid
from edge_fleet.simulation.kinds import HONEST, KINDS
from edge_fleet.simulation.mix import Mix, broken, parse_broken, read_mix


def test_what_is_not_broken_is_honest() -> None:
    assert Mix(devices=10, broken={"forged": 2, "silent": 3}).kinds() == {
        "honest": 5,
        "forged": 2,
        "silent": 3,
    }


def test_all_is_each_kind_and_a_kind_of_its_own_is_stronger() -> None:
    kinds = Mix(devices=100, broken={"all": 1, "silent": 0, "drifts": 7}).kinds()
    assert kinds["forged"] == 1
    assert kinds["drifts"] == 7
    assert "silent" not in kinds
    assert sum(kinds.values()) == 100


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (Mix(devices=3, broken={"forged": 4}), "4 devices are broken, but there are 3"),
        (Mix(broken={"evil": 1}), "no kind 'evil'"),
        (Mix(broken={HONEST: 1}), "no kind 'honest'"),
        (Mix(broken={"forged": -1}), "no number of devices"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(mix: Mix, message: str) -> None:
    with pytest.raises(RequestInvalid, match=message):
        mix.kinds()


def test_the_command_line_is_stronger_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("devices: 200\nevery: 60\nbroken: {forged: 2}\nprofiles: [rpi5, x86-cpu]\n")
    mix = read_mix(path, devices=20, every=None, profiles=None, broken=parse_broken(["silent:1"]))
    assert mix == Mix(devices=20, every=60, profiles=("rpi5", "x86-cpu"), broken={"silent": 1})


def test_a_file_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text("device: 200\n")
    with pytest.raises(FormatInvalid, match="device"):
        read_mix(tmp_path / "mix.yaml")


def test_broken_devices_are_stated_together_or_one_by_one() -> None:
    assert parse_broken(["forged:2,silent:1", "gap:3"]) == {"forged": 2, "silent": 1, "gap": 3}
    assert parse_broken([]) is None
    for wrong in ("forged", "forged:", "forged:x", "forged:-1"):
        with pytest.raises(RequestInvalid, match="KIND:COUNT"):
            parse_broken([wrong])


def test_every_kind_says_what_is_wrong_and_what_comes_of_it() -> None:
    for name in broken():
        assert KINDS[name].what
        assert KINDS[name].answer
