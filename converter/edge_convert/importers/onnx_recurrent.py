"""Recurrent layers of ONNX, unrolled: every time step becomes nodes of its own, sharing the weights.

Targets have no recurrent operator that all runtimes and accelerators take, and time is static here. What
a step does not share with the one before it (the products with the input) is one product for all steps.
Equations: the ONNX operator documentation (LSTM, GRU, RNN), letters as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler

# Unrolled text of a few hundred steps is useful; beyond this a file takes minutes to open.
MOST_NODES = 20_000
_ACTIVATIONS = {"sigmoid": Op.SIGMOID, "tanh": Op.TANH, "relu": Op.RELU}


@dataclass(frozen=True, eq=False)
class _Layer:
    """One direction of a layer.

    Args:
        gates: Products of all steps' inputs with W, biases added, [steps * batch, gates * hidden].
        recurrence: R, [gates * hidden, hidden].
        recurrent_bias: The part of the bias that a gate must see behind its reset, or None.
        functions: f, g, h of the documentation.
    """

    gates: Tensor
    recurrence: Array
    recurrent_bias: Array | None
    functions: tuple[Op, ...]
    batch: int
    hidden: int
    name: str


State = dict[str, Tensor | None]  # "h" and "c"; None is zero
Cell = Callable[[Builder, _Layer, Tensor, State], State]


def _part(b: Builder, x: Tensor, begin: int, end: int) -> Tensor:
    return b.take(x, np.arange(begin, end), 1)


def _recurrent(b: Builder, layer: _Layer, h: Tensor, first: int, last: int, bias: Array | None) -> Tensor:
    """h times some of the gates' rows of R."""
    rows = slice(first * layer.hidden, last * layer.hidden)
    name = f"{layer.name}:R{first}{last}"
    inputs = [b.shared(layer.recurrence[rows], name)]
    if bias is not None:
        inputs.append(b.shared(bias, f"{name}:bias"))
    return b.add(Op.DENSE, h, *inputs, activation="none")


def _plus_recurrent(b: Builder, layer: _Layer, x: Tensor, h: Tensor | None, first: int, last: int) -> Tensor:
    if h is None:
        return x
    return b.binary(Op.ADD, x, _recurrent(b, layer, h, first, last, None))


def _lstm(b: Builder, layer: _Layer, x: Tensor, state: State) -> State:
    """Gates stand in the order i, o, f, c."""
    n, (f, g, out) = layer.hidden, layer.functions
    total = _plus_recurrent(b, layer, x, state["h"], 0, 4)
    gates = b.add(f, _part(b, total, 0, 3 * n))
    fresh = b.binary(Op.MUL, _part(b, gates, 0, n), b.add(g, _part(b, total, 3 * n, 4 * n)))
    old = state["c"]
    if old is not None:
        fresh = b.binary(Op.ADD, b.binary(Op.MUL, _part(b, gates, 2 * n, 3 * n), old), fresh)
    return {"c": fresh, "h": b.binary(Op.MUL, _part(b, gates, n, 2 * n), b.add(out, fresh))}


def _gru(b: Builder, layer: _Layer, x: Tensor, state: State) -> State:
    """Gates stand in the order z, r, h; the new state is (1 - z) * candidate + z * old."""
    n, (f, g) = layer.hidden, layer.functions
    old = state["h"]
    gates = b.add(f, _plus_recurrent(b, layer, _part(b, x, 0, 2 * n), old, 0, 2))
    update, reset = _part(b, gates, 0, n), _part(b, gates, n, 2 * n)
    candidate = _part(b, x, 2 * n, 3 * n)
    if layer.recurrent_bias is not None:  # linear_before_reset
        if old is None:
            behind: Tensor = b.shared(layer.recurrent_bias[None], f"{layer.name}:Rbh")
        else:
            behind = _recurrent(b, layer, old, 2, 3, layer.recurrent_bias)
        candidate = b.binary(Op.ADD, candidate, b.binary(Op.MUL, reset, behind))
    elif old is not None:
        candidate = _plus_recurrent(b, layer, candidate, b.binary(Op.MUL, reset, old), 2, 3)
    candidate = b.add(g, candidate)
    if old is None:
        kept = b.binary(Op.MUL, update, candidate)
        return {"h": b.binary(Op.SUB, candidate, kept)}
    change = b.binary(Op.MUL, update, b.binary(Op.SUB, old, candidate))
    return {"h": b.binary(Op.ADD, candidate, change)}


def _rnn(b: Builder, layer: _Layer, x: Tensor, state: State) -> State:
    """One gate, which is the state."""
    return {"h": b.add(layer.functions[0], _plus_recurrent(b, layer, x, state["h"], 0, 1))}


@dataclass(frozen=True)
class _Kind:
    """What tells the three layers apart.

    Args:
        functions: Defaults of one direction.
        nodes: What a step takes, about.
    """

    cell: Cell
    gates: int
    functions: tuple[str, ...]
    states: tuple[str, ...]
    nodes: int


KINDS = {
    "LSTM": _Kind(_lstm, 4, ("Sigmoid", "Tanh", "Tanh"), ("h", "c"), 14),
    "GRU": _Kind(_gru, 3, ("Sigmoid", "Tanh"), ("h",), 13),
    "RNN": _Kind(_rnn, 1, ("Tanh",), ("h",), 4),
}


def recurrent(b: Builder, call: Call) -> list[Tensor]:
    """Y [steps, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]."""
    kind = KINDS[call.operator]
    rows = bool(call.attrs.get("layout", 0))  # batch before steps
    x = b.operand(call, 0)
    if len(x.shape) != 3:
        raise call.refuse(f"input has shape {x.shape}; expected steps, batch and features")
    x = b.transpose(x, (1, 0, 2)) if rows else x
    steps, batch, features = x.shape
    weights = b.elements(call, 1, "W").astype(np.float32)
    recurrence = b.elements(call, 2, "R").astype(np.float32)
    count, hidden = recurrence.shape[0], recurrence.shape[-1]
    if weights.shape != (count, kind.gates * hidden, features) or count not in (1, 2):
        raise call.refuse(f"weights of shape {weights.shape} and {recurrence.shape} for input {x.shape}")
    _check(b, call, steps)
    if steps * count * kind.nodes > MOST_NODES:
        raise call.refuse(
            f"{steps} steps would be unrolled into about {steps * count * kind.nodes} operators, at most "
            f"{MOST_NODES} are; give it fewer steps (--input-shape)"
        )
    bias = b.elements(call, 3, "B").astype(np.float32) if call.has(3) else None
    functions = _functions(call, kind, count)
    flat = b.reshape(x, (steps * batch, features))
    outputs: list[list[Tensor]] = []
    last: list[State] = []
    direction = call.attrs.get("direction", "forward")
    for index in range(count):
        layer = _layer(
            b, call, kind, flat, weights[index], recurrence[index], None if bias is None else bias[index],
            functions[index], batch, f"{call.name}:{index}",
        )  # fmt: skip
        backwards = direction == "reverse" or index == 1
        state: State = {
            name: _initial(b, call, 5 + place, index, rows) for place, name in enumerate(kind.states)
        }
        seen: dict[int, Tensor] = {}
        for step in range(steps - 1, -1, -1) if backwards else range(steps):
            part = b.take(layer.gates, np.arange(step * batch, (step + 1) * batch), 0)
            state = kind.cell(b, layer, part, state)
            h = state["h"]
            assert h is not None
            seen[step] = h
        outputs.append([seen[step] for step in range(steps)])
        last.append(state)
    results = [_sequence(b, outputs, batch, hidden, rows)] if call.outputs[:1] != ("",) else [flat]
    for name in kind.states:
        results.append(_stacked(b, [state[name] for state in last], batch, hidden, rows))
    return results


def _check(b: Builder, call: Call, steps: int) -> None:
    if call.has(4):
        lengths = b.integers(call, 4, "sequence_lens")
        if any(length != steps for length in lengths):
            raise call.refuse(f"sequence_lens {lengths} differ from the {steps} steps of the input")
    if call.has(7) and b.elements(call, 7, "the peepholes").any():
        raise call.refuse("peepholes are not supported")
    if "clip" in call.attrs or call.attrs.get("input_forget", 0):
        raise call.refuse("clip and input_forget are not supported")


def _functions(call: Call, kind: _Kind, count: int) -> list[tuple[Op, ...]]:
    each = len(kind.functions)
    given = call.attrs.get("activations") or list(kind.functions) * count
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in given]
    unknown = [name for name in names if name.lower() not in _ACTIVATIONS]
    if unknown or len(names) != each * count:
        raise call.refuse(f"activations {names}; expected {each} of Sigmoid, Tanh and Relu for a direction")
    ops = [_ACTIVATIONS[name.lower()] for name in names]
    return [tuple(ops[i * each : (i + 1) * each]) for i in range(count)]


def _layer(
    b: Builder,
    call: Call,
    kind: _Kind,
    flat: Tensor,
    weights: Array,
    recurrence: Array,
    bias: Array | None,
    functions: tuple[Op, ...],
    batch: int,
    name: str,
) -> _Layer:
    hidden = recurrence.shape[-1]
    behind: Array | None = None
    inputs = [b.constant(weights, f"{name}:W")]
    if bias is not None:
        of_input, of_state = np.split(bias, 2)
        total = of_input + of_state
        if call.operator == "GRU" and call.attrs.get("linear_before_reset", 0):
            behind = of_state[2 * hidden :]
            total[2 * hidden :] = of_input[2 * hidden :]
        inputs.append(b.constant(total, f"{name}:B"))
    elif call.operator == "GRU" and call.attrs.get("linear_before_reset", 0):
        behind = np.zeros(hidden, np.float32)
    gates = b.add(Op.DENSE, flat, *inputs, activation="none")
    return _Layer(gates, recurrence, behind, functions, batch, hidden, name)


def _initial(b: Builder, call: Call, index: int, direction: int, rows: bool) -> Tensor | None:
    """The state before the first step, [batch, hidden]; None when it is zero."""
    if not call.has(index) or (b.is_known(call, index) and not b.known[call.inputs[index]].any()):
        return None
    whole = b.operand(call, index)
    whole = b.transpose(whole, (1, 0, 2)) if rows else whole
    return b.reshape(b.take(whole, np.arange(direction, direction + 1), 0), whole.shape[1:])


def _sequence(b: Builder, outputs: list[list[Tensor]], batch: int, hidden: int, rows: bool) -> Tensor:
    directions = []
    for steps in outputs:
        parts = [b.reshape(h, (1, 1, batch, hidden)) for h in steps]
        directions.append(parts[0] if len(parts) == 1 else b.add(Op.CONCAT, *parts, axis=0))
    y = directions[0] if len(directions) == 1 else b.add(Op.CONCAT, *directions, axis=1)
    return b.transpose(y, (2, 0, 1, 3)) if rows else y


def _stacked(b: Builder, states: list[Tensor | None], batch: int, hidden: int, rows: bool) -> Tensor:
    parts = [b.reshape(state, (1, batch, hidden)) for state in states if state is not None]
    y = parts[0] if len(parts) == 1 else b.add(Op.CONCAT, *parts, axis=0)
    return b.transpose(y, (1, 0, 2)) if rows else y


HANDLERS: dict[str, Handler] = dict.fromkeys(KINDS, recurrent)
