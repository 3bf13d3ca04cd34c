"""How the server's log looks: events with their fields on stderr, one a line, the same once a minute."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
QUIET_S = 60.0  # a database that is away for a day fails ten parts of the server every second
REMEMBERED = 256
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Fields(logging.Formatter):
    """`2026-01-01 12:34:56,789 ERROR edge_fleet.ingest: batch not stored reason=database is locked`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        # a path of somebody's request or a driver's words must not make a line of their own
        fields = ((key, " ".join(str(value).splitlines())) for key, value in _fields(record).items())
        return super().format(record) + "".join(f" {key}={value}" for key, value in fields)


class Repeats(logging.Filter):
    """Leaves out a warning or an error that says word for word what one of the last minute said.

    One with a traceback always passes.
    The next one that passes says in `repeated` how many were left out.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when it passed, how many since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes."""
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        now_s, words = self._clock(), f"{record.name} {record.getMessage()} {_fields(record)}"
        passed_s, left_out = self._said.get(words, (-QUIET_S, 0))
        passes = now_s - passed_s >= QUIET_S
        if passes and left_out:
            record.repeated = left_out
        self._said[words] = (now_s, 0) if passes else (passed_s, left_out + 1)
        self._said.move_to_end(words)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return passes


def log_to_stderr() -> None:
    """Send the log of this package to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Fields(FORMAT))
    handler.addFilter(Repeats())
    logger = logging.getLogger("edge_fleet")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
