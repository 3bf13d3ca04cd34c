"""`from edge_agent import Model`: numpy in, numpy out, with the same checks as everywhere."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import lineup_models
import numpy as np
import pytest
from agent_bundles import GOLDEN_X, KEY, build, reference
from click.testing import CliRunner
from numpy.typing import NDArray

import edge_agent
from edge_agent import Model
from edge_agent.cli import main
from edge_agent.device.config import follow
from edge_agent.device.home import Home
from edge_agent.errors import InferenceFailed, InputRefused, NoModel
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey
from edge_contracts.trust import KeyStatement, sign_keys


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.bundle"
    path.write_bytes(build())
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "public.pem"
    path.write_bytes(KEY.public.pem)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_an_array_goes_in_and_an_array_comes_out(bundle: Path, key: Path, home: Path) -> None:
    before = GOLDEN_X.copy()
    with Model(bundle, trust=key, home=home) as model:
        first = model(GOLDEN_X)
        second = model(GOLDEN_X[:1])
        assert np.allclose(first, reference(GOLDEN_X), atol=1e-5)
        assert np.array_equal(first[:1], second)
        assert np.array_equal(GOLDEN_X, before)
        assert (model.name, model.version, model.labels) == ("tiny", "1", ("cat", "dog", "fox"))
        assert model.signed_by == KEY.public.key_id
        assert model.bundle.startswith("sha256:")
        assert "tiny 1" in repr(model)


def test_an_answer_tells_latency_and_what_is_suspicious(bundle: Path, key: Path, home: Path) -> None:
    with Model(str(bundle), trust=[str(key)], home=home) as model:
        answer = model.infer({"x": GOLDEN_X * 1000})
        assert answer.samples == 16
        assert answer.flagged == {"out-of-range": 16}
        assert model.infer(GOLDEN_X).outputs["scores"].shape == (16, 3)


def test_what_the_contract_refuses_is_refused(bundle: Path, key: Path, home: Path) -> None:
    with Model(bundle, trust=key, home=home) as model:
        with pytest.raises(InputRefused, match="NaN"):
            model(np.full((1, 4), np.nan, np.float32))
        with pytest.raises(InputRefused, match=r"expected \(n, 4\)"):
            model(np.zeros(4, np.float32))


def test_what_is_no_array_is_refused_with_a_code(bundle: Path, key: Path, home: Path) -> None:
    with Model(bundle, trust=key, home=home) as model:
        for bad in (None, "photo.jpg", [1.0, 2.0, 3.0, 4.0], {"x": [[1.0, 2.0, 3.0, 4.0]]}, {"x": None}):
            for ask in (model, model.infer):
                with pytest.raises(InputRefused, match="expected a numpy array") as error:
                    ask(bad)  # type: ignore[arg-type]
                assert error.value.code == "dtype"


def test_an_answer_tells_how_sure_it_is(tmp_path: Path, key: Path, home: Path) -> None:
    archive = tmp_path / "calibrated.bundle"
    archive.write_bytes(lineup_models.bundle(below=0.5))
    with Model(archive, trust=key, home=home) as model:
        answer = model.infer(np.concatenate([lineup_models.SURE_X, lineup_models.UNSURE_X]))
    assert answer.confidence == pytest.approx((lineup_models.SURE, lineup_models.UNSURE), abs=1e-5)
    assert answer.uncertain == (False, True)


def test_an_answer_without_a_calibration_is_marked_nothing(bundle: Path, key: Path, home: Path) -> None:
    with Model(bundle, trust=key, home=home) as model:
        answer = model.infer(GOLDEN_X)
    assert answer.confidence is None
    assert answer.uncertain == (False,) * 16


def test_a_bundle_that_no_trusted_key_has_signed_is_not_opened(
    bundle: Path, tmp_path: Path, home: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(PrivateKey.generate().public.pem)
    with pytest.raises(ContractError, match="not trusted"):
        Model(bundle, trust=other, home=home)


def test_a_damaged_bundle_is_not_opened(bundle: Path, key: Path, home: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(bytes(content))
    with pytest.raises(ContractError):
        Model(bundle, trust=key, home=home)


def test_without_any_key_the_digests_are_checked_and_that_is_said(
    bundle: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Model(bundle, home=home) as model:
        assert model.signed_by is None
    assert "signature not checked" in caplog.text


def test_the_installed_model_opens_by_itself(bundle: Path, key: Path, home: Path) -> None:
    with pytest.raises(NoModel, match="no model is installed"):
        Model(home=home)
    arguments = ["install", str(bundle), "--trust", str(key), "--home", str(home)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    with Model(home=home) as model:
        assert model.signed_by == KEY.public.key_id
        assert np.allclose(model(GOLDEN_X), reference(GOLDEN_X), atol=1e-5)


def test_a_closed_model_says_so_and_leaves_no_files(
    bundle: Path, key: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    model = Model(bundle, trust=key, home=home)
    assert list(scratch.iterdir())
    model.close()
    model.close()
    assert not list(scratch.iterdir())
    with pytest.raises(InferenceFailed, match="tiny is closed"):
        model(GOLDEN_X)


def test_threads_share_a_model_and_each_gets_its_own_answer(bundle: Path, key: Path, home: Path) -> None:
    expected = reference(GOLDEN_X)
    wrong: list[NDArray[np.float32]] = []
    with Model(bundle, trust=key, home=home) as model:

        def ask(row: int) -> None:
            for _ in range(50):
                scores = model(GOLDEN_X[row : row + 1])
                if not np.allclose(scores, expected[row : row + 1], atol=1e-5):
                    wrong.append(scores)

        threads = [threading.Thread(target=ask, args=(row,)) for row in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import edge_agent, sys; print(sorted({'numpy', 'pydantic', 'click'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Mode'"):
        edge_agent.Mode  # noqa: B018


def test_the_installed_model_opens_although_its_publisher_was_retired_since(
    bundle: Path, key: Path, home: Path
) -> None:
    install = ["install", str(bundle), "--trust", str(key), "--home", str(home)]
    assert CliRunner().invoke(main, install, catch_exceptions=False).exit_code == 0
    successor = PrivateKey.generate().public.base64
    statement = KeyStatement(counter=1, add=(successor,), retire=(KEY.public.key_id,))
    assert follow(Home(home), None, sign_keys(statement, KEY)) is not None
    with Model(home=home) as model:
        assert np.allclose(model(GOLDEN_X), reference(GOLDEN_X), atol=1e-5)
