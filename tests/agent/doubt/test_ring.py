"""The review ring: never above its bounds, nothing readable without the key, whole after any cut."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_agent.doubt.ring import Bounds, Head, ReviewRing
from edge_agent.doubt.vault import Vault
from edge_agent.errors import HomeInvalid, ReviewDamaged

BUNDLE = "sha256:" + "ab" * 32
X = np.arange(64, dtype=np.float32).reshape(1, 64)
WIDE = Bounds(1 << 20, 100)


def head(name: str, **more: object) -> Head:
    return Head.model_validate(
        {"request": name, "time_ms": 1, "bundle": BUNDLE, "artifact": "int8", "reason": "uncertain"} | more
    )


@pytest.fixture
def ring(tmp_path: Path) -> ReviewRing:
    return ReviewRing(tmp_path / "review", tmp_path / "review.key")


def names(ring: ReviewRing) -> list[str]:
    return [entry.head.request if entry.head else "damaged" for entry in ring.entries()]


def size(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in (tmp_path / "review").iterdir())


def test_what_is_kept_comes_back_as_it_was(ring: ReviewRing) -> None:
    assert ring.keep(head("a", confidence=0.4, answer=2, answer_name="fox"), {"x": X}, WIDE)
    (entry,) = ring.entries()
    found, inputs = ring.load(entry.number)
    assert found == entry.head == head("a", confidence=0.4, answer=2, answer_name="fox")
    np.testing.assert_array_equal(inputs["x"], X)


def test_nothing_of_it_is_on_the_disk_in_clear_and_only_the_owner_may_look(
    ring: ReviewRing, tmp_path: Path
) -> None:
    ring.keep(head("a-telling-name"), {"x": X}, WIDE)
    (path,) = (tmp_path / "review").glob("*.review")
    assert b"telling" not in path.read_bytes()
    assert X.tobytes()[:32] not in path.read_bytes()
    for place in (path, tmp_path / "review.key", tmp_path / "review"):
        assert place.stat().st_mode & 0o077 == 0


def test_without_the_key_nothing_can_be_read(ring: ReviewRing, tmp_path: Path) -> None:
    ring.keep(head("a"), {"x": X}, WIDE)
    (tmp_path / "review.key").write_bytes(os.urandom(32))
    assert names(ring) == ["damaged"]
    with pytest.raises(ReviewDamaged, match="another key"):
        ring.load(0)


@pytest.mark.parametrize("fault", ["open-to-all", "short", "gone"])
def test_a_key_that_cannot_be_trusted_is_refused(ring: ReviewRing, tmp_path: Path, fault: str) -> None:
    ring.keep(head("a"), {"x": X}, WIDE)
    key = tmp_path / "review.key"
    if fault == "open-to-all":
        key.chmod(0o644)
    elif fault == "short":
        key.write_bytes(b"short")
    else:
        key.unlink()
    with pytest.raises(HomeInvalid):
        ring.entries()


def test_it_never_exceeds_its_bytes_not_even_while_it_writes(
    ring: ReviewRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    bounds, largest = Bounds(6000, 1000), 0
    replace = os.replace

    def watched(source: str, target: str) -> None:
        nonlocal largest
        largest = max(largest, size(tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    for number in range(40):
        values = rng.normal(0, 1, (1, int(rng.integers(10, 400)))).astype(np.float32)
        ring.keep(head(f"n{number}"), {"x": values}, bounds)
        if number % 7 == 0:
            ring.label(f"n{number}", lambda _: (1, "dog"), bounds)
        assert size(tmp_path) <= 6000
    assert 3000 < largest <= 6000
    assert names(ring)[-1] == "n39"


def test_it_never_holds_more_than_its_number_and_the_oldest_go(ring: ReviewRing) -> None:
    for number in range(10):
        ring.keep(head(f"n{number}"), {"x": X}, Bounds(1 << 20, 3))
    assert names(ring) == ["n7", "n8", "n9"]


def test_bounds_that_became_smaller_hold_from_the_next_on(ring: ReviewRing) -> None:
    for number in range(6):
        ring.keep(head(f"n{number}"), {"x": X}, WIDE)
    ring.keep(head("last"), {"x": X}, Bounds(1 << 20, 2))
    assert names(ring) == ["n5", "last"]


@pytest.mark.parametrize("bounds", [Bounds(100, 10), Bounds(1 << 20, 0)])
def test_what_alone_is_larger_than_the_ring_is_not_kept_and_pushes_nothing_out(
    ring: ReviewRing, bounds: Bounds
) -> None:
    ring.keep(head("a"), {"x": X}, WIDE)
    assert not ring.keep(head("b"), {"x": X}, bounds)
    assert names(ring) == ["a"]


def test_cut_off_at_any_byte_it_costs_that_input_only(ring: ReviewRing, tmp_path: Path) -> None:
    for name in ("before", "victim", "after"):
        ring.keep(head(name), {"x": X}, WIDE)
    victim = tmp_path / "review" / "000000000001.review"
    whole = victim.read_bytes()
    for length in range(len(whole)):
        victim.write_bytes(whole[:length])
        found = names(ring)
        assert found in (["before", "damaged", "after"], ["before", "victim", "after"])
        with pytest.raises(ReviewDamaged):
            ring.load(1)
        assert ring.load(2)[0].request == "after"
    assert ring.keep(head("next"), {"x": X}, WIDE)
    victim.write_bytes(whole[:40])
    assert names(ring) == ["before", "damaged", "after", "next"]


@pytest.mark.parametrize("place", [0, 5, 40, -1])
def test_a_changed_byte_is_noticed(ring: ReviewRing, tmp_path: Path, place: int) -> None:
    ring.keep(head("a"), {"x": X}, WIDE)
    path = tmp_path / "review" / "000000000000.review"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReviewDamaged):
        ring.load(0)


def test_one_input_cannot_be_put_in_the_place_of_another(ring: ReviewRing, tmp_path: Path) -> None:
    for name in ("a", "b"):
        ring.keep(head(name), {"x": X}, WIDE)
    folder = tmp_path / "review"
    (folder / "000000000001.review").write_bytes((folder / "000000000000.review").read_bytes())
    assert names(ring) == ["a", "damaged"]


def test_what_a_power_cut_left_half_written_is_removed(ring: ReviewRing, tmp_path: Path) -> None:
    ring.keep(head("a"), {"x": X}, WIDE)
    (tmp_path / "review" / "000000000001.review.new").write_bytes(b"half")
    assert names(ring) == ["a"]
    ring.keep(head("b"), {"x": X}, WIDE)
    assert names(ring) == ["a", "b"]
    assert not list((tmp_path / "review").glob("*.new"))


def test_a_label_is_noted_with_the_newest_of_that_name(ring: ReviewRing) -> None:
    for name in ("same", "other", "same"):
        ring.keep(head(name), {"x": X}, WIDE)
    labelled = ring.label("same", lambda _: (2, "fox"), WIDE)
    assert labelled is not None
    assert labelled.label_name == "fox"
    assert [entry.head.label for entry in ring.entries() if entry.head] == [None, None, 2]
    np.testing.assert_array_equal(ring.load(2)[1]["x"], X)
    assert ring.label("unknown", lambda _: (2, "fox"), WIDE) is None


def test_clearing_forgets_the_key_too(ring: ReviewRing, tmp_path: Path) -> None:
    ring.keep(head("a"), {"x": X}, WIDE)
    old = (tmp_path / "review.key").read_bytes()
    copy = (tmp_path / "review" / "000000000000.review").read_bytes()
    assert ring.clear() == 1
    assert names(ring) == []
    assert not (tmp_path / "review.key").exists()
    ring.keep(head("b"), {"x": X}, WIDE)
    assert (tmp_path / "review.key").read_bytes() != old
    (tmp_path / "review" / "000000000000.review").write_bytes(copy)  # from a backup of the disk
    assert names(ring) == ["damaged"]


def test_an_empty_ring_makes_no_file(ring: ReviewRing, tmp_path: Path) -> None:
    assert ring.entries() == []
    assert ring.clear() == 0
    assert ring.label("a", lambda _: (1, "dog"), WIDE) is None
    assert not (tmp_path / "review.key").exists()


@pytest.mark.parametrize(
    "name", ["\u00b2.review", "7.review", "\u0663" * 12 + ".review", "000000000002.review"]
)
def test_what_is_no_kept_input_is_neither_counted_nor_in_the_way(
    ring: ReviewRing, tmp_path: Path, name: str
) -> None:
    for number in range(2):
        ring.keep(head(f"r{number}"), {"x": X}, WIDE)
    stranger = tmp_path / "review" / f"{name}.review"
    stranger.mkdir()
    assert [entry.number for entry in ring.entries()] == [0, 1]
    assert ring.keep(head("r2"), {"x": X}, Bounds(WIDE.max_bytes, 2))
    assert names(ring) == ["r1", "r2"]
    assert ring.clear() == 2
    assert stranger.exists()


def test_a_key_that_is_a_folder_is_refused_on_one_line(ring: ReviewRing, tmp_path: Path) -> None:
    (tmp_path / "review.key").mkdir()
    with pytest.raises(HomeInvalid, match=r"review\.key is no file"):
        ring.keep(head("r"), {"x": X}, WIDE)


def test_an_oldest_input_that_cannot_be_removed_is_refused_and_not_a_crash(
    ring: ReviewRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.keep(head("r0"), {"x": X}, WIDE)

    def broken(path: Path, missing_ok: bool = False) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "unlink", broken)
    with pytest.raises(HomeInvalid, match=r"cannot remove .*Input/output error"):
        ring.keep(head("r1"), {"x": X}, Bounds(WIDE.max_bytes, 1))


def test_a_disk_that_cannot_be_written_is_refused_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "review").write_text("a file in its place")
    with pytest.raises(HomeInvalid, match="cannot write"):
        ReviewRing(tmp_path / "review", tmp_path / "key").keep(head("a"), {"x": X}, WIDE)


def test_two_that_keep_at_the_same_time_lose_nothing(ring: ReviewRing) -> None:
    def work(who: str) -> None:
        for number in range(20):
            ring.keep(head(f"{who}{number}"), {"x": X}, WIDE)

    threads = [threading.Thread(target=work, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(ring)) == sorted(f"{who}{number}" for who in "ab" for number in range(20))


def test_two_that_make_the_key_at_the_same_time_get_the_same(tmp_path: Path) -> None:
    vaults: list[Vault] = []
    threads = [
        threading.Thread(target=lambda: vaults.append(Vault.at(tmp_path / "key", make=True))) for _ in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = vaults[0].seal(b"secret", "place")
    assert all(vault.open(sealed, "place") == b"secret" for vault in vaults)
