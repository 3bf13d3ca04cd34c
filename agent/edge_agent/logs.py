"""How the agent's log looks: events with fields on stderr, as text or as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class TextFormatter(logging.Formatter):
    """`12:34:56 INFO confirmed bundle=sha256:... assignment=3`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {key}={_shown(value)}" for key, value in _fields(record).items())
        return f"{time} {record.levelname:<7} {record.getMessage()}{fields}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(entry | _fields(record), default=str)


def set_up(as_json: bool, verbose: bool) -> None:
    """Send the log of this package to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger("edge_agent")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What `extra` brought, without what is empty."""
    return {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD and value is not None and value != ""
    }


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    return json.dumps(text) if " " in text else text
