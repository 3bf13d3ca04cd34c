"""Matrix products of ONNX: Gemm, MatMul and the two-operand Einsum.

A constant right-hand matrix makes a DENSE, whose weights are [out, in]; anything else a MATMUL.
"""

from __future__ import annotations

import numpy as np

from edge_convert.graph import Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler


def _dense(b: Builder, call: Call, x: Tensor, weights_name: str, matrix: np.ndarray, *bias: Tensor) -> Tensor:
    weights = b.constant(np.ascontiguousarray(matrix.T, np.float32), weights_name)
    return b.add(Op.DENSE, x, weights, *bias, activation="none")


def gemm(b: Builder, call: Call) -> Tensor:
    """alpha * A' B' + beta * C, with alpha and beta folded into constants."""
    alpha, beta = float(call.attrs.get("alpha", 1.0)), float(call.attrs.get("beta", 1.0))
    x = b.operand(call, 0)
    if call.attrs.get("transA", 0):
        x = b.transpose(x, (1, 0))
    late: Tensor | None = None
    if b.is_known(call, 1):
        matrix = b.known[call.inputs[1]].astype(np.float32)
        if call.attrs.get("transB", 0):
            matrix = matrix.T
        bias: list[Tensor] = []
        if call.has(2) and b.is_known(call, 2):
            c = b.known[call.inputs[2]].astype(np.float32) * np.float32(beta)
            if c.ndim < 2 or c.shape[0] == 1:
                bias = [b.constant(np.broadcast_to(c.reshape(-1), (matrix.shape[1],)), call.inputs[2])]
            else:
                late = b.constant(c, call.inputs[2])
        y = _dense(b, call, x, call.inputs[1], matrix * np.float32(alpha), *bias)
        if bias or not call.has(2):
            return y
    else:
        right = b.operand(call, 1)
        y = b.add(Op.MATMUL, x, right, transpose_a=False, transpose_b=bool(call.attrs.get("transB", 0)))
        if alpha != 1.0:
            y = b.binary(Op.MUL, y, b.scalar(alpha, y))
    if not call.has(2):
        return y
    if late is None:
        late = b.operand(call, 2)
        if beta != 1.0:
            late = b.binary(Op.MUL, late, b.scalar(beta, late))
    return b.binary(Op.ADD, y, late)


def matmul(b: Builder, call: Call) -> Tensor:
    """MatMul with numpy's rules for vectors and leading axes."""
    x = b.operand(call, 0)
    if b.is_known(call, 1):
        matrix = b.known[call.inputs[1]]
        while matrix.ndim > 2 and matrix.shape[0] == 1 and matrix.ndim <= len(x.shape):
            matrix = matrix[0]
        if matrix.ndim == 2 and len(x.shape) >= 2 and x.shape[-1] == matrix.shape[0]:
            return _dense(b, call, x, call.inputs[1], matrix)
    return product(b, call, x, b.operand(call, 1))


def product(b: Builder, call: Call, x: Tensor, y: Tensor) -> Tensor:
    """MATMUL of two operands of any rank from 1 up."""
    rank = max(len(x.shape), len(y.shape), 2)
    left = b.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = b.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    left = b.reshape(left, (1,) * (rank - len(left.shape)) + left.shape)
    right = b.reshape(right, (1,) * (rank - len(right.shape)) + right.shape)
    if left.shape[-1] != right.shape[-2]:
        raise call.refuse(f"operands of shape {x.shape} and {y.shape} cannot be multiplied")
    z = b.add(Op.MATMUL, left, right, transpose_a=False, transpose_b=False)
    shape = z.shape
    if len(x.shape) == 1:
        shape = (*shape[:-2], shape[-1])
    if len(y.shape) == 1:
        shape = shape[:-1]
    return b.reshape(z, shape)


def einsum(b: Builder, call: Call) -> Tensor:
    """Einsum of two operands without repeated labels, as transposes around one MATMUL."""
    equation = str(call.attrs["equation"]).replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != 2 or "." in equation or any(len(set(t)) != len(t) for t in (*terms, out)):
        raise call.refuse(f"equation {equation!r}; only two operands with distinct labels are supported")
    first, second = terms
    operands = (b.operand(call, 0), b.operand(call, 1))
    sizes = dict(zip(first, operands[0].shape, strict=True))
    sizes |= zip(second, operands[1].shape, strict=True)
    if (set(first) ^ set(second)) - set(out):
        raise call.refuse(f"equation {equation!r} sums a label of one operand alone")
    shared = [c for c in first if c in second]
    inner = [c for c in shared if c not in out]
    batch = [c for c in out if c in shared]
    rows, columns = ([c for c in out if c in term and c not in shared] for term in terms)

    def matrix(x: Tensor, term: str, *groups: list[str]) -> Tensor:
        x = b.transpose(x, [term.index(c) for group in groups for c in group])
        flat = [int(np.prod([sizes[c] for c in group])) for group in groups[1:]]
        return b.reshape(x, (*(sizes[c] for c in groups[0]), *flat))

    left_matrix = matrix(operands[0], first, batch, rows, inner)
    z = product(b, call, left_matrix, matrix(operands[1], second, batch, inner, columns))
    order = [*batch, *rows, *columns]
    z = b.reshape(z, tuple(sizes[c] for c in order))
    return b.transpose(z, [order.index(c) for c in out])


HANDLERS: dict[str, Handler] = {"Gemm": gemm, "MatMul": matmul, "Einsum": einsum}
