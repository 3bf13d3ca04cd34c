"""Numbers as a person reads them."""

from __future__ import annotations

MINUS = "\u2212"
TIMES = "\u00d7"


def size(count: float) -> str:
    """Bytes in the unit that leaves three digits or so."""
    for unit, step in (("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}" if count < 999.5 * step else f"{count / step:,.0f} {unit}"
    return f"{count:.0f} B"


def share(value: float | None, digits: int = 1) -> str:
    """A share of 1 as percent; "" for None."""
    return "" if value is None else f"{100 * value:.{digits}f} %"


def decibels(value: float | None) -> str:
    """A ratio in decibels; None is that of equal outputs."""
    return "exact" if value is None else f"{signed(value, 1)} dB"


def signed(value: float, digits: int, plus: bool = False) -> str:
    """A number with a real minus sign."""
    rounded = f"{abs(value):.{digits}f}"
    if float(rounded) == 0:
        return rounded
    return (MINUS if value < 0 else "+" if plus else "") + rounded


def general(value: float | None, digits: int = 3) -> str:
    """A number of any size in so many digits; "" for None."""
    if value is None:
        return ""
    made = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return made.replace("-", MINUS)


def times(ratio: float, smaller: str, larger: str) -> str:
    """A ratio to what was before, in words: 0.5 is "2.0x faster", 2 is "2.0x slower".

    Args:
        smaller, larger: What below and above 1 mean.
    """
    if ratio <= 0 or 0.995 <= ratio <= 1.005:
        return "same"
    word, factor = (smaller, 1 / ratio) if ratio < 1 else (larger, ratio)
    digits = 0 if factor >= 9.95 else 1 if factor >= 1.95 else 2
    return f"{factor:.{digits}f}{TIMES} {word}"


def milliseconds(value: float | None) -> str:
    """Milliseconds, or microseconds below a tenth of one; "" for None."""
    if value is None:
        return ""
    return f"{1000 * value:.3g} µs" if value < 0.1 else f"{value:.3g} ms"
