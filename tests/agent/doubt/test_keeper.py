"""The keeper: what the documents name is opened and answers; what must not be is left out and reported."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent_bundles import GOLDEN_X, KEY, build, reference
from agent_fleet import until
from lineup_models import SURE_X, UNSURE_X, ask, bundle, contrary, open_serving

from edge_agent.device.config import read_config, trust, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.doubt import members, settings
from edge_agent.doubt.arranging import Wishes, arrange, settle_review, take_away
from edge_agent.doubt.keeper import LASTED_S, LOOK_S, Keeper
from edge_agent.doubt.outbound import Sender
from edge_agent.doubt.routing import is_chosen
from edge_agent.doubt.settings import (
    LAST_GOOD,
    ExperimentSettings,
    LineupSettings,
    ReviewSettings,
    ShadowSettings,
)
from edge_agent.errors import FeedbackRefused
from edge_agent.inference.engine import Engine
from edge_agent.inference.request import Reply
from edge_agent.updates import local
from edge_agent.updates.slots import Tell
from edge_agent.updates.store import Store
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey
from edge_contracts.lineup import ShadowCounts
from edge_contracts.messages import Window
from edge_contracts.withdrawal import Withdrawn

ACTIVE = bundle(0.6)


class Device:
    """A home with an active model, an engine, and a keeper whose clock the test turns."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.folder = folder
        self.told: list[Tell] = []
        self.windows: list[Window] = []
        self.now_s = 0.0
        self.start()

    def seat(
        self,
        second: bytes | None = None,
        arm_b: bytes | None = None,
        share: int = 500,
        shadow: bytes | None = None,
    ) -> None:
        """What `lineup set` leaves on the disk; its checks, in a child process, are test_arranging's."""
        for archive in (second, arm_b, shadow):
            if archive is not None:
                opened = open_bundle(archive)
                place = members.folder_of(self.home, opened.digest)
                place.parent.mkdir(exist_ok=True)
                if not place.exists():
                    opened.extract(place)
        experiment = None
        if arm_b is not None:
            experiment = ExperimentSettings(name="taste", bundle=open_bundle(arm_b).digest, per_mille=share)
        digest = None if second is None else open_bundle(second).digest
        cast = None
        if shadow is not None:
            cast = ShadowSettings(bundle=open_bundle(shadow).digest, per_mille=1000, cpu_share=1)
        settings.store_lineup(self.home, LineupSettings(second=digest, experiment=experiment, shadow=cast))

    def start(self) -> None:
        trusted = trusted_publishers(self.home, read_config(self.home))
        self.keeper = Keeper(self.home, lambda: trusted, self.told.append, self.windows.append)
        self.engine = Engine(lineup=self.keeper.lineup)
        self.engine.switch(open_serving(self.folder, ACTIVE))
        self.engine.start()

    def tick(self) -> None:
        self.now_s += LOOK_S
        self.keeper.tick(self.now_s, self.engine, Store(self.home).slots)

    def ask(self, x: object = UNSURE_X, origin: str = "", key: str = "") -> Reply:
        return self.engine.submit(ask(x, origin, key)).result(10)

    def stop(self) -> None:
        self.engine.stop()
        self.keeper.stop(self.engine)
        self.engine.switch(None)

    def events(self) -> list[tuple[str, str]]:
        told = [(tell.event, tell.code) for tell in self.told]
        self.told.clear()
        return told


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    home = Home(folder / "home")
    trust(home, KEY.public)
    for archive in (bundle(0.35, version="0"), ACTIVE):
        (folder / "active.bundle").write_bytes(archive)
        with home.locked():
            local.install(home, folder / "active.bundle")
    return home.folder


@pytest.fixture
def device(installed: Path, tmp_path: Path) -> Iterator[Device]:
    shutil.copytree(installed, tmp_path / "home")
    made = Device(tmp_path)
    yield made
    made.stop()


def test_a_second_model_answers_soon_after_it_was_set_and_until_it_is_taken_away(device: Device) -> None:
    device.tick()
    assert device.ask().uncertain
    device.seat(bundle(0.3, version="2"))
    device.tick()
    assert device.events() == [("lineup-opened", "")]
    assert (device.ask().version, device.ask().uncertain) == ("2", False)
    take_away(device.home, None)
    device.tick()
    assert device.ask().uncertain
    (last,) = device.windows
    assert (last.inferences, last.lineup is not None) == (2, True)


def test_last_good_is_the_bundle_that_was_active_before(device: Device) -> None:
    arrange(device.home, Wishes.of(second=LAST_GOOD))
    device.tick()
    reply = device.ask()
    assert (reply.version, reply.uncertain) == ("0", False)


def test_an_experiment_divides_as_the_hash_says_over_restarts(device: Device) -> None:
    device.seat(arm_b=bundle(0.1, version="b"))
    keys = [f"k{number}" for number in range(30)]
    for _ in range(2):
        device.tick()
        for key in keys:
            version = device.ask(SURE_X, key=key).version
            assert (version == "b") == is_chosen("taste", key, 500)
        device.stop()
        device.start()


def test_a_bundle_that_was_changed_on_the_disk_is_left_out_and_reported(device: Device) -> None:
    archive = bundle(0.3, version="2")
    device.seat(archive)
    model = members.folder_of(device.home, open_bundle(archive).digest) / "artifacts" / "float32.tflite"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    device.tick()
    assert device.events() == [("lineup-refused", "digest-mismatch")]
    assert device.ask().path == ("active:unsure",)


def test_a_bundle_whose_folder_is_gone_is_left_out_and_reported(device: Device) -> None:
    archive = bundle(0.3, version="2")
    device.seat(archive)
    members.tidy(device.home, LineupSettings())
    device.tick()
    assert [event for event, _ in device.events()] == ["lineup-refused"]
    assert device.ask().path == ("active:unsure",)


def test_a_new_active_model_with_other_labels_loses_its_second(device: Device) -> None:
    device.seat(bundle(0.3, version="2"))
    device.tick()
    device.events()
    other = bundle(0.6, version="5", labels=("cat", "dog", "wolf"))
    device.engine.switch(open_serving(device.folder, other))
    device.tick()
    assert device.events() == [("lineup-refused", "contract-differs")]
    assert device.ask().path == ("active:unsure",)


def test_the_active_bundle_is_not_also_its_own_second(device: Device) -> None:
    device.seat(ACTIVE)
    device.tick()
    assert device.ask().path == ("active:unsure",)


def test_members_that_kill_the_agent_again_and_again_are_set_aside(device: Device) -> None:
    device.seat(bundle(0.3, version="2"))
    for _ in range(members.MAX_STARTS):
        device.tick()
        assert device.ask().version == "2"
        device.engine.stop()  # no `Keeper.stop`: as if the process had died
        device.start()
    device.tick()
    assert device.events()[-1] == ("lineup-set-aside", "crash")
    assert device.ask().path == ("active:unsure",)
    take_away(device.home, None)
    device.seat(bundle(0.3, version="3"))
    members.note_starts(device.home, 0)  # as `lineup set` does
    device.stop()
    device.start()
    device.tick()
    assert device.ask().version == "3"


def test_a_start_that_lasted_or_ended_in_good_order_counts_as_none(device: Device) -> None:
    device.seat(bundle(0.3, version="2"))
    device.tick()
    assert members.failed_starts(device.home) == 1
    device.now_s += LASTED_S
    device.tick()
    assert members.failed_starts(device.home) == 0
    device.stop()
    device.start()
    device.tick()
    assert members.failed_starts(device.home) == 1
    device.stop()
    assert members.failed_starts(device.home) == 0
    device.start()


def test_a_damaged_document_changes_nothing_and_is_reported(device: Device) -> None:
    device.seat(bundle(0.3, version="2"))
    device.tick()
    device.events()
    settings.lineup_path(device.home).write_text("{")
    device.tick()
    assert device.events() == [("lineup-unreadable", "home-invalid")]
    assert device.ask().version == "2"


def test_a_damaged_word_about_the_review_costs_no_second_model(device: Device) -> None:
    device.seat(bundle(0.3, version="2"))
    settings.review_path(device.home).write_text("{")
    device.tick()
    assert device.events() == [("lineup-unreadable", "home-invalid"), ("lineup-opened", "")]
    assert device.ask().version == "2"


def test_uncertain_inputs_are_kept_and_labels_find_them(device: Device) -> None:
    device.tick()
    device.ask(UNSURE_X, origin="u")
    device.ask(SURE_X, origin="s")
    device.keeper.reviewer.settle()
    (entry,) = device.keeper.reviewer.ring.entries()
    assert entry.head is not None
    assert (entry.head.request, entry.head.answer_name, entry.head.reason) == ("u", "cat", "uncertain")
    labelled = device.keeper.feedback("u", "dog")
    assert (labelled.correct, labelled.kept) == (False, True)
    assert (device.keeper.feedback("s", "cat").correct, str(labelled)[:21]) == (True, "the answer was wrong;")
    window = device.engine.cut(trial=False)
    assert window is not None
    assert window.lineup is not None
    assert (window.lineup.labelled, window.lineup.correct) == (2, 1)
    (entry,) = device.keeper.reviewer.ring.entries()
    assert entry.head is not None
    assert (entry.head.label, entry.head.label_name) == (1, "dog")


def test_an_input_that_comes_with_its_label_is_kept_although_the_model_was_sure(device: Device) -> None:
    device.tick()
    device.ask(SURE_X, origin="s")
    assert device.keeper.feedback("s", "fox", {"x": SURE_X}).kept
    (entry,) = device.keeper.reviewer.ring.entries()
    assert entry.head is not None
    assert (entry.head.reason, entry.head.answer, entry.head.label) == ("label", 0, 2)


def test_after_a_restart_a_label_finds_its_answer_and_counts(device: Device) -> None:
    device.tick()
    device.ask(SURE_X, origin="s")
    device.stop()
    device.start()
    device.tick()
    assert device.keeper.feedback("s", "cat").correct is True
    window = device.engine.cut(trial=False)
    assert window is not None
    assert window.lineup is not None
    assert (window.lineup.labelled, window.lineup.correct) == (1, 1)


def test_when_answers_are_lost_the_kept_input_still_takes_its_label(device: Device) -> None:
    device.tick()
    device.ask(UNSURE_X, origin="u")
    device.stop()
    shutil.rmtree(device.home.folder / "answers")
    device.start()
    device.tick()
    labelled = device.keeper.feedback("u", "fox")
    assert (labelled.correct, labelled.kept) == (None, True)
    with pytest.raises(FeedbackRefused, match="no class"):
        device.keeper.feedback("u", "wolf")
    with pytest.raises(FeedbackRefused, match="waits for a label"):
        device.keeper.feedback("other", "fox")


def test_nothing_is_kept_when_that_is_settled_so(device: Device) -> None:
    settle_review(device.home, {"keep": False})
    device.tick()
    device.ask(UNSURE_X, origin="u")
    device.keeper.reviewer.settle()
    assert device.keeper.reviewer.ring.entries() == []


def test_nothing_is_kept_or_forgotten_while_nobody_can_read_whether_it_may_be(device: Device) -> None:
    device.tick()
    device.ask(SURE_X, origin="before")
    device.stop()
    settings.review_path(device.home).write_text('{"format": "edgefleet.review-settings/1", "keep": fal')
    device.start()
    device.tick()
    device.ask(UNSURE_X, origin="u")
    device.keeper.reviewer.settle()
    assert device.keeper.reviewer.ring.entries() == []
    assert device.keeper.feedback("before", "cat").correct is True
    settings.review_path(device.home).unlink()
    device.tick()
    device.ask(UNSURE_X, origin="v")
    device.keeper.reviewer.settle()
    assert len(device.keeper.reviewer.ring.entries()) == 1


def test_a_minute_does_not_begin_anew_with_every_change_of_the_device(device: Device) -> None:
    settle_review(device.home, {"per_minute": 3})
    for change in range(6):
        settings.store_lineup(device.home, LineupSettings())  # as an update does, at each of its steps
        device.tick()
        for number in range(4):
            device.ask(UNSURE_X, origin=f"{change}-{number}")
        device.keeper.reviewer.settle()
    assert len(device.keeper.reviewer.ring.entries()) <= 6


def test_a_storm_of_doubt_keeps_no_more_than_a_minute_allows(device: Device) -> None:
    settle_review(device.home, {"per_minute": 3})
    device.tick()
    for number in range(20):
        device.ask(UNSURE_X, origin=f"u{number}")
    device.keeper.reviewer.settle()
    assert 1 <= len(device.keeper.reviewer.ring.entries()) <= 3


def test_a_lying_confidence_is_told_and_is_in_the_windows(device: Device) -> None:
    device.tick()
    for number in range(40):
        device.ask(SURE_X, origin=f"s{number}")
        device.keeper.feedback(f"s{number}", "dog")
    device.tick()
    assert device.events() == [("confidence-overstated", "overstated")]
    window = device.engine.cut(trial=False)
    assert window is not None
    assert window.lineup is not None
    assert window.lineup.overstated


def shadow_of(device: Device) -> ShadowCounts | None:
    device.ask(SURE_X)
    window = device.engine.cut(trial=False)
    assert window is not None
    assert window.lineup is not None
    return window.lineup.shadow


def test_a_shadow_looks_on_as_long_as_the_document_says(device: Device) -> None:
    candidate = contrary()
    device.seat(shadow=candidate)
    device.tick()
    assert device.events() == [("shadow-started", "")]
    found = until(lambda: (counts := shadow_of(device)) and counts.compared and counts, "it compares")
    assert (found.bundle, found.agreed) == (open_bundle(candidate).digest, 0)
    device.seat(second=bundle(0.3, version="2"), shadow=candidate)
    device.tick()
    assert device.events() == [("lineup-opened", "")]  # the shadow was not disturbed
    device.seat()
    device.tick()
    assert shadow_of(device) is None


def test_a_shadow_that_must_not_run_is_reported(device: Device) -> None:
    device.seat(shadow=contrary(labels=("cat", "dog", "wolf")))
    device.tick()
    assert device.events() == [("lineup-refused", "contract-differs")]
    assert shadow_of(device) is None


def test_a_shadow_that_stops_is_told_as_an_event(device: Device) -> None:
    wrong = build(version="3", expected=reference(GOLDEN_X)[:, ::-1].copy())
    device.seat(shadow=wrong)
    device.tick()
    device.events()

    def told() -> list[tuple[str, str]]:
        device.tick()
        return device.events()

    assert until(told, "it is told") == [("shadow-stopped", "golden-mismatch")]
    counts = shadow_of(device)
    assert counts is not None
    assert (counts.state, counts.reason) == ("stopped", "golden-mismatch")


def test_upload_begins_when_the_document_allows_it_on_a_device_of_a_fleet(device: Device) -> None:
    allowed = ReviewSettings(upload_to="http://127.0.0.1:9/review", bytes_per_day=1000)
    device.tick()
    settings.store_review(device.home, allowed)
    device.tick()
    assert device.events() == []  # no key to sign with
    settings.store_review(device.home, ReviewSettings())
    device.tick()
    device.keeper.sender = Sender("fleet", "d1", PrivateKey.generate())
    settings.store_review(device.home, allowed)
    device.tick()
    assert device.events() == [("review-upload-allowed", "")]


def test_what_the_fleet_withdraws_is_closed_wherever_it_stands_beside_what_answers(
    device: Device,
) -> None:
    second, arm_b, shadow = (bundle(0.3, version=version) for version in ("2", "3", "4"))
    device.seat(second, arm_b, shadow=shadow)
    device.tick()
    assert {event for event, _ in device.events()} == {"lineup-opened", "shadow-started"}
    store = Store(device.home)
    gone = tuple(open_bundle(archive).digest for archive in (second, arm_b, shadow))
    store.save(replace(store.slots, withdrawn=Withdrawn(n=1, bundles=gone)))
    device.tick()
    assert device.events() == [("lineup-refused", "install-refused")] * 2
    assert device.keeper.lineup.cut_others() == []
    reply = device.ask()
    assert (reply.version, reply.uncertain) == ("1", True)
    store.save(replace(store.slots, withdrawn=Withdrawn(n=2)))
    device.tick()
    assert {event for event, _ in device.events()} == {"lineup-opened", "shadow-started"}
