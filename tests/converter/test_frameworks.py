"""Models that their own framework reads: the framework's answers, and what is refused.

Each framework's models are made by a process of its own (`torch_programs.py`, `keras_models.py` in
tests/support); where its extra is not installed these tests are skipped: `make frameworks` installs it.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey, write_private
from edge_convert import cli
from edge_convert.build import BuildOptions, build
from edge_convert.errors import SourceInvalid, UnsupportedFeature, UnsupportedOperator
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.frameworks import wire
from edge_convert.frameworks.worker import Worker, last_words
from edge_convert.gates import Limits
from edge_convert.graph import Array
from edge_convert.reference import run
from edge_convert.source import Source, read_source

SUPPORT = Path(__file__).parents[1] / "support"


def made_by(script: str, module: str, folder: Path) -> Path:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; make frameworks installs it")
    subprocess.run([sys.executable, str(SUPPORT / script), str(folder)], check=True, timeout=600)
    return folder


@pytest.fixture(scope="session")
def torch_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("torch_programs.py", "torch", tmp_path_factory.mktemp("torch"))


@pytest.fixture(scope="session")
def keras_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("keras_models.py", "tensorflow", tmp_path_factory.mktemp("keras"))


def arrays(path: Path, prefix: str) -> list[Array]:
    with np.load(path) as archive:
        return [archive[name] for name in sorted(archive.files) if name.startswith(prefix)]


def assert_same_answers(
    source: Source, feeds: list[Array], want: list[Array], inputs: int | None = None
) -> None:
    """Our graph, and the framework as we open it, against the framework in a process apart."""
    named = {port.name: feed for port, feed in zip(source.graph.inputs, feeds, strict=True)}
    own = source.open().run(named)
    for index in range(len(feeds[0])):
        ours = run(source.graph, {name: feed[index : index + 1] for name, feed in named.items()})
        for port, expected in zip(source.graph.outputs, want, strict=True):
            scale = max(float(np.abs(expected).max()), 1.0)
            for got in (ours[port.name][0], own[port.name][index]):
                np.testing.assert_allclose(got / scale, expected[index] / scale, atol=2e-5, rtol=0)


# --- PyTorch -------------------------------------------------------------------------------------


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["pictures", "words"])
def test_a_pytorch_program_gives_what_pytorch_gives(name: str, torch_models: Path) -> None:
    source = read_source(torch_models / f"{name}.pt2")
    answers = torch_models / f"{name}.npz"
    assert_same_answers(source, arrays(answers, "in"), arrays(answers, "out"))
    assert source.format == "pt2" and source.tools["torch"].startswith("2.")
    if name == "pictures":
        assert [(p.name, p.shape, p.layout) for p in source.graph.inputs] == [
            ("picture", (1, 3, 16, 16), "NCHW"),
            ("extra", (1, 2), ""),
        ]


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("training", UnsupportedFeature, r"training\.pt2: dropout 'dropout' is in training mode"),
        ("counter", UnsupportedFeature, "keeps state between calls, in calls"),
        ("branch", UnsupportedOperator, "higher_order.cond of node 'cond'"),
    ],
)
def test_a_program_that_cannot_be_one_static_graph_is_refused(
    name: str, kind: type[Exception], why: str, torch_models: Path
) -> None:
    with pytest.raises(kind, match=why):
        read_source(torch_models / f"{name}.pt2")


@pytest.mark.frameworks
def test_a_pickle_is_refused_with_what_to_do(torch_models: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"torch\.export\.save"):
        read_source(torch_models / "weights.pt")


@pytest.mark.frameworks
def test_a_hostile_archive_runs_code_in_pytorch_and_none_here(torch_models: Path, tmp_path: Path) -> None:
    import pickle

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "it ran"),)

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, zipfile.ZipFile(torch_models / "classifier.pt2") as whole:
        for entry in whole.infolist():
            hostile = entry.filename.endswith("sample_inputs/model.pt")
            archive.writestr(entry.filename, pickle.dumps(Hostile()) if hostile else whole.read(entry))
    path = tmp_path / "hostile.pt2"
    path.write_bytes(stream.getvalue())
    assert read_source(path).graph.nodes
    assert not (tmp_path / "it ran").exists()
    opened = "import torch, sys; torch.export.load(sys.argv[1])"
    subprocess.run([sys.executable, "-c", opened, str(path)], capture_output=True, timeout=300)
    assert (tmp_path / "it ran").exists(), (
        "PyTorch itself no longer runs it: this test shows nothing any more"
    )


@pytest.mark.frameworks
def test_a_program_becomes_the_same_signed_bundle_each_time(torch_models: Path, tmp_path: Path) -> None:
    key = PrivateKey.generate()
    write_private(key, tmp_path / "private.pem")
    (x,) = arrays(torch_models / "classifier.npz", "in")
    np.savez(tmp_path / "x.npz", x=x)
    options = BuildOptions(
        model=torch_models / "classifier.pt2",
        profiles=["arm-cpu"],
        name="pictures",
        version="1",
        calibration=tmp_path / "x.npz",
        sign_key=tmp_path / "private.pem",
        output=tmp_path / "out",
        limits=Limits(latency="off", min_agreement=0.5),
    )
    assert build(options, lambda text: None).passed
    assert build(replace(options, output=tmp_path / "again"), lambda text: None).passed
    first, second = (tmp_path / folder / "pictures-1-arm-cpu.bundle" for folder in ("out", "again"))
    assert first.read_bytes() == second.read_bytes()
    provenance = open_bundle(first).manifest.provenance
    assert {"torch", "onnxscript", "onnx"} <= set(provenance.tools)
    assert provenance.source_bytes == (torch_models / "classifier.pt2").stat().st_size


# --- Keras and SavedModel ------------------------------------------------------------------------


@pytest.mark.frameworks
def test_a_sequential_keras_model_gives_what_keras_gives(keras_models: Path) -> None:
    source = read_source(keras_models / "classifier.keras")
    answers = keras_models / "classifier.npz"
    assert_same_answers(source, arrays(answers, "in"), arrays(answers, "out"))


@pytest.mark.frameworks
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_gives_what_keras_gives(suffix: str, keras_models: Path) -> None:
    source = read_source(keras_models / f"functional{suffix}")
    answers = keras_models / "functional.npz"
    assert_same_answers(source, arrays(answers, "in"), arrays(answers, "out"))
    assert [(p.name, p.layout) for p in source.graph.inputs] == [("picture", "NHWC"), ("extra", "")]
    assert [p.name for p in source.graph.outputs] == ["kind", "picture_again"]
    assert source.tools.keys() == {"tensorflow", "keras"}


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("custom.keras", "layer 'doubled' is of the custom class 'ours>Doubled'"),
        ("lambda.keras", "layer 'plus' is a Lambda"),
        ("lambda.h5", "layer 'plus' is a Lambda"),
        ("writes", "operator WriteFile of node"),
    ],
)
def test_a_keras_model_with_code_of_its_own_is_refused(name: str, why: str, keras_models: Path) -> None:
    with pytest.raises(UnsupportedFeature, match=why):
        read_source(keras_models / name)


@pytest.mark.frameworks
def test_a_saved_model_converts_by_the_signature_that_is_chosen(keras_models: Path) -> None:
    with pytest.raises(
        SourceInvalid, match=r"several signatures \(dense, open_length\); choose one with --sig"
    ):
        read_source(keras_models / "saved")
    source = read_source(keras_models / "saved", signature="dense")
    answers = keras_models / "saved.npz"
    assert [p.name for p in source.graph.outputs] == ["raw", "scores"]
    want = [*arrays(answers, "raw"), *arrays(answers, "scores")]
    assert_same_answers(source, arrays(answers, "in"), want)
    with pytest.raises(SourceInvalid, match="no signature 'sparse'; it has dense, open_length"):
        read_source(keras_models / "saved", signature="sparse")


@pytest.mark.frameworks
def test_open_sizes_of_a_saved_model_are_fixed_by_the_option(keras_models: Path) -> None:
    with pytest.raises(UnsupportedFeature, match=r"dynamic dimension 1; fix it: --input-shape x=1,N,6"):
        read_source(keras_models / "saved", signature="open_length")
    fixed = FixedInputs({"x": (1, 5, 6)})
    assert read_source(keras_models / "saved", fixed, "open_length").graph.inputs[0].shape == (1, 5, 6)


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["functional.keras", "functional.h5"])
def test_a_truncated_keras_file_is_refused(name: str, keras_models: Path, tmp_path: Path) -> None:
    content = (keras_models / name).read_bytes()
    path = tmp_path / name
    for length in (0, 100, len(content) - 4000):
        path.write_bytes(content[:length])
        with pytest.raises(SourceInvalid, match=name):
            read_source(path)


@pytest.mark.frameworks
def test_inspect_takes_a_folder(keras_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(keras_models / "saved")
    assert cli.run(["inspect", folder, "--signature", "dense", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    size = sum(p.stat().st_size for p in (keras_models / "saved").rglob("*") if p.is_file())
    assert (shown["format"], shown["bytes"]) == ("savedmodel", size)


# --- what needs no framework ---------------------------------------------------------------------


def test_the_digest_of_a_folder_is_what_sha256sum_says(tmp_path: Path) -> None:
    from edge_convert.frameworks.folder import digest_of_folder

    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "a b").write_bytes(b"one")
    (tmp_path / "variables.index").write_bytes(b"two")
    command = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    said = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert digest_of_folder(tmp_path) == "sha256:" + said.stdout.split()[0]
    (tmp_path / "variables.index").write_bytes(b"three")
    assert digest_of_folder(tmp_path) != "sha256:" + said.stdout.split()[0]


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"holds no saved_model\.pb"):
        read_source(tmp_path)


def test_a_signature_is_for_folders_only(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    with pytest.raises(SourceInvalid, match="--signature is for SavedModel folders"):
        read_source(tmp_path / "m.onnx", signature="dense")


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("m.keras", "tensorflow", "tf"), ("m.pt2", "torch", "torch")]
)
def test_a_missing_extra_is_one_line_that_names_it(
    name: str, module: str, extra: str, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('tensorflow', 'keras', 'torch', 'onnxscript', 'h5py'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    if name == "m.pt2":
        content: dict[str, Any] = {"graph_module": {"graph": {"nodes": []}}}
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("m/models/model.json", json.dumps(content))
    else:
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    done = subprocess.run(
        [Path(sys.executable).with_name("edge-convert"), "inspect", tmp_path / name],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "hook")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert f"pip install 'edgefleet[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_child_that_dies_is_a_refusal_with_its_last_words(tmp_path: Path) -> None:
    worker = Worker("this_module_is_not_there", "Nothing", 0)
    with pytest.raises(SourceInvalid, match="Nothing cannot read the model"):
        worker.ask({"do": "convert"})
    worker.close()


def test_a_child_takes_no_more_memory_than_it_may() -> None:
    # far below what it takes to import anything
    from edge_convert.frameworks import worker as workers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "BASE_BYTES", 30 << 20)
        patch.setattr(workers, "STACK_BYTES", 0)
        child = Worker("edge_convert.frameworks.torch_worker", "PyTorch", 0)
        with pytest.raises((SourceInvalid, ModuleNotFoundError)):
            child.ask({"do": "convert"}, content=np.zeros(64 << 20, np.uint8))


def test_a_childs_folder_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    worker = Worker("edge_convert.frameworks.torch_worker", "PyTorch", 0)
    assert list(tmp_path.glob("edge-convert-*"))
    worker.close()
    worker.close()
    assert not list(tmp_path.glob("edge-convert-*"))


def test_last_words_are_the_exception_of_a_traceback() -> None:
    text = "noise\nTraceback (most recent call last):\n  File x\nmine.OddError: found 3\n  expected 4\n"
    assert last_words(text) == "mine.OddError: found 3 expected 4"
    assert last_words("Segmentation fault") == ""
    assert len(last_words("ValueError: " + "x" * 1000)) == 300


def test_a_message_survives_the_wire_and_damage_is_noticed() -> None:
    stream = io.BytesIO(wire.packed({"do": "run"}, {"0": np.arange(3)}))

    def exactly(count: int) -> bytes:
        content = stream.read(count)
        if len(content) < count:
            raise EOFError
        return content

    header, got = wire.read(exactly)
    assert header == {"do": "run"} and got["0"].tolist() == [0, 1, 2]
    with pytest.raises(EOFError):
        wire.read(exactly)
    stream = io.BytesIO(b"\xff" * 64)
    with pytest.raises(ValueError, match="a message of"):
        wire.read(exactly)
