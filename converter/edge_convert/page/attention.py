"""What the answers rest on: maps over pictures, or the importance of features, of source and artifact."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page import drawings, figures, plots
from edge_convert.page.answers import picture
from edge_convert.page.markup import (
    Column,
    Fields,
    Markup,
    bullets,
    element,
    folded,
    join,
    part,
    sentence,
    table,
)


def part_of(profile: Fields) -> Markup:
    """Maps or columns; the reason when there are neither."""
    explained = profile.get("explanation") or {}
    notes = bullets(explained.get("notes") or [], "notes")
    if explained.get("occlusion"):
        maps = [_maps(pair) for pair in explained["occlusion"]]
        return part(
            "What it looks at",
            element("ul", *(element("li", m) for m in maps), class_="maps"),
            drawings.legend(
                ("for", "covering this lowers the answer"), ("against", "covering this raises it")
            ),
            notes,
            note="A square of the picture is covered at a time, and the fall of the answer is drawn where "
            "it was. Both maps of a picture have the same scale.",
        )
    if explained.get("permutation"):
        return part("What it rests on", *_importance(explained["permutation"]), notes)
    return part("What it rests on", notes) if notes else Markup()


def _maps(pair: Fields) -> Markup:
    strongest = max(abs(v) for side in ("source", "artifact") for line in pair[side] for v in line)
    aspect = _aspect(pair)
    sides = [
        element(
            "div",
            drawings.heat_map(
                f"{side}, sample {pair['sample']}", pair[side], strongest, pair.get("picture") or "", aspect
            ),
            element("span", side),
        )
        for side in ("source", "artifact")
    ]
    image = picture(pair)
    first = [element("div", image, element("span", "picture"))] if image else []
    of = f", {pair['name']}" if pair.get("name") else ""
    return element(
        "figure",
        element("div", *first, *sides, class_="row"),
        element(
            "figcaption", f"Sample {pair['sample']}{of} ({pair['why']}): {alike(pair['rank_correlation'])}."
        ),
    )


def _aspect(pair: Fields) -> float:
    """Width over height: of the picture where it can be told, else of the cells."""
    size = _png_size(pair.get("picture") or "")
    width, height = size or (len(pair["source"][0]), len(pair["source"]))
    return width / height


def _png_size(address: str) -> tuple[int, int] | None:
    """Width and height that a PNG's header states."""
    from base64 import b64decode

    prefix = "data:image/png;base64,"
    if not address.startswith(prefix):
        return None
    head = b64decode(address[len(prefix) : len(prefix) + 32])
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return (width, height) if width and height else None


def alike(correlation: float | None) -> str:
    """A rank correlation in words."""
    if correlation is None:
        return "one of the two depends on nothing here"
    degree = "alike" if correlation >= 0.9 else "much alike" if correlation >= 0.7 else "somewhat alike"
    degree = degree if correlation >= 0.4 else "not alike"
    return f"the two are {degree} (rank correlation {figures.signed(correlation, 2)})"


def _importance(importance: Fields) -> list[Markup]:
    features: Sequence[Fields] = importance["features"]
    drawn = plots.columns(
        "Importance of features",
        ("feature, in the input's order", "share of the variance"),
        [(f["name"], f["source"], f["artifact"]) for f in features],
    )
    words = (
        f"One feature at a time is dealt out anew among {importance['samples']} samples; the columns are "
        "the share of the answers' variance that it has a part in. Source and artifact: "
        f"{alike(importance['rank_correlation'])}."
    )
    columns = (Column("feature"), Column("source", True), Column("artifact", True))
    rows = [(f["name"], f"{f['source']:.4f}", f"{f['artifact']:.4f}") for f in features]
    colours = drawings.legend(("source", "source"), ("artifact", "artifact"))
    return [
        element("div", element("div", sentence(words), colours), drawn, class_="pair"),
        folded("The figures", join([table(columns, rows, "Importance by feature")])),
    ]
