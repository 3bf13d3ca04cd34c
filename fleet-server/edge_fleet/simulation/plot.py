"""A dry run as a picture: how many devices are exposed to a defect, and what becomes of the rollout."""

from __future__ import annotations

from html import escape

from edge_fleet.simulation.report import label
from edge_fleet.simulation.study import Study

_WIDTH, _LEFT, _ROW, _TOP = 800, 210, 30, 62
_BARS = 310  # of exposed devices
_ENDS = 150  # of what became of the runs
# What becomes of runs: its colour, and what it is called below the picture.
_COLOURS = {"halted": "#2e7d32", "held": "#f9a825", "expired": "#6a1b9a", "completed": "#c62828"}
_WORDS = {"held": "held for a person", "expired": "deadline", "completed": "not seen"}


def svg(study: Study, title: str) -> str:
    """An SVG file, readable on light and on dark."""
    rows = study.rows[1:]
    height = _TOP + _ROW * len(rows) + 40
    most = max((row.exposed_most for row in rows), default=1.0) or 1.0
    ends_x = _LEFT + _BARS + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 24, title, weight="bold"),
        _text(_LEFT, 48, f"devices exposed, of {study.devices} (median, line: 95 of 100 runs)"),
        _text(ends_x, 48, "runs"),
    ]
    for place, row in enumerate(rows):
        y = _TOP + _ROW * place
        median, high = (_BARS * value / most for value in (row.exposed, row.exposed_most))
        parts += [
            _text(16, y + 16, label(row)),
            f'<rect x="{_LEFT}" y="{y + 4}" width="{max(1.0, median):.1f}" height="16" fill="#1565c0"/>',
            f'<path d="M{_LEFT + median:.1f} {y + 12}H{_LEFT + high:.1f}m0 -5v10" '
            'stroke="#0d2f57" fill="none"/>',
            _text(_LEFT + high + 6, y + 16, f"{row.exposed:.0f}"),
        ]
        x = float(ends_x)
        shares = (row.halted, row.waits, row.expired, row.completed)
        for name, share in zip(_COLOURS, shares, strict=True):
            if share:
                wide = _ENDS * share
                parts.append(
                    f'<rect x="{x:.1f}" y="{y + 4}" width="{wide:.1f}" height="16" fill="{_COLOURS[name]}">'
                    f"<title>{name} {share:.0%}</title></rect>"
                )
                x += wide
    y = _TOP + _ROW * len(rows) + 22
    x = float(ends_x) - (230 if any(row.expired for row in rows) else 130)
    expires = any(row.expired for row in rows)
    for name in (name for name in _COLOURS if expires or name != "expired"):
        told = _WORDS.get(name, name)
        parts += [
            f'<rect x="{x:.0f}" y="{y - 10}" width="11" height="11" fill="{_COLOURS[name]}"/>',
            _text(x + 16, y, told),
        ]
        x += 30 + 7.2 * len(told)
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-weight="{weight}" fill="#1c1c1c">{escape(text)}</text>'
