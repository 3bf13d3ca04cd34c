"""The bundle: manifest.json, manifest.dsse, golden.npz and artifacts/* in one plain zip.

Reading trusts nothing: names, counts and sizes are checked before a byte is unpacked, no more than
the stated size of a file is ever decompressed, and every digest is checked. Who signed it is the
next question, and `signing.verify` answers it.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_contracts.digest import digest_of
from edge_contracts.errors import BundleInvalid, DigestMismatch, NoMemory
from edge_contracts.manifest import FORMAT, FileRef, Manifest
from edge_contracts.model import canonical_json, parse_json
from edge_contracts.on_disk import sync_folder

MANIFEST = "manifest.json"
ENVELOPE = "manifest.dsse"
SUFFIX = ".bundle"
MAX_MEMBERS = 64
MAX_MANIFEST_BYTES = 8 << 20
MAX_UNPACKED_BYTES = 2 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip can hold; a real one would change the bytes


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle whose every file has the digest that its manifest states.

    Args:
        digest: Of manifest.json: the bundle's name.
        envelope: manifest.dsse, not verified yet.
        contents: Files by path, those of `manifest.files()`.
    """

    manifest: Manifest
    digest: str
    envelope: bytes
    contents: Mapping[str, bytes]

    def extract(self, folder: Path) -> None:
        """Write everything into a folder that does not exist yet, and sync it to the disk.

        The files and the folder are durable when this returns; a caller who wants all or nothing
        extracts beside the place and renames.
        """
        folder.mkdir(parents=True)
        everything = {MANIFEST: canonical_json(self.manifest), ENVELOPE: self.envelope, **self.contents}
        for name, content in everything.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for directory in {folder, *(f.parent for f in folder.rglob("*")), folder.parent}:
            sync_folder(directory)


def pack(manifest: Manifest, envelope: bytes, contents: Mapping[str, bytes]) -> bytes:
    """The archive's bytes; the same inputs give the same bytes.

    Args:
        contents: Exactly the files that the manifest names.
    """
    stated = {file.path for file in manifest.files()}
    if stated != contents.keys():
        raise ValueError(f"contents do not match the manifest: {sorted(stated ^ contents.keys())}")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {
            MANIFEST: canonical_json(manifest),
            ENVELOPE: envelope,
            **{path: contents[path] for path in sorted(contents)},
        }.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, compresslevel=6)
    return stream.getvalue()


def open_bundle(source: Path | bytes, name: str = "") -> Bundle:
    """Read a bundle and check everything that can be checked without a key.

    Args:
        name: What a person calls it, for messages; the file's own name when not given.

    Raises:
        BundleInvalid: Not an archive, damaged, a path outside its folder, files too many, too large,
            missing or not in the manifest.
        FormatTooNew: The manifest's format is of another version.
        FormatInvalid: The manifest does not parse.
        DigestMismatch: A file is not what the manifest says.
        NoMemory: There is no memory to unpack it.
    """
    name = name or (source.name if isinstance(source, Path) else "bundle")
    try:
        with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
            return _read(archive, name)
    except MemoryError:
        raise NoMemory(f"{name}: there is no memory to unpack it") from None
    except zipfile.BadZipFile as error:
        raise BundleInvalid(f"{name} is not a bundle, or is damaged: {error}") from None
    except OSError as error:
        where = source if isinstance(source, Path) else name  # the name alone does not say which of its kind
        raise BundleInvalid(f"cannot read {where}: {error.strerror or error}") from None
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleInvalid(f"{name} is damaged: {error}") from None


def open_folder(folder: Path, read: Callable[[str], bytes] | None = None) -> Bundle:
    """Read an extracted bundle back, with the same checks of sizes and digests.

    Args:
        read: How to read a file that the manifest names, where it does not lie there as it is.

    Raises:
        BundleInvalid: A file is missing or cannot be read.
        DigestMismatch, FormatInvalid, NoMemory: As `open_bundle`.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        envelope = (folder / ENVELOPE).read_bytes()
        manifest = parse_json(Manifest, content, MANIFEST, FORMAT)
        contents = {
            file.path: read(file.path) if read is not None else (folder / file.path).read_bytes()
            for file in manifest.files()
        }
    except MemoryError:
        raise NoMemory(f"{folder}: there is no memory to read it") from None
    except OSError as error:
        raise BundleInvalid(f"cannot read {error.filename}: {error.strerror}") from None
    for file in manifest.files():
        _check(file, contents[file.path])
    return Bundle(manifest, _digest(manifest, content), envelope, contents)


def _read(archive: zipfile.ZipFile, name: str) -> Bundle:
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise BundleInvalid(f"{name} has {len(entries)} files, at most {MAX_MEMBERS} are allowed")
    sizes: dict[str, int] = {}
    for entry in entries:
        _check_name(entry, name)
        if entry.filename in sizes:
            raise BundleInvalid(f"{name} holds {entry.filename!r} twice")
        sizes[entry.filename] = entry.file_size
    for required in (MANIFEST, ENVELOPE):
        if required not in sizes:
            raise BundleInvalid(f"{name} has no {required}; it is not a bundle")
        if sizes[required] > MAX_MANIFEST_BYTES:
            raise BundleInvalid(
                f"{required} unpacks to {sizes[required]} bytes, at most {MAX_MANIFEST_BYTES} are read"
            )
    if sum(sizes.values()) > MAX_UNPACKED_BYTES:
        raise BundleInvalid(
            f"{name} unpacks to {sum(sizes.values())} bytes, at most {MAX_UNPACKED_BYTES} are allowed"
        )
    content = _unpack(archive, MANIFEST, sizes[MANIFEST])
    manifest = parse_json(Manifest, content, MANIFEST, FORMAT)
    stated = {file.path: file for file in manifest.files()}
    found = sizes.keys() - {MANIFEST, ENVELOPE}
    if stated.keys() != found:
        odd = sorted(stated.keys() ^ found)[0]
        where = "is missing" if odd in stated else "is not in the manifest"
        raise BundleInvalid(f"{name}: {odd!r} {where}")
    contents: dict[str, bytes] = {}
    for path, file in stated.items():
        if sizes[path] != file.bytes:
            raise BundleInvalid(
                f"{name}: {path} unpacks to {sizes[path]} bytes, the manifest says {file.bytes}"
            )
        contents[path] = _check(file, _unpack(archive, path, file.bytes))
    return Bundle(manifest, _digest(manifest, content), _unpack(archive, ENVELOPE, sizes[ENVELOPE]), contents)


def _check_name(entry: zipfile.ZipInfo, name: str) -> None:
    path = entry.orig_filename
    parts = path.split("/")
    if not path:  # `ZipInfo.is_dir` looks at the last letter of the name
        raise BundleInvalid(f"{name} holds a file without a name")
    if path.startswith("/") or "\\" in path or ".." in parts or "\0" in path or ":" in parts[0]:
        raise BundleInvalid(f"{name} holds {path!r:.120}, a path outside its folder")
    if entry.is_dir() or (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        raise BundleInvalid(f"{name} holds {path!r:.120}, which is not a plain file")
    if entry.flag_bits & 0x1:
        raise BundleInvalid(f"{name} holds {path!r:.120} encrypted")


def _unpack(archive: zipfile.ZipFile, path: str, size: int) -> bytes:
    """Decompress one member, and stop at its stated size: the rest of a bomb never exists."""
    with archive.open(path) as stream:
        content = stream.read(size)
        if len(content) != size or stream.read(1):
            raise BundleInvalid(f"{path} does not unpack to its stated {size} bytes")
    return content


def _check(file: FileRef, content: bytes) -> bytes:
    found = digest_of(content)
    if found != file.digest:
        raise DigestMismatch(f"{file.path} has digest {found}, the manifest says {file.digest}")
    return content


def _digest(manifest: Manifest, content: bytes) -> str:
    if canonical_json(manifest) != content:
        raise BundleInvalid("manifest.json is not in its canonical form (sorted keys, no spaces)")
    return digest_of(content)
