"""TensorFlow Lite's sparse weights back to dense ones.

The format is TACO's (schema.fbs, `SparsityParameters`): the dimensions of the tensor, and of the
blocks it may be cut into, are stored in `traversal_order`, each either dense or compressed with
segments and indices as in CSR.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_convert.errors import SourceInvalid
from edge_convert.importers.tflite_file import READ_ERRORS

_LARGEST_DENSE = 2**28  # elements; a few stored ones may claim any shape

_VECTORS: dict[int, Any] = {
    schema.SparseIndexVector.Int32Vector: schema.Int32VectorT,
    schema.SparseIndexVector.Uint16Vector: schema.Uint16VectorT,
    schema.SparseIndexVector.Uint8Vector: schema.Uint8VectorT,
}


def densify(name: str, shape: tuple[int, ...], values: NDArray[Any], sparsity: Any) -> NDArray[Any]:
    """The dense tensor.

    Args:
        name: For messages.
        shape: Of the dense tensor.
        values: The stored elements, flat, in traversal order.
        sparsity: The tensor's flatbuffer table.

    Raises:
        SourceInvalid: Counts and indices do not belong to this shape.
    """
    try:
        return _densify(name, shape, values, sparsity)
    except READ_ERRORS as error:
        raise SourceInvalid(f"sparse tensor {name!r} is truncated or damaged") from error


def _densify(name: str, shape: tuple[int, ...], values: NDArray[Any], sparsity: Any) -> NDArray[Any]:
    order = [int(v) for v in np.ravel(sparsity.TraversalOrderAsNumpy())]
    block_map = [int(v) for v in np.ravel(sparsity.BlockMapAsNumpy())] if sparsity.BlockMapLength() else []
    rank, blocks = len(shape), len(block_map)
    known = sorted(order) == list(range(rank + blocks)) and sparsity.DimMetadataLength() == rank + blocks
    if not known or any(not 0 <= axis < rank for axis in block_map):
        raise SourceInvalid(f"sparse tensor {name!r}: traversal order {order} for shape {list(shape)}")

    # Coordinates of every stored element, one column per level, grown level by level.
    size = int(np.prod(shape, dtype=object))
    if size > _LARGEST_DENSE:
        raise SourceInvalid(f"sparse tensor {name!r} has shape {list(shape)}, {size} elements")
    coordinates = np.zeros((1, 0), np.int64)
    positions = np.zeros(1, np.int64)
    block_size = [1] * blocks
    for level, axis in enumerate(order):
        table = sparsity.DimMetadata(level)
        if table.Format() == schema.DimensionType.DENSE:
            length = table.DenseSize()
            if length < 1 or len(positions) * length > size:
                raise SourceInvalid(f"sparse tensor {name!r}: level {level} has {length} dense positions")
            if axis >= rank:
                block_size[axis - rank] = length
            parents = np.repeat(np.arange(len(positions)), length)
            index = np.tile(np.arange(length), len(positions))
            positions = positions[parents] * length + index
        else:
            parents, index, positions = _compressed(name, level, table, positions, size)
        coordinates = np.concatenate([coordinates[parents], index[:, None]], axis=1)

    if positions.size and (positions.max() >= values.size or positions.min() < 0):
        raise SourceInvalid(
            f"sparse tensor {name!r} has {values.size} elements; element {positions.max()} is used"
        )
    by_axis = coordinates[:, np.argsort(order)]
    full = by_axis[:, :rank]
    for number, axis in enumerate(block_map):
        full[:, axis] = full[:, axis] * block_size[number] + by_axis[:, rank + number]
    if full.size and ((full < 0) | (full >= np.array(shape))).any():
        raise SourceInvalid(f"sparse tensor {name!r} has an element outside its shape {list(shape)}")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(full.T)] = values[positions]
    return dense


def _compressed(
    name: str, level: int, table: Any, positions: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """One compressed level: which parent each child has, its coordinate, its position in storage."""
    segments = _vector(table.ArraySegmentsType(), table.ArraySegments())
    indices = _vector(table.ArrayIndicesType(), table.ArrayIndices())
    if segments.size < 1 or positions.max(initial=0) + 1 >= segments.size:
        raise SourceInvalid(f"sparse tensor {name!r}: level {level} has {segments.size} segments")
    starts, ends = segments[positions], segments[positions + 1]
    if (starts < 0).any() or (ends < starts).any() or ends.max(initial=0) > min(indices.size, size):
        raise SourceInvalid(f"sparse tensor {name!r}: the segments of level {level} leave its indices")
    counts = ends - starts
    if int(counts.sum()) > size:
        raise SourceInvalid(f"sparse tensor {name!r} has more elements than its shape holds")
    parents = np.repeat(np.arange(len(positions)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    children = np.repeat(starts, counts) + np.arange(len(parents)) - first
    return parents, indices[children], children


def _vector(kind: int, table: Any) -> NDArray[np.int64]:
    if kind not in _VECTORS or table is None:
        return np.zeros(0, np.int64)
    made = _VECTORS[kind].InitFromBuf(table.Bytes, table.Pos)
    return np.zeros(0, np.int64) if made.values is None else np.asarray(made.values, np.int64)
