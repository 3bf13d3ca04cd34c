"""Arrays in files: `.npz` of plain numeric arrays, read without unpickling, written the same each time.

The one convention for calibration, evaluation, golden inputs and `edge-agent infer`: `x` for a
model's only input (or one array for each input by its tensor name), `y` for labels.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts import npy
from edge_contracts.errors import FormatInvalid, NoMemory

Arrays = dict[str, NDArray[Any]]
# What numpy and zipfile raise on a damaged array.
DAMAGE = (ValueError, EOFError, NotImplementedError, tokenize.TokenError, zlib.error)
# Deflate packs nothing but repetition more than 1,032-fold; samples that anybody measured do not come near.
BOMB_BYTES, BOMB_RATIO = 256 << 20, 200
_ENCRYPTED = 1  # of an entry's flags (APPNOTE.TXT 4.4.4)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip can hold; a real one would change the bytes


def read_npz(source: Path | bytes, what: str | None = None, max_bytes: int = 4 << 30) -> Arrays:
    """Read every array of an .npz file.

    Args:
        max_bytes: Refuse files that unpack to more.

    Raises:
        FormatInvalid: Not there, not an .npz, damaged, too large, or with an array of objects.
        NoMemory: It is too large for this moment.
    """
    name = what or (str(source) if isinstance(source, Path) else "npz")
    stream: Path | io.BytesIO = source if isinstance(source, Path) else io.BytesIO(source)
    try:
        with zipfile.ZipFile(stream) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            if total > max_bytes:
                raise FormatInvalid(f"{name} unpacks to {total} bytes, at most {max_bytes} are read")
            packed = sum(entry.compress_size for entry in archive.infolist())
            if total > BOMB_BYTES and total > BOMB_RATIO * packed:
                raise FormatInvalid(
                    f"{name} unpacks to {total} bytes, {total // max(1, packed)} times its size; "
                    f"at most {BOMB_RATIO} times is read: store it uncompressed if that is meant"
                )
            arrays: Arrays = {}
            for entry in archive.infolist():
                key = entry.filename.removesuffix(".npy")
                if entry.flag_bits & _ENCRYPTED:
                    raise FormatInvalid(f"{name} is encrypted or damaged: {key!r:.60} asks for a password")
                with archive.open(entry) as member:
                    arrays[key] = npy.read_array(member, entry.file_size)
    except zipfile.BadZipFile as error:
        raise FormatInvalid(f"{name} is not an .npz file: {error}") from None
    except OSError as error:
        raise FormatInvalid(f"cannot read {name}: {error.strerror or error}") from None
    except MemoryError:
        raise NoMemory(f"{name}: there is no memory for its arrays") from None
    except DAMAGE as error:
        raise FormatInvalid(f"{name} is damaged: {error}") from None
    if not arrays:
        raise FormatInvalid(f"{name} holds no array")
    return arrays


def write_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of an .npz file: the same arrays give the same bytes (sorted, undated)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for key in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(
                member, np.ascontiguousarray(arrays[key]), version=(1, 0), allow_pickle=False
            )
            entry = zipfile.ZipInfo(key + ".npy", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, member.getvalue())
    return stream.getvalue()
