"""How bytes become an input and how outputs become an answer: the parts of the tensor contract that
are rules rather than shapes.

The publisher states them when the bundle is made and signs them with it; a device follows them to the
letter, so that it shows the model what its training showed it. What a rule means is written here once,
with the arithmetic; whether it fits its tensor is `processing_fit.py`'s question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, field

from edge_contracts.model import Finite, Frozen, NotNegative, Positive, Share, later

Named = Annotated[str, Meta(min_length=1, max_length=256)]
Strictness = Literal["flag", "refuse"]
Resample = Literal[
    "pillow-nearest", "pillow-box", "pillow-bilinear", "pillow-bicubic", "pillow-lanczos", "tf-bilinear"
]


class Picture(Frozen):
    """An input that is made from a picture: JPEG or PNG bytes, or the pixels of a frame.

    1. The picture becomes 8-bit RGB, or grey (0.299 R + 0.587 G + 0.114 B) for a tensor of one channel;
       transparency is left out. With `upright` it is turned first as its EXIF orientation says.
    2. It is fitted into the tensor's height H and width W from its own h, w.
       "stretch": resized to H, W.
       "crop": resized so that its shorter side is `shorter_side` and its longer one
       int(longer * shorter_side / shorter); then H, W are cut out, beginning at round((h - H) / 2),
       round((w - W) / 2), halves to even, as torchvision's Resize and CenterCrop do.
       "letterbox": resized by s = min(H / h, W / w) to floor(h s + 0.5), floor(w s + 0.5), and put at
       (H - h') // 2, (W - w') // 2 of a field of colour `pad`.
    3. "BGR" in the tensor's colour order turns the channels round.
    4. value = (pixel / divisor - mean) / std in float32, by channel in the tensor's order; an integer tensor
       takes it rounded, halves to even.

    Args:
        resample: "pillow-*" is Pillow's Image.resize with that filter (torchvision on Pillow pictures,
            Keras's load_img): when shrinking, the filter is widened, and the result is 8-bit. "tf-bilinear"
            is tf.image.resize's default: half-pixel centres, four neighbours whatever the scale, float32,
            not rounded.
        mean, std: One for all channels, or one each.
        pad: RGB, or one grey level.
    """

    kind: Literal["picture"]
    resample: Resample
    fit: Literal["stretch", "crop", "letterbox"] = "stretch"
    shorter_side: Annotated[int, Meta(ge=1, le=8192)] | None = None
    pad: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = (0,)
    divisor: Positive = 1.0
    mean: tuple[Finite, ...] = (0.0,)
    std: tuple[Positive, ...] = (1.0,)
    upright: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.shorter_side is not None) != (self.fit == "crop"):
            raise ValueError('shorter_side goes with fit = "crop", and fit = "crop" needs it')
        for name in ("mean", "std", "pad"):
            if len(getattr(self, name)) not in (1, 3):
                raise ValueError(f"{name} has {len(getattr(self, name))} numbers; expected 1 or 3")

    def span(self) -> tuple[float, float]:
        """The smallest and the largest value that any pixel can become."""
        means, stds = _each(self.mean), _each(self.std)
        low = min((0 - mean) / std for mean, std in zip(means, stds, strict=True))
        high = max((255 / self.divisor - mean) / std for mean, std in zip(means, stds, strict=True))
        return low, high


class Sound(Frozen):
    """An input that is made from sound: WAV bytes of integer PCM.

    Channels are averaged; there is no resampling: another rate is refused. A longer sound becomes several
    samples, one every `hop` values, as many as fit; a shorter one is refused, or filled up with silence.

    Args:
        scale: "unit" gives -1 to below 1 (16-bit: value / 32_768), "int16" -32768 to 32767.
        short: What becomes of a sound shorter than the tensor.
        hop: None refuses a longer sound.
    """

    kind: Literal["sound"]
    sample_rate_hz: Annotated[int, Meta(ge=1, le=1_000_000)]
    scale: Literal["unit", "int16"] = "unit"
    short: Literal["refuse", "pad"] = "refuse"
    hop: Annotated[int, Meta(ge=1)] | None = None


class NumberColumn(Frozen):
    """A column of numbers: value = (x - mean) / std, in float64 and then in the tensor's dtype.

    Args:
        low, high: What x may be.
        missing: x of an empty cell; None refuses it.
    """

    kind: Literal["number"] = "number"
    name: Named
    low: Finite | None = None
    high: Finite | None = None
    mean: Finite = 0.0
    std: Positive = 1.0
    missing: Finite | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"column {self.name!r}: low {self.low} is above high {self.high}")


class CategoryColumn(Frozen):
    """A column of names out of a list.

    Args:
        encoding: "one-hot" gives one number for each of `values`; "index" gives its place among them.
    """

    kind: Literal["category"]
    name: Named
    values: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4096)]
    encoding: Literal["one-hot", "index"] = "one-hot"

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"column {self.name!r} lists a value twice")


class Table(Frozen):
    """An input that is made from rows of a table: CSV with a header, or JSON objects by column name.

    Columns stand in the tensor in this order, each as wide as its encoding; others in the file are left out.

    Args:
        outside: What becomes of a number beyond its column's low and high, and of a category that is not
            listed: the row is refused, or answered and flagged. A category without a code, which an index
            needs, is always refused.
    """

    kind: Literal["table"]
    columns: Annotated[tuple[NumberColumn | CategoryColumn, ...], Meta(min_length=1, max_length=4096)]
    outside: Strictness = "refuse"

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("two columns have the same name")

    @classmethod
    def model_validate(cls, raw: Any) -> Self:
        """As every model; a column of a file that does not say its kind is one of numbers."""
        return super().model_validate(_columns_with_kinds(raw))

    @property
    def width(self) -> int:
        """Numbers in the tensor."""
        return sum(width_of(column) for column in self.columns)


Preparation = Picture | Sound | Table


class Checks(Frozen):
    """What else an input must be, beside finite and of its shape.

    Args:
        constant: A sample whose values all lie within `constant_within` of each other: a covered lens, a dead
            sensor.
        stuck_after: The same sample, bit for bit, so many times in a row from one source (the first one
            counted); None does not look.
        stuck: What becomes of the stuck samples from then on.
        out_of_range: What becomes of a sample far outside what calibration saw.
    """

    constant: Literal["allow", "flag", "refuse"] = "allow"
    constant_within: NotNegative = 0.0
    stuck_after: Annotated[int, Meta(ge=2, le=1_000_000)] | None = None
    stuck: Strictness = "flag"
    out_of_range: Strictness = "flag"


class Classes(Frozen):
    """An answer that is the best classes of the first output.

    Args:
        activation: What makes probabilities of the scores: "none" when they are, "softmax" over logits, or
            "sigmoid" of each on its own.
        top_k: At most so many are named, best first; of equal ones the lower index.
        at_least: Those below are left out.
    """

    kind: Literal["classes"]
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    at_least: Share = 0.0


class _Boxes(Frozen):
    """What all detectors' answers have in common.

    Args:
        min_score: Boxes below are left out.
        max_iou: Of two boxes of one class that overlap more (intersection over union), the one with the lower
            score is left out; None keeps both, for models that have sorted that out themselves.
        across_classes: Let boxes of different classes push each other out, too.
        max_boxes: The best so many are kept.
    """

    min_score: Share = 0.5
    max_iou: Share | None = 0.45
    across_classes: bool = False
    max_boxes: Annotated[int, Meta(ge=1, le=10_000)] = 100


class Detections(_Boxes):
    """Outputs that are boxes already, such as TFLite_Detection_PostProcess gives.

    Args:
        boxes, scores, classes: Outputs of shapes (1, k, 4), (1, k), (1, k); without scores and classes,
            `boxes` is (1, k, 6) with score and class behind the corners.
        count: Output that says how many of the k are meant; "" for all.
        corners: Order of the four numbers.
        unit: Of the corners: shares of the model's picture, or its pixels.
        first_class: The number that the model calls the first label.
    """

    kind: Literal["detections"]
    boxes: Named
    scores: str = ""
    classes: str = ""
    count: str = ""
    corners: Literal["yxyx", "xyxy"] = "yxyx"
    unit: Literal["share", "pixel"] = "share"
    first_class: int = 0

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if bool(self.scores) != bool(self.classes):
            raise ValueError("scores and classes go together: outputs of their own, or columns of boxes")


class Candidates(_Boxes):
    """One output of candidates with the scores of all classes, such as YOLO's.

    Args:
        output: Its name; shape (1, n, 4 + c), or (1, 4 + c, n) with `along` "columns".
        form: What the first four are: centre and size, or corners.
        objectness: A fifth number comes before the classes, and multiplies them.
        activation: What makes probabilities of scores and objectness.
    """

    kind: Literal["candidates"]
    output: Named
    along: Literal["rows", "columns"] = "rows"
    form: Literal["cxcywh", "xyxy", "yxyx"] = "cxcywh"
    unit: Literal["share", "pixel"] = "pixel"
    objectness: bool = False
    activation: Literal["none", "sigmoid"] = "none"


class Grid(Frozen):
    """Anchors in the middle of every cell of a grid, row by row; all sizes of a cell before the next cell.

    Args:
        sizes: Width and height of each anchor as shares of the picture; (1, 1) where the model's own
            boxes have sizes.
    """

    rows: Annotated[int, Meta(ge=1, le=1024)]
    columns: Annotated[int, Meta(ge=1, le=1024)]
    sizes: Annotated[
        tuple[tuple[Positive, Positive], ...],
        Meta(min_length=1, max_length=64),
    ]


class Anchors(_Boxes):
    """Offsets from anchors, such as SSD's and BlazeFace's.

    Of an anchor with centre (X, Y) and size (W, H), and numbers (x, y, w, h) in the order that `order` says,
    the box has its centre at (X + W x / scale[0], Y + H y / scale[1]) and the size (W w / scale[2],
    H h / scale[3]) with `size` "linear", (W exp(w / scale[2]), H exp(h / scale[3])) with "exp".

    Args:
        boxes: Output (1, n, 4 + 2 keypoints), n the anchors of all grids in order; keypoints are x, y in
            turn, scaled like a centre.
        scores: Output (1, n, c), or (1, n) of one class.
        background: The scores' first column is "nothing"; it is never an answer.
    """

    kind: Literal["anchors"]
    boxes: Named
    scores: Named
    grids: Annotated[tuple[Grid, ...], Meta(min_length=1, max_length=64)]
    scale: tuple[Finite, Finite, Finite, Finite]
    order: Literal["xywh", "yxhw"] = "xywh"
    size: Literal["linear", "exp"] = "linear"
    keypoints: Annotated[int, Meta(ge=0, le=64)] = 0
    activation: Literal["none", "sigmoid", "softmax"] = "sigmoid"
    background: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if min(self.scale) <= 0:
            raise ValueError(f"scale {self.scale}: expected four numbers above 0")
        if self.activation == "softmax" and not self.background:
            raise ValueError('activation "softmax" needs background = true, else every box is something')

    @property
    def count(self) -> int:
        """Of anchors."""
        return sum(grid.rows * grid.columns * len(grid.sizes) for grid in self.grids)


Interpretation = Classes | Detections | Candidates | Anchors


def _columns_with_kinds(table: Any) -> Any:
    """A table as somebody has written it, with the kind of every column."""
    columns = table.get("columns") if isinstance(table, Mapping) else None
    if not isinstance(columns, list | tuple):
        return table
    said = [{"kind": "number", **one} if isinstance(one, Mapping) else one for one in columns]
    return {**table, "columns": said}


def width_of(column: NumberColumn | CategoryColumn) -> int:
    """Numbers that a column takes in the tensor."""
    one_hot = isinstance(column, CategoryColumn) and column.encoding == "one-hot"
    return len(column.values) if isinstance(column, CategoryColumn) and one_hot else 1


class InputProcessing(Frozen):
    """What a publisher says of one input: see `Picture`, `Sound`, `Table` and `Checks`."""

    prepare: Preparation | None = None
    checks: Checks | None = None


class Processing(Frozen):
    """What a publisher says of bytes and answers: the file of `edge-convert build --processing`.

    Args:
        inputs: By tensor name.
        interpret: How the outputs become an answer.
    """

    inputs: dict[str, InputProcessing] = field(default_factory=dict)
    interpret: Interpretation | None = later(None)

    @classmethod
    def model_validate(cls, raw: Any) -> Self:
        """As every model; see `Table`."""
        inputs = raw.get("inputs") if isinstance(raw, Mapping) else None
        if not isinstance(inputs, Mapping):
            return super().model_validate(raw)
        return super().model_validate(
            {**raw, "inputs": {name: with_kinds(one) for name, one in inputs.items()}}
        )


def with_kinds(said: Any) -> Any:
    """What somebody has written of an input, with the kind of every column of its table."""
    rule = said.get("prepare") if isinstance(said, Mapping) else None
    if not isinstance(rule, Mapping) or rule.get("kind") != "table":
        return said
    return {**said, "prepare": _columns_with_kinds(rule)}


def _each(values: tuple[float, ...]) -> tuple[float, ...]:
    return values if len(values) == 3 else values * 3
