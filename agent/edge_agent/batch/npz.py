"""The arrays of an .npz file without reading it: what is stored uncompressed is mapped, the rest is read.

`numpy.savez` stores. A mapped array costs the memory of the rows that are in work, and N processes
share it. Bytes that changed on the disk since the file was written are not noticed here, as zip's
checksum is only worked out by reading everything.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts import npy
from edge_contracts.arrays import DAMAGE, Arrays, read_npz
from edge_contracts.errors import FormatInvalid

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # APPNOTE 4.3.7: magic, ..., lengths of name and extra field
_MAGIC = b"PK\x03\x04"


def open_npz(path: Path) -> Arrays:
    """Every array of an .npz file.

    Raises:
        FormatInvalid: As `read_npz`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if not entries or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return read_npz(path)
        return {entry.filename.removesuffix(".npy"): _mapped(path, entry) for entry in entries}
    except zipfile.BadZipFile as error:
        raise FormatInvalid(f"{path} is not an .npz file: {error}") from None
    except OSError as error:
        raise FormatInvalid(f"cannot read {path}: {error.strerror or error}") from None
    except (*DAMAGE, struct.error) as error:
        raise FormatInvalid(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from None


def _mapped(path: Path, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One stored array.

    Raises:
        ValueError: It is no array of numbers, or has not the length that the archive says.
    """
    with path.open("rb") as stream:
        stream.seek(entry.header_offset)
        magic, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        if magic != _MAGIC:
            raise ValueError(f"{entry.filename} is not where the archive says")
        begin = entry.header_offset + _LOCAL_HEADER.size + name + extra
        stream.seek(begin)
        header = npy.read_header(stream)
        offset = stream.tell()
    shape, dtype, count = header.shape, header.dtype, header.count
    if offset - begin + count * dtype.itemsize != entry.file_size:
        raise ValueError(f"{entry.filename} claims {shape} of {dtype}, the archive {entry.file_size} bytes")
    order: Any = "F" if header.in_columns else "C"
    if not count or not shape:  # nothing can be mapped of nothing
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, order)
