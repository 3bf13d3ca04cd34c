"""The files of a bundle's folder, as they are or encrypted for this device; decrypted in memory alone.

Where there is a model key, models and golden inputs are sealed when a bundle is unpacked, and nothing here
ever writes them plain: whoever opens one (the agent, the child that tries it, the child of an accelerator)
reads it through `read`. Manifest and signature stay readable; they say nothing of the weights.

Each file has a key of its own, wrapped by the device's (AES-256-GCM), and is encrypted in chunks so that a
truncated, reordered or exchanged file is found out: the STREAM construction of Hoang, Reyhanitabar, Rogaway
and Vizar, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015. The digests
of the manifest hold for the plain content and are checked as ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import HomeInvalid
from edge_contracts.bundle import ENVELOPE, MANIFEST, Bundle, open_folder
from edge_contracts.errors import BundleInvalid
from edge_contracts.model import canonical_json
from edge_contracts.on_disk import sync_folder

KEY_NAME = "model.key"
CREDENTIAL = "edge-agent.model-key"  # systemd: LoadCredentialEncrypted=edge-agent.model-key, bound to a TPM
KEY_BYTES = 32
SUFFIX = ".sealed"
MAGIC = b"EFSEAL1\n"
CHUNK_BYTES = 1 << 20
TAG_BYTES = 16
_NONCE_BYTES = 12
_HEADER_BYTES = len(MAGIC) + _NONCE_BYTES + KEY_BYTES + TAG_BYTES
_ABOVE = 4  # folders above a bundle's in which the home may be


def make_key(home: Path) -> None:
    """Make the device's model key; one that is there stays. Bundles are sealed from the next one on.

    Raises:
        HomeInvalid: It cannot be written.
    """
    path = home / KEY_NAME
    if path.exists():
        return
    beside = path.with_name(f"{KEY_NAME}.new")
    try:
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(os.urandom(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
        sync_folder(home)
    except OSError as error:
        raise HomeInvalid(f"cannot write {path}: {error.strerror}") from None


def find_key(folder: Path) -> bytes | None:
    """The model key for a folder below the home: from systemd's credentials, else from the home; or None.

    Raises:
        HomeInvalid: It is there, and others may read it or it is no key.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    places = [Path(credentials) / CREDENTIAL] if credentials else []
    places += [above / KEY_NAME for above in (folder, *folder.absolute().parents[:_ABOVE])]
    for path in places:
        try:
            with path.open("rb") as stream:
                mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
                key = stream.read(KEY_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HomeInvalid(f"cannot read {path}: {error.strerror}") from None
        if mode & 0o077:
            raise HomeInvalid(f"{path} has mode {mode:04o}, expected 0600: chmod 600 {path}")
        if len(key) != KEY_BYTES:
            raise HomeInvalid(f"{path} has {len(key)} bytes, expected {KEY_BYTES}; bring the right one back")
        return key
    return None


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write a bundle into a folder that does not exist yet, sealed where there is a model key; synced.

    Raises:
        OSError: The disk is full or has failed.
        HomeInvalid: The model key cannot be used.
    """
    key = find_key(folder)
    if key is None:
        bundle.extract(folder)
        return
    folder.mkdir(parents=True)
    plain = {MANIFEST: canonical_json(bundle.manifest), ENVELOPE: bundle.envelope}
    for name, content in plain.items():
        _write(folder / name, iter([content]))
    for name, content in bundle.contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        _write(folder / (name + SUFFIX), _encrypted(content, key, name))
    for directory in {folder, *(f.parent for f in folder.rglob("*")), folder.parent}:
        sync_folder(directory)


def is_sealed(folder: Path, name: str) -> bool:
    """Whether a file of a bundle's folder is encrypted."""
    return not (folder / name).exists() and (folder / (name + SUFFIX)).exists()


def read(folder: Path, name: str) -> bytes:
    """A file of a bundle's folder, decrypted if need be.

    Raises:
        OSError: It cannot be read.
        BundleInvalid: It is damaged, or was sealed with another key.
        HomeInvalid: The model key is missing or cannot be used.
    """
    if not is_sealed(folder, name):
        return (folder / name).read_bytes()
    key = find_key(folder)
    if key is None:
        raise HomeInvalid(
            f"{folder / name} is encrypted and {KEY_NAME} is missing; "
            "bring it back, or install the bundle anew"
        )
    return b"".join(_decrypted((folder / (name + SUFFIX)).read_bytes(), key, name))


def read_folder(folder: Path) -> Bundle:
    """An unpacked bundle with the checks of `open_folder`, sealed or not; raises as that and as `read`."""
    return open_folder(folder, lambda name: read(folder, name))


def opens_nothing(folder: Path, key: bytes) -> bool:
    """Whether there are sealed files below a folder, and a key is for none of them."""
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    for path in paths:
        try:
            with path.open("rb") as stream:
                header = stream.read(_HEADER_BYTES)
        except OSError:
            continue
        name = path.relative_to(_bundle_of(path)).as_posix().removesuffix(SUFFIX)
        if _unwrapped(header, key, name) is not None:
            return False
    return bool(paths)


def _bundle_of(path: Path) -> Path:
    """The folder of the bundle that a sealed file lies in: where its manifest is."""
    return next((above for above in path.parents[:_ABOVE] if (above / MANIFEST).exists()), path.parent)


def _unwrapped(header: bytes, key: bytes, name: str) -> bytes | None:
    """A file's own key; None where the header is damaged or was made with another key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, wrapped = header[len(MAGIC) : len(MAGIC) + _NONCE_BYTES], header[len(MAGIC) + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, wrapped, name.encode())
    except (InvalidTag, ValueError):  # ValueError: cut off
        return None


def _encrypted(content: bytes, key: bytes, name: str) -> Iterator[bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    own, nonce = os.urandom(KEY_BYTES), os.urandom(_NONCE_BYTES)
    yield MAGIC + nonce + AESGCM(key).encrypt(nonce, own, name.encode())
    cipher, view = AESGCM(own), memoryview(content)
    starts = range(0, max(1, len(content)), CHUNK_BYTES)
    for number, start in enumerate(starts):
        last = start == starts[-1]
        yield cipher.encrypt(_nonce(number, last), view[start : start + CHUNK_BYTES], name.encode())


def _decrypted(sealed: bytes, key: bytes, name: str) -> Iterator[bytes]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(sealed) < _HEADER_BYTES + TAG_BYTES or not sealed.startswith(MAGIC):
        raise BundleInvalid(f"{name} is not what was sealed here: {len(sealed)} bytes, another beginning")
    nonce = sealed[len(MAGIC) : len(MAGIC) + _NONCE_BYTES]
    wrapped = sealed[len(MAGIC) + _NONCE_BYTES : _HEADER_BYTES]
    size, view = CHUNK_BYTES + TAG_BYTES, memoryview(sealed)
    starts = range(_HEADER_BYTES, len(sealed), size)
    try:
        cipher = AESGCM(AESGCM(key).decrypt(nonce, wrapped, name.encode()))
        for number, start in enumerate(starts):
            last = start == starts[-1]
            yield cipher.decrypt(_nonce(number, last), view[start : start + size], name.encode())
    except InvalidTag:
        raise BundleInvalid(f"{name} is damaged, or was sealed with another device's key") from None


def _nonce(number: int, last: bool) -> bytes:
    """STREAM: the chunk's number, and whether it is the last."""
    return number.to_bytes(_NONCE_BYTES - 1, "big") + bytes([last])


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
