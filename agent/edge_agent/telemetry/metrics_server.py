"""The HTTP server of the metrics: one page, for this machine alone, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from edge_agent.errors import SettingRefused
from edge_agent.telemetry.exposition import CONTENT_TYPE

TIMEOUT_S = 10.0


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, on this machine.

    Raises:
        SettingRefused: It is not that; metrics have no password, so that nobody else may ask.
    """
    host, separator, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        local = ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise SettingRefused(f"--metrics {text!r:.80} is not HOST:PORT, such as 127.0.0.1:9105") from None
    if not separator or not local or not 0 <= number < 65536:
        raise SettingRefused(
            f"--metrics {text!r:.80} is not a loopback address with a port, such as 127.0.0.1:9105; metrics "
            "have no password: put a proxy that asks for one before them"
        )
    return host, number


class MetricsServer:
    """Answers `GET /metrics`.

    Args:
        render: Called in a thread of the server; must only read.
    """

    def __init__(self, host: str, port: int, render: Callable[[], str]) -> None:
        """Take the port.

        Raises:
            SettingRefused: It cannot be had.
        """

        class Page(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def do_GET(self) -> None:
                found = self.path.split("?")[0] in ("/metrics", "/")
                content = render().encode() if found else b"try /metrics\n"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", CONTENT_TYPE if found else "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """One line for each scrape would fill the log."""

        server = ThreadingHTTPServer
        server.daemon_threads = True
        try:
            self._server = server((host, port), Page)
        except OSError as error:
            raise SettingRefused(f"--metrics {host}:{port}: {error.strerror or error}") from None
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
