"""The digest of a folder: one name for all that is in it.

SHA-256 over one line for each file, in the order of their paths: the file's own SHA-256 in hex, two
spaces, the path below the folder with forward slashes, a newline. That is what `sha256sum` prints:

    cd FOLDER && find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
"""

from __future__ import annotations

from pathlib import Path

from edge_contracts.digest import digest_of, digest_of_file


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """Every file below a folder with its path in it, in the order of the paths' bytes."""
    found = [(path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda item: item[0].encode())


def digest_of_folder(folder: Path) -> str:
    """Digest of everything in a folder; empty folders, times and rights do not count."""
    lines = [f"{digest_of_file(path).removeprefix('sha256:')}  {name}\n" for name, path in files_of(folder)]
    return digest_of("".join(lines).encode())


def size_of_folder(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for _, path in files_of(folder))
