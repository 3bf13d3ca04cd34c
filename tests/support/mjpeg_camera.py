"""A network camera, Motion JPEG over HTTP, that ends, stalls, breaks and comes back on demand. No tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

BOUNDARY = "frame"


class Camera:
    """One camera; each connection gets pictures, each of another grey level, until something is `wrong`.

    Attributes:
        wrong: "" for nothing; "end" ends the answer, "stall" sends no more, "break" cuts a picture in the
            middle, "noise" sends bytes that are no picture, "refuse" answers 503, "page" with a page of text.
        connections: How many there were.
    """

    def __init__(self) -> None:
        opencv = pytest.importorskip("cv2", reason="extra [camera]")
        grey = (np.full((24, 32, 3), 20 + 37 * i % 200, np.uint8) for i in range(8))
        self._pictures = [opencv.imencode(".jpg", one)[1].tobytes() for one in grey]
        self.wrong, self.connections = "", 0
        self._over = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.connections += 1
                with suppress(OSError):  # whoever watches may go
                    camera._show(self)

            def log_message(self, *_: Any) -> None:
                """Tests print enough."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/video"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Switch it off."""
        self._over.set()
        self._http.shutdown()
        self._http.server_close()

    def _show(self, handler: BaseHTTPRequestHandler) -> None:
        if self.wrong == "refuse":
            handler.send_error(503)
            return
        handler.send_response(200)
        if self.wrong == "page":
            handler.end_headers()
            handler.wfile.write(b"<html>log in</html>")
            return
        handler.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        handler.end_headers()
        number = 0
        while not self._over.wait(0.01) and self.wrong != "end":
            picture = self._pictures[number % len(self._pictures)]
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            if self.wrong == "stall":
                self._over.wait()
            elif self.wrong == "break":
                handler.wfile.write(head.encode() + picture[: len(picture) // 2])
                return
            elif self.wrong == "noise":
                picture = bytes(reversed(picture))
            handler.wfile.write(head.encode() + picture + b"\r\n")
            number += 1


@contextmanager
def mjpeg_camera() -> Iterator[Camera]:
    """A camera that works."""
    made = Camera()
    try:
        yield made
    finally:
        made.close()
