"""Whether a rule of the tensor contract fits the tensors that it is stated for; pure, by shapes alone."""

from __future__ import annotations

import math

from edge_contracts.processing import (
    Anchors,
    Candidates,
    Classes,
    Detections,
    Picture,
    Sound,
    Table,
)


def misfit_of_input(
    rule: Picture | Sound | Table, shape: tuple[int, ...], layout: str, color_order: str, dtype: str
) -> str:
    """Why a rule cannot make a tensor; "" when it can."""
    size = math.prod(shape[1:])
    if isinstance(rule, Picture):
        return _misfit_of_picture(rule, shape, layout, color_order, dtype)
    if isinstance(rule, Sound) and dtype != "float32" and not (dtype == "int32" and rule.scale == "int16"):
        return f'sound becomes float32 (or int32 with scale = "int16"), the tensor is {dtype}'
    if isinstance(rule, Sound) and max(shape[1:], default=0) != size:
        return f"sound is one row of numbers, the tensor has shape {shape}"
    if isinstance(rule, Table) and rule.width != size:
        return f"the columns make {rule.width} numbers, the tensor holds {size}"
    return ""


def misfit_of_answer(
    rule: Classes | Detections | Candidates | Anchors, shapes: dict[str, tuple[int, ...]], has_picture: bool
) -> str:
    """Why a rule cannot read a model's outputs; "" when it can.

    Args:
        shapes: Of the outputs by name, batch axis first.
        has_picture: Whether an input has the layout of one, so that pixels have a meaning.
    """
    if isinstance(rule, Classes):
        return ""
    if getattr(rule, "unit", "share") == "pixel" and not has_picture:
        return 'boxes are in pixels, and no input has the layout of a picture; unit = "share" otherwise'
    named = {
        "boxes": getattr(rule, "boxes", ""),
        "scores": getattr(rule, "scores", ""),
        "classes": getattr(rule, "classes", ""),
        "count": getattr(rule, "count", "") if isinstance(rule, Detections) else "",
        "output": getattr(rule, "output", ""),
    }
    for field, name in named.items():
        if name and name not in shapes:
            return f"{field} names the output {name!r}; there are {', '.join(map(repr, shapes))}"
    if isinstance(rule, Detections):
        last = 4 if rule.scores else 6
        if len(shapes[rule.boxes]) != 3 or shapes[rule.boxes][2] != last:
            return f"{rule.boxes!r} has shape {shapes[rule.boxes]}, expected (1, k, {last})"
    elif isinstance(rule, Candidates):
        shape = shapes[rule.output]
        columns = shape[2 if rule.along == "rows" else 1] if len(shape) == 3 else 0
        if columns < 5 + rule.objectness:
            return f"{rule.output!r} has shape {shape}: no class is left along its {rule.along}"
    else:
        boxes, scores = shapes[rule.boxes], shapes[rule.scores]
        wanted = (1, rule.count, 4 + 2 * rule.keypoints)
        if boxes != wanted:
            return f"{rule.boxes!r} has shape {boxes}, the anchors make {wanted}"
        if scores[:2] != (1, rule.count) or len(scores) > 3:
            return f"{rule.scores!r} has shape {scores}, expected (1, {rule.count}, classes)"
    return ""


def classes_of(
    rule: Classes | Detections | Candidates | Anchors, shapes: dict[str, tuple[int, ...]]
) -> int | None:
    """How many classes a detector's answers can have; None where the outputs do not show it."""
    if isinstance(rule, Candidates):
        return shapes[rule.output][2 if rule.along == "rows" else 1] - 4 - rule.objectness
    if isinstance(rule, Anchors):
        scores = shapes[rule.scores]
        return (scores[2] if len(scores) == 3 else 1) - rule.background
    return None


def _misfit_of_picture(
    rule: Picture, shape: tuple[int, ...], layout: str, color_order: str, dtype: str
) -> str:
    if len(shape) != 4 or not layout:
        return (
            f"a picture needs a layout, NHWC or NCHW, as the convolution that reads it gives one; "
            f"the tensor has {layout or 'none'} and {shape}"
        )
    rows, columns, channels = shape[1:] if layout == "NHWC" else (*shape[2:], shape[1])
    if channels not in (1, 3):
        return f"a picture has 1 or 3 channels, the tensor {channels}"
    if channels == 3 and not color_order:
        return "a picture of 3 channels needs a colour order, RGB or BGR, and none was stated"
    if channels == 1 and (len(rule.mean), len(rule.std), len(rule.pad)) != (1, 1, 1):
        return "mean, std and pad have 3 numbers, the tensor 1 channel"
    if rule.shorter_side is not None and rule.shorter_side < max(rows, columns):
        return f"shorter_side {rule.shorter_side} leaves less than {rows} x {columns} to cut out"
    if dtype in ("uint8", "int8", "int32", "int64"):
        limits = {"uint8": (0, 255), "int8": (-128, 127)}.get(dtype, (-(1 << 31), (1 << 31) - 1))
        low, high = rule.span()
        if round(low) < limits[0] or round(high) > limits[1]:
            return f"pixels become {low:g} to {high:g}, which {dtype} cannot hold"
    elif dtype != "float32":
        return f"a picture cannot become {dtype}"
    return ""
