"""Files that DVC tracks: recognised by their .dvc file or dvc.lock, and checked against it.

DVC (dvc.org) names data by MD5. A file beside which stands FILE.dvc, an output of a stage in dvc.lock, or a
file inside a tracked folder is one version of it; which one goes into the provenance. A file that has
changed since is refused: a wrong version in a signed statement is worse than none. DVC itself is not
needed; nothing is fetched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from edge_convert.errors import VersionMismatch
from edge_convert.frameworks.folder import files_of

LOCK = "dvc.lock"
_MAX_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Version:
    """What DVC says of a file or folder.

    Args:
        md5: As DVC writes it; that of a folder ends with ".dir".
        path: Below the repository, with forward slashes.
        stated_in: The file that says so, below the repository.
        repository, revision: Where `dvc import` took it from, or "".
    """

    md5: str
    path: str
    stated_in: str
    repository: str = ""
    revision: str = ""

    @property
    def annotations(self) -> dict[str, str]:
        """For the provenance."""
        found = {"dvc_path": self.path, "dvc_stated_in": self.stated_in}
        if self.repository:
            found |= {"dvc_repository": self.repository, "dvc_revision": self.revision}
        return found


def version_of(path: Path) -> Version | None:
    """The version of a file or folder, checked; None when DVC does not track it.

    Raises:
        VersionMismatch: Its content is another, or the file that says so is damaged.
    """
    path = path.absolute()
    root = next((p for p in path.parents if (p / ".dvc").is_dir()), None)
    for stated_in, out in _statements(path, root):
        version = _version(path, root or path.parent, stated_in, out)
        if version is None:
            continue
        legacy = "hash" not in out
        found = _md5_of_folder(path) if path.is_dir() else _md5_of_file(path)
        if found != version.md5 and not (legacy and _md5_of_text(path) == version.md5):
            raise VersionMismatch(
                f"{path.name} has MD5 {found}, {version.stated_in} says {version.md5}: it has changed since; "
                "run `dvc add` or `dvc commit` on it, or `dvc checkout` for the version that is stated"
            )
        return version
    return None


def _statements(path: Path, root: Path | None) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every (file, output) that speaks of a path: its own .dvc file first, then pipelines, then folders."""
    for out in _outputs_of_dvc_file(path.with_name(f"{path.name}.dvc"), path.name):
        yield path.with_name(f"{path.name}.dvc"), out
    if root is None:
        return
    for folder in path.parents:
        lock = folder / LOCK
        for out in _outputs_of_lock(lock):
            place = (folder / str(out.get("path"))).absolute()
            if place == path:
                yield lock, out
            elif place in path.parents:
                yield from ((lock, inner) for inner in _inside(root, place, out, path))
        if folder == root:
            return
        beside = folder.with_name(f"{folder.name}.dvc")
        for out in _outputs_of_dvc_file(beside, folder.name):
            yield from ((beside, inner) for inner in _inside(root, folder, out, path))


def _version(path: Path, root: Path, stated_in: Path, out: Mapping[str, Any]) -> Version | None:
    md5 = out.get("md5")
    if not isinstance(md5, str):
        return None  # tracked by another hash, such as an ETag
    repository = out.get("repo")
    repository = repository if isinstance(repository, dict) else {}
    return Version(
        md5,
        path.relative_to(root).as_posix(),
        stated_in.relative_to(root).as_posix(),
        _without_password(str(repository.get("url", ""))),
        str(repository.get("rev_lock", "")),
    )


def _outputs_of_dvc_file(path: Path, name: str) -> Iterator[dict[str, Any]]:
    document = _parsed(path)
    repository = next((d["repo"] for d in _dicts(document.get("deps")) if "repo" in d), None)
    for out in _dicts(document.get("outs")):
        if str(out.get("path", "")).removeprefix("./") == name:
            yield out if repository is None else {**out, "repo": repository}


def _outputs_of_lock(path: Path) -> Iterator[dict[str, Any]]:
    stages = _parsed(path).get("stages")
    for stage in stages.values() if isinstance(stages, dict) else ():
        if isinstance(stage, dict):
            yield from _dicts(stage.get("outs"))


def _inside(root: Path, folder: Path, out: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """The entry of a file in a tracked folder's list, where DVC's cache holds the list."""
    md5 = str(out.get("md5", ""))
    wanted = path.relative_to(folder).as_posix()
    for cache in (root / ".dvc/cache/files/md5", root / ".dvc/cache"):
        listing = cache / md5[:2] / md5[2:]
        if not md5.endswith(".dir") or not listing.is_file():
            continue
        try:
            entries = json.loads(listing.read_bytes())
        except ValueError:
            raise VersionMismatch(f"{listing} is damaged; run `dvc fetch`") from None
        yield from ({**e, "hash": "md5"} for e in _dicts(entries) if e.get("relpath") == wanted)
        return


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import yaml

    content = path.read_bytes()
    if len(content) > _MAX_BYTES:
        raise VersionMismatch(f"{path.name} has {len(content)} bytes, at most {_MAX_BYTES} are read")
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise VersionMismatch(f"{path.name} is not YAML, or is damaged") from None
    return document if isinstance(document, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _md5_of_file(path: Path) -> str:
    hasher = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def _md5_of_text(path: Path) -> str:
    """What DVC before 3.0 took of text files: with the line ends of Unix."""
    if path.is_dir():
        return ""
    return hashlib.md5(path.read_bytes().replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest()


def _md5_of_folder(folder: Path) -> str:
    """DVC's own: of the JSON list of all files with their MD5s, sorted by path (dvc_data.hashfile.tree)."""
    entries = [{"md5": _md5_of_file(path), "relpath": name} for name, path in files_of(folder)]
    entries.sort(key=lambda entry: entry["relpath"])
    content = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.scheme else url
