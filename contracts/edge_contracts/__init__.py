"""What agent, converter and server agree on: formats, their checks, and nothing of any of the three."""

import sys


def _import_msgspec() -> None:
    """Import msgspec as it is without `typing_extensions`: what it takes from there, Python 3.11 has itself.

    LiteRT's package brings `typing_extensions` onto every device; nothing else that a daemon runs loads it,
    and it is half a megabyte.
    """
    if sys.modules.keys() & {"msgspec", "typing_extensions"}:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment] # makes the import of it fail
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


_import_msgspec()
