"""Versions of what is installed, beside what importlib.metadata says."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from edge_agent import installed


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "METADATA").write_text(text)


@pytest.mark.parametrize("name", ["edgefleet", "numpy", "ai-edge-litert", "paho-mqtt", "PyNaCl", "openvino"])
def test_a_version_is_the_one_that_importlib_finds(name: str) -> None:
    assert installed.version(name) == metadata.version(name)


def test_a_name_may_be_spelled_otherwise_and_the_first_folder_counts(tmp_path: Path) -> None:
    put(tmp_path / "a", "Some.thing-2.0rc1.dist-info", "Name: Some.thing\nVersion: 2.0rc1\n\nVersion: 9")
    put(tmp_path / "b", "some_thing-1.0.dist-info", "Name: some-thing\nVersion: 1.0\n")
    path = [str(tmp_path / "none"), str(tmp_path / "a"), str(tmp_path / "b")]
    assert installed.version("some-thing", path) == "2.0rc1"
    assert installed.version("SOME_THING", path[2:]) == "1.0"


def test_what_is_only_begun_like_a_name_is_another_distribution(tmp_path: Path) -> None:
    put(tmp_path, "numpy_stl-3.0.dist-info", "Name: numpy-stl\nVersion: 3.0\n")
    assert installed.version("numpy", [str(tmp_path)]) == metadata.version("numpy")


def test_a_version_after_the_header_is_none(tmp_path: Path) -> None:
    put(tmp_path, "nothing_of_ours-1.dist-info", "Name: nothing-of-ours\n\nVersion: 1\n")
    (tmp_path / "nothing_of_ours-2.dist-info").mkdir()  # an installation that was cut off
    with pytest.raises(metadata.PackageNotFoundError, match="nothing-of-ours"):
        installed.version("nothing-of-ours", [str(tmp_path)])
