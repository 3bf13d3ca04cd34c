"""Which file of an MLflow model is taken, told from folders made by hand as MLflow 3.17 lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_convert.errors import RegistryFailed
from edge_convert.provenance.flavors import model_in

pytest.importorskip("yaml", reason="MLmodel files are YAML")


def model(folder: Path, flavors: str, *files: str) -> Path:
    (folder / "MLmodel").write_text(f"flavors:\n{flavors}")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("flavors", "files", "taken"),
    [
        ("  onnx: {data: model.onnx}\n", ["model.onnx"], "model.onnx"),
        ("  keras: {data: data}\n", ["data/model.keras"], "data/model.keras"),
        ("  tensorflow: {data: data, model_type: keras}\n", ["data/model.h5"], "data/model.h5"),
        ("  tensorflow: {saved_model_dir: tf2model}\n", ["tf2model/saved_model.pb"], "tf2model"),
        ("  pytorch: {model_data: data}\n", ["data/model.pt2"], "data/model.pt2"),
        # what needs no framework comes first
        ("  pytorch: {model_data: data}\n  onnx: {data: m.onnx}\n", ["data/model.pt2", "m.onnx"], "m.onnx"),
    ],
)
def test_the_flavor_says_which_file(flavors: str, files: list[str], taken: str, tmp_path: Path) -> None:
    assert model_in(model(tmp_path, flavors, *files), "models:/m/1") == tmp_path / taken


@pytest.mark.parametrize(
    ("flavors", "files", "why"),
    [
        ("  pytorch: {model_data: data}\n", ["data/model.pth"], "serialization_format='pt2'"),
        ("  sklearn: {pickled_model: model.pkl}\n", ["model.pkl"], "has the flavors sklearn"),
        ("  onnx: {data: ../outside.onnx}\n", ["../outside.onnx"], "has the flavors onnx"),
        ("  - onnx\n", [], "MLmodel is damaged"),
        ("  onnx: {data: model.onnx\n", [], "MLmodel is damaged"),
    ],
)
def test_a_model_without_a_file_to_convert_is_refused(
    flavors: str, files: list[str], why: str, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(RegistryFailed, match=why):
        model_in(model(tmp_path / "m", flavors, *files), "models:/m/1")


def test_a_plain_file_and_a_folder_with_one_are_taken_and_one_with_two_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    (tmp_path / "readme.md").write_bytes(b"x")
    assert model_in(tmp_path / "a.onnx", "runs:/1/a.onnx") == tmp_path / "a.onnx"
    assert model_in(tmp_path, "runs:/1/files") == tmp_path / "a.onnx"
    (tmp_path / "b.pt2").write_bytes(b"x")
    with pytest.raises(RegistryFailed, match=r"a\.onnx, b\.pt2"):
        model_in(tmp_path, "runs:/1/files")
