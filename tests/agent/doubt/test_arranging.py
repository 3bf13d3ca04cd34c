"""`lineup set`: only what was verified, tried and fits gets a place, and nothing half done stays behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import KEY, build, reference, tflite_crashing
from lineup_models import SURE_X, bundle

from edge_agent.device.config import trust, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.device.page import as_text as as_page
from edge_agent.device.status import read_status
from edge_agent.doubt import members, settings
from edge_agent.doubt.arranging import Wishes, arrange, as_text, settle_review, take_away
from edge_agent.doubt.settings import LAST_GOOD, LineupSettings, ReviewSettings
from edge_agent.errors import ContractDiffers, HomeInvalid, NotEnrolled, SettingRefused, TrialFailed
from edge_agent.sealed import make_key
from edge_agent.updates import local
from edge_contracts.bundle import open_bundle
from edge_contracts.errors import BundleInvalid, KeyUnknown
from edge_contracts.keys import PrivateKey


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    place = Home(folder / "home")
    trust(place, KEY.public)
    active = folder / "active.bundle"
    active.write_bytes(bundle(0.6))
    with place.locked():
        local.install(place, active)
    return place.folder


@pytest.fixture
def home(installed: Path, tmp_path: Path) -> Home:
    shutil.copytree(installed, tmp_path / "home")
    return Home(tmp_path / "home")


def file(home: Home, archive: bytes, name: str = "b") -> Path:
    path = home.folder.parent / f"{name}.bundle"
    path.write_bytes(archive)
    return path


def folders(home: Home) -> set[str]:
    parent = home.folder / "lineup"
    return {path.name for path in parent.iterdir() if path.is_dir()} if parent.exists() else set()


def test_a_second_model_is_stored_with_the_way_it_runs(home: Home) -> None:
    archive = bundle(0.5, version="2")
    stored = arrange(home, Wishes.of(second=str(file(home, archive))))
    digest = open_bundle(archive).digest
    assert stored == settings.read_lineup(home)
    assert stored.second == digest
    assert stored.choices[digest].artifact == "float32"
    assert folders(home) == {members.folder_of(home, digest).name}
    assert "second" in as_text(stored)


def test_what_is_not_named_stays_and_what_is_replaced_goes(home: Home) -> None:
    second, arm, other = (open_bundle(bundle(0.5, version=v)) for v in ("2", "3", "4"))
    arrange(home, Wishes.of(second=str(file(home, bundle(0.5, version="2")))))
    arrange(home, Wishes.of(ab=f"{file(home, bundle(0.5, version='3'))}:0.25", experiment="taste"))
    stored = arrange(home, Wishes.of(second=str(file(home, bundle(0.5, version="4")))))
    assert stored.second == other.digest
    assert stored.experiment is not None
    assert (stored.experiment.bundle, stored.experiment.per_mille) == (arm.digest, 250)
    assert stored.choices.keys() == {other.digest, arm.digest}
    assert members.folder_of(home, second.digest).name not in folders(home)
    assert take_away(home, "second").second is None
    assert take_away(home, None) == LineupSettings()
    assert folders(home) == set()


def test_last_good_needs_no_bundle(home: Home) -> None:
    assert arrange(home, Wishes.of(second=LAST_GOOD)).second == LAST_GOOD
    assert folders(home) == set()


@pytest.mark.parametrize(
    ("archive", "refusal"),
    [
        (b"no bundle", BundleInvalid),
        (build(version="2", key=PrivateKey.generate()), KeyUnknown),
        (build(version="2"), ContractDiffers),  # no threshold
        (bundle(0.5, version="2", labels=("cat", "dog", "wolf")), ContractDiffers),
        (bundle(0.5, version="2", task="other"), ContractDiffers),
        (
            build(
                version="2",
                manifest={"confidence": open_bundle(bundle(0.5)).manifest.confidence},
                expected=reference(np.ones((16, 4), np.float32))[:, ::-1].copy(),
            ),
            TrialFailed,
        ),
        (build(version="2", files={"artifacts/float32.tflite": tflite_crashing()}), TrialFailed),
    ],
)
def test_a_bundle_that_must_not_stand_there_leaves_nothing_behind(
    home: Home, archive: bytes, refusal: type[Exception]
) -> None:
    arrange(home, Wishes.of(second=str(file(home, bundle(0.4, version="9"), "before"))))
    before, there = settings.read_lineup(home), folders(home)
    with pytest.raises(refusal):
        arrange(home, Wishes.of(second=str(file(home, archive))))
    assert settings.read_lineup(home) == before
    assert there <= folders(home) <= there | {members.folder_of(home, _digest(archive)).name}
    arrange(home, Wishes.of(second=LAST_GOOD))  # whatever was left is removed by the next
    assert folders(home) == set()


def _digest(archive: bytes) -> str:
    return open_bundle(archive).digest if archive.startswith(b"PK") else "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "text", ["b.bundle", "b.bundle:2", "b.bundle:-0.1", ":0.5", "b.bundle:half", "b:nan"]
)
def test_an_arm_is_a_bundle_and_a_share(text: str) -> None:
    with pytest.raises(SettingRefused, match="BUNDLE:SHARE"):
        Wishes.of(ab=text)


def test_an_experiment_without_an_arm_is_refused(home: Home) -> None:
    with pytest.raises(SettingRefused, match="--ab"):
        arrange(home, Wishes.of(experiment="taste"))


def test_nobody_is_trusted_on_a_new_device(tmp_path: Path) -> None:
    place = Home(tmp_path / "home")
    (tmp_path / "b.bundle").write_bytes(bundle(0.5))
    with pytest.raises(NotEnrolled):
        arrange(place, Wishes.of(second=str(tmp_path / "b.bundle")))


def test_a_damaged_document_is_refused_and_says_what_to_do(home: Home) -> None:
    settings.lineup_path(home).write_text('{"format": "edgefleet.lineup/1", "secnd": null}')
    with pytest.raises(HomeInvalid, match=r"secnd.*remove the file"):
        settings.read_lineup(home)


def test_settings_about_reviews_are_changed_one_by_one(home: Home) -> None:
    assert settle_review(home, {}) == ReviewSettings()
    assert not settings.review_path(home).exists()
    settle_review(home, {"max_count": 7})
    assert settle_review(home, {"keep": False}) == ReviewSettings(max_count=7, keep=False)
    with pytest.raises(SettingRefused, match="max_count"):
        settle_review(home, {"max_count": -1})
    assert settings.read_review(home).max_count == 7


def test_a_folder_that_nobody_names_is_removed_also_when_its_removal_was_cut_short(home: Home) -> None:
    for name in ("dead", "half.old", "half.new"):
        (home.folder / "lineup" / name).mkdir(parents=True)
    members.tidy(home, LineupSettings())
    assert folders(home) == set()


def test_a_shadow_keeps_its_budget_and_its_budget_can_be_changed_alone(home: Home) -> None:
    with pytest.raises(SettingRefused, match="give --shadow"):
        arrange(home, Wishes.of(shadow_share=0.5))
    archive = bundle(None, version="2")
    stored = arrange(home, Wishes.of(shadow=file(home, archive), shadow_share=0.05, shadow_cpu=0.2))
    assert stored.shadow is not None
    assert (stored.shadow.bundle, stored.shadow.per_mille) == (open_bundle(archive).digest, 50)
    changed = arrange(home, Wishes.of(shadow_memory=100, shadow_latency=20)).shadow
    assert changed is not None
    assert (changed.memory_bytes, changed.latency_ms, changed.cpu_share) == (100 << 20, 20, 0.2)
    assert "sees 5 % of the inputs, at 20% of a core, 100 MB, 20 ms" in as_text(settings.read_lineup(home))


def test_a_shadow_that_is_larger_than_its_budget_is_refused(home: Home) -> None:
    with pytest.raises(TrialFailed, match="memory"):
        arrange(home, Wishes.of(shadow=file(home, bundle(version="2")), shadow_memory=1))
    assert settings.read_lineup(home).shadow is None


def test_on_a_device_that_encrypts_its_models_these_are_encrypted_too(home: Home) -> None:
    make_key(home.folder)
    archive = bundle(0.5, version="2")
    stored = arrange(home, Wishes.of(second=str(file(home, archive))))
    digest = open_bundle(archive).digest
    folder = members.folder_of(home, digest)
    assert not list(folder.rglob("*.tflite"))
    verified = members.verify_folder(folder, digest, trusted_publishers(home, None))
    serving = members.open_member(folder, verified, members.choice_of(stored, digest), "second")
    np.testing.assert_allclose(serving.infer({"x": SURE_X}).outputs["scores"], reference(SURE_X), atol=1e-5)
    serving.session.close()


def test_status_says_who_stands_beside_the_active_model(home: Home) -> None:
    arrange(home, Wishes.of(second=LAST_GOOD))
    assert as_page(read_status(home), 0.0).count("beside it") == 1
    settings.lineup_path(home).write_text("{")
    assert "remove the file" in as_page(read_status(home), 0.0)
