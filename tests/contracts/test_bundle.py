"""Bundles: what is packed comes out, and nothing unsafe gets in."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import samples

from edge_contracts.bundle import MAX_MANIFEST_BYTES, open_bundle, open_folder, pack
from edge_contracts.digest import digest_of
from edge_contracts.errors import BundleInvalid, ContractError, DigestMismatch, FormatInvalid, FormatTooNew
from edge_contracts.keys import TrustedKeys
from edge_contracts.model import canonical_json
from edge_contracts.signing import verify


def rebuilt(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> bytes:
    """The sample bundle with its files changed, zipped anew without any care."""
    with zipfile.ZipFile(io.BytesIO(samples.archive())) as source:
        files = {name: source.read(name) for name in source.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in change(files).items():
            target.writestr(name, content)
    return stream.getvalue()


def test_what_is_packed_comes_out() -> None:
    bundle = open_bundle(samples.archive())
    assert bundle.manifest == samples.manifest()
    assert dict(bundle.contents) == samples.contents()


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert samples.archive() == samples.archive()


def test_an_extracted_bundle_reads_back_the_same(tmp_path: Path) -> None:
    bundle = open_bundle(samples.archive())
    bundle.extract(tmp_path / "slot")
    again = open_folder(tmp_path / "slot")
    assert (again.digest, again.envelope, again.contents) == (bundle.digest, bundle.envelope, bundle.contents)


def test_every_changed_byte_of_a_file_is_noticed() -> None:
    path = "artifacts/float32.tflite"
    for position in range(len(samples.MODEL)):
        broken = bytearray(samples.MODEL)
        broken[position] ^= 1
        with pytest.raises(DigestMismatch, match=path):
            open_bundle(rebuilt(lambda files, b=bytes(broken): files | {path: b}))  # type: ignore[misc]


def test_no_changed_byte_of_the_archive_gives_another_bundle_or_a_crash() -> None:
    whole = samples.archive()
    for position in range(0, len(whole), 3):
        broken = bytearray(whole)
        broken[position] ^= 0x20
        try:
            bundle = open_bundle(bytes(broken))
        except ContractError:
            continue
        # bytes that zip readers do not use (dates, attributes): then everything that counts is the same
        assert dict(bundle.contents) == samples.contents()
        assert bundle.manifest == samples.manifest()


ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 70,
    1e308,
    "",
    "x" * 5000,
    "../../etc/passwd",
    "\0",
    [],
    [[]],
    {},
)


def odd_manifest(random: Random) -> dict[str, Any]:
    """The sample manifest with one of its values made something else, removed, or put in twice."""
    document: dict[str, Any] = json.loads(canonical_json(samples.manifest()))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = random.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.8:
            place = inner
            continue
        what = random.randrange(4)
        if what == 0:
            del place[key]
        elif what == 1 and isinstance(place, dict):
            place[random.choice(["extra", "__class__", str(key).upper()])] = inner
        elif what == 1:
            place.append(inner)
        else:
            place[key] = random.choice(ODD)
        return document


def test_no_fuzzed_manifest_is_a_crash_or_gets_past_its_signature() -> None:
    random, opened = Random(7), 0
    for _ in range(600):
        content = canonical_json(odd_manifest(random))
        if content == canonical_json(samples.manifest()):
            continue
        try:
            bundle = open_bundle(rebuilt(lambda files, c=content: files | {"manifest.json": c}))  # type: ignore[misc]
        except ContractError as error:
            assert "\n" not in str(error)
            continue
        opened += 1  # another manifest that is one: it has no signature
        with pytest.raises(ContractError):
            verify(bundle, TrustedKeys({samples.KEY.public.key_id: samples.KEY.public}))
    assert opened > 5, "the fuzzer reaches what lies behind the first check"


@pytest.mark.parametrize("length", [0, 1, 4, 100, 500])
def test_a_truncated_bundle_is_refused(length: int) -> None:
    with pytest.raises(BundleInvalid, match="not a bundle, or is damaged"):
        open_bundle(samples.archive()[:length])


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "artifacts/../../evil", "C:/evil", "artifacts\\..\\evil"]
)
def test_a_path_outside_the_folder_is_refused(name: str) -> None:
    with pytest.raises(BundleInvalid, match="outside its folder"):
        open_bundle(rebuilt(lambda files: files | {name: b"x"}))


def test_a_link_is_refused() -> None:
    stream = io.BytesIO(samples.archive())
    with zipfile.ZipFile(stream, "a") as archive:
        entry = zipfile.ZipInfo("artifacts/link")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(BundleInvalid, match="not a plain file"):
        open_bundle(stream.getvalue())


def test_a_file_that_the_manifest_does_not_name_is_refused() -> None:
    with pytest.raises(BundleInvalid, match=r"'artifacts/extra' is not in the manifest"):
        open_bundle(rebuilt(lambda files: files | {"artifacts/extra": b"x"}))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BundleInvalid, match=r"'golden.npz' is missing"):
        open_bundle(rebuilt(lambda files: {k: v for k, v in files.items() if k != "golden.npz"}))


def test_a_bomb_is_refused_by_its_stated_size_alone() -> None:
    with pytest.raises(BundleInvalid, match=f"at most {MAX_MANIFEST_BYTES}"):
        open_bundle(rebuilt(lambda files: files | {"manifest.json": b" " * (MAX_MANIFEST_BYTES + 1)}))
    with pytest.raises(BundleInvalid, match="unpacks to 200000000 bytes, the manifest says"):
        open_bundle(rebuilt(lambda files: files | {"golden.npz": bytes(200_000_000)}))


def test_a_bomb_that_lies_about_its_size_is_cut_at_the_stated_one() -> None:
    honest = rebuilt(lambda files: files | {"golden.npz": samples.GOLDEN + bytes(1_000_000)})
    lying = honest.replace(
        (len(samples.GOLDEN) + 1_000_000).to_bytes(4, "little"), len(samples.GOLDEN).to_bytes(4, "little")
    )
    assert lying != honest
    with pytest.raises(BundleInvalid):
        open_bundle(lying)


def test_too_many_files_are_refused() -> None:
    with pytest.raises(BundleInvalid, match="at most 64"):
        open_bundle(rebuilt(lambda files: files | {f"f{i}": b"" for i in range(70)}))


def test_a_newer_format_says_so() -> None:
    def newer(files: dict[str, bytes]) -> dict[str, bytes]:
        raw = json.loads(files["manifest.json"]) | {"format": "edgefleet.manifest/2", "novelty": 1}
        return files | {"manifest.json": json.dumps(raw).encode()}

    with pytest.raises(FormatTooNew, match="update edgefleet"):
        open_bundle(rebuilt(newer))


def test_a_manifest_in_another_spelling_is_refused() -> None:
    with pytest.raises(BundleInvalid, match="canonical"):
        open_bundle(rebuilt(lambda files: files | {"manifest.json": b" " + files["manifest.json"]}))


def test_kinds_of_golden_inputs_are_for_all_of_them_or_none() -> None:
    golden = samples.manifest_fields()["golden"]
    assert "kinds" not in samples.manifest().model_dump(mode="json")["golden"]  # as before there were any
    assert samples.manifest(golden=golden | {"kinds": ["sure"]}).golden.kinds == ("sure",)
    with pytest.raises(FormatInvalid, match="2 kinds of 1 golden inputs"):
        samples.manifest(golden=golden | {"kinds": ["sure", "boundary"]})
    with pytest.raises(FormatInvalid, match="nothing would be demanded"):
        samples.manifest(golden=golden | {"kinds": ["boundary"]})


def test_a_bundle_is_named_by_the_digest_of_its_manifest() -> None:
    with zipfile.ZipFile(io.BytesIO(samples.archive())) as archive:
        assert open_bundle(samples.archive()).digest == digest_of(archive.read("manifest.json"))


def test_what_another_program_zips_anew_is_the_same_bundle() -> None:
    with zipfile.ZipFile(io.BytesIO(samples.archive())) as source:
        files = {name: source.read(name) for name in source.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100644 << 16  # Info-ZIP says that it is a file, ours does not
            target.writestr(entry, content)
    assert open_bundle(stream.getvalue()).digest == open_bundle(samples.archive()).digest


def test_a_file_that_is_there_twice_is_refused() -> None:
    # which of the two counts is a matter of the reader
    stream = io.BytesIO(samples.archive())
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("golden.npz", b"another")
    with pytest.raises(BundleInvalid, match=r"'golden.npz' twice"):
        open_bundle(stream.getvalue())


def test_an_encrypted_file_is_refused() -> None:
    content = bytearray(samples.archive())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the first flag of the first entry of the directory
    with pytest.raises(BundleInvalid, match=r"'manifest.json' encrypted"):
        open_bundle(bytes(content))


def test_files_that_are_not_those_of_the_manifest_are_not_packed() -> None:
    bundle = open_bundle(samples.archive())
    with pytest.raises(ValueError, match=r"golden\.npz"):
        pack(
            bundle.manifest, bundle.envelope, {k: v for k, v in bundle.contents.items() if k != "golden.npz"}
        )


def test_a_file_without_a_name_is_refused() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(zipfile.ZipInfo(""), b"")
    with pytest.raises(BundleInvalid, match="without a name"):
        open_bundle(archive.getvalue())
