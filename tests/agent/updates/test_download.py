"""Fetching an archive from a real HTTP server that breaks off, lies, refuses and sends too much."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_agent.device import patience
from edge_agent.errors import (
    DownloadWaits,
    HomeInvalid,
    NoSpace,
    RanFull,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
)
from edge_agent.updates.budget import DataMeter, DataRules
from edge_agent.updates.download import Cancelled, fetch
from edge_agent.updates.room import RESERVE_BYTES
from edge_contracts.digest import digest_of
from edge_contracts.errors import DigestMismatch

CONTENT = os.urandom(700_000)
DIGEST = digest_of(CONTENT)


# What http.client reads for ever: how it begins, and what comes then again and again.
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WITHOUT_END = {
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "lines after the last chunk": (CHUNKED + b"3\r\nabc\r\n0\r\n", b"X: y\r\n" * 10_000),
    "framing": (CHUNKED, b"1;" + b"x" * 60_000 + b"\r\na\r\n"),
}


class Server:
    """Sends an archive the way a test wants it."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.cuts: list[int] = []  # bytes after which each of the next answers is cut
        self.status = 0  # instead of sending anything
        self.knows_ranges = True
        self.extra = b""
        self.etag = ""
        self.headers: dict[str, str] = {}  # more of them, or others
        self.drip = False  # one byte at a time, until nobody listens
        self.endless = ""  # "body": it never ends, and does not say how long it is; "head": that never ends;
        # or one of WITHOUT_END
        self.after: Callable[[], None] | None = None  # called when an answer is out
        self.requests: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(dict(self.headers))
                if server.endless:
                    self.send_endlessly(server.endless)
                    return
                if server.status:
                    self.send_response(server.status)
                    for name, value in server.headers.items():
                        self.send_header(name, value)
                    if server.status == 302:
                        self.send_header("Location", "http://127.0.0.1:1/stolen")
                    body = b'{"code": "refused", "message": "not for\\nyou"}'
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                start = 0
                same = not server.etag or self.headers.get("If-Range", server.etag) == server.etag
                if server.knows_ranges and same and (asked := self.headers["Range"]):
                    start = int(asked.removeprefix("bytes=").removesuffix("-"))
                rest = server.content[start:] + server.extra
                self.send_response(206 if start else 200)
                headers = {"Content-Length": str(len(rest))}
                if start:
                    headers["Content-Range"] = (
                        f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
                    )
                if server.etag:
                    headers["ETag"] = server.etag
                for name, value in (headers | server.headers).items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                if server.drip:
                    for at in range(len(rest)):
                        self.wfile.write(rest[at : at + 1])
                    return
                self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)
                if server.after is not None:
                    server.after()

            def send_endlessly(self, what: str) -> None:
                if what in WITHOUT_END:
                    begin, more = WITHOUT_END[what]
                    with suppress(OSError):
                        self.wfile.write(begin)
                        while True:
                            self.wfile.write(more)
                self.send_response(200)
                piece = b"X-More: of it\r\n" * 1000 if what == "head" else bytes(100_000)
                if what == "body":
                    self.end_headers()
                else:
                    self.flush_headers()
                with suppress(OSError):  # until the client has had enough
                    while True:
                        self.wfile.write(piece)

            def log_message(self, *_: Any) -> None:
                """Tests print enough."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/archive"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def get(server: Server, folder: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "url": server.url,
        "digest": DIGEST,
        "size_bytes": len(CONTENT),
        "folder": folder,
        "device": "cam-1",
        "secret": "s3cret",
    }
    return fetch(**(fields | changes))


def test_an_archive_arrives_whole_and_the_device_says_who_it_is(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[0]["Authorization"] == "Bearer s3cret"
    assert server.requests[0]["X-Edge-Device"] == "cam-1"


def test_a_download_that_breaks_off_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 200_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [r.get("Range") for r in server.requests] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_part_from_before_a_restart_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / (DIGEST.removeprefix("sha256:") + ".part")).write_bytes(CONTENT[:123_456])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[0]["Range"] == "bytes=123456-"


def test_a_server_without_ranges_is_asked_for_the_whole(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / (DIGEST.removeprefix("sha256:") + ".part")).write_bytes(b"x" * 1000)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_wrong_part_is_found_out_and_not_continued_for_ever(server: Server, tmp_path: Path) -> None:
    (tmp_path / (DIGEST.removeprefix("sha256:") + ".part")).write_bytes(b"x" * 1000)
    with pytest.raises(DigestMismatch):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_complete_archive_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.requests) == 1


def test_other_content_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DigestMismatch, match="assigned is sha256:"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_stated_size_is_refused_and_never_written(server: Server, tmp_path: Path) -> None:
    server.extra = b"x" * 10_000_000
    with pytest.raises(ServerRefused, match="more than the size"):
        get(server, tmp_path)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= len(CONTENT)


def test_an_answer_that_never_ends_is_left_at_the_stated_size(server: Server, tmp_path: Path) -> None:
    server.endless = "body"
    with pytest.raises(ServerRefused, match="more than the size"):
        get(server, tmp_path)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= len(CONTENT)


def test_a_head_that_never_ends_is_left_too(server: Server, tmp_path: Path) -> None:
    server.endless = "head"
    with pytest.raises(ServerUnreachable) as caught:
        get(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert not part_of(tmp_path).exists() or not part_of(tmp_path).stat().st_size


@pytest.mark.parametrize("what", WITHOUT_END)
def test_what_comes_around_an_answer_for_ever_is_left_and_charged_to_the_budget(
    server: Server, tmp_path: Path, what: str
) -> None:
    server.endless = what
    meter = DataMeter(tmp_path.parent / f"{tmp_path.name}.json", DataRules(day_bytes=10_000_000))
    with pytest.raises(ServerUnreachable, match=r"broke: it sent \d+ bytes for an answer of 853036 at most"):
        get(server, tmp_path, meter=meter)
    assert 853_036 < meter.used().day_bytes < 10_000_000


def test_a_head_of_the_usual_size_costs_nothing(server: Server, tmp_path: Path) -> None:
    meter = DataMeter(tmp_path.parent / f"{tmp_path.name}.json")
    get(server, tmp_path, meter=meter)
    assert meter.used().day_bytes == len(CONTENT)


@pytest.mark.parametrize("begin", [b"", CHUNKED], ids=["a head", "the length of a chunk"])
def test_a_server_that_drips_what_is_no_content_is_as_good_as_gone(
    tmp_path: Path, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SLOW_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            taken, _ = listening.accept()
            with taken, suppress(OSError):  # until the client has had enough
                taken.sendall(begin)
                while True:
                    taken.sendall(b"0")
                    time.sleep(0.01)

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/archive"
        with pytest.raises(ServerUnreachable, match=r"broke: the server sent \d+ bytes in 0 s"):
            fetch(url, DIGEST, len(CONTENT), tmp_path, "cam-1", "s3cret")
        thread.join()


def test_noise_of_no_server_is_told_in_short(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shout() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(65536)
                taken.sendall(b"\0\xff" * 5000)

        thread = threading.Thread(target=shout)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/archive"
        with pytest.raises(ServerUnreachable) as caught:
            fetch(url, DIGEST, len(CONTENT), tmp_path, "cam-1", "s3cret")
        thread.join()
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_an_answer_without_progress_is_an_error_and_not_a_loop(server: Server, tmp_path: Path) -> None:
    server.cuts = [0]
    with pytest.raises(ServerUnreachable):
        get(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (401, ServerRefused, "answers 401 Unauthorized: not for you"),
        (404, ServerRefused, "404"),
        (302, ServerRefused, "302"),  # following it would carry the secret to another host
        (500, ServerUnreachable, "500"),
        (503, ServerBusy, "503"),
        (429, ServerBusy, "429"),
        (416, ServerRefused, "416"),
    ],
)
def test_a_server_that_says_no_is_quoted_on_one_line(
    server: Server, tmp_path: Path, status: int, error: type[Exception], said: str
) -> None:
    server.status = status
    with pytest.raises(error, match=said) as caught:
        get(server, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, server: Server) -> None:
    with pytest.raises(ServerUnreachable, match=r"no server at http://127\.0\.0\.1:1/x: Connection refused"):
        get(server, tmp_path, url="http://127.0.0.1:1/x")


def test_a_full_disk_is_said_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    room = 3 * len(CONTENT) + RESERVE_BYTES  # the archive, and what comes out of it
    with pytest.raises(NoSpace, match=f"has {room - 1} bytes free"):
        get(server, tmp_path, free_bytes=lambda _: room - 1)
    assert server.requests == []
    assert get(server, tmp_path, free_bytes=lambda _: room).exists()


def test_a_disk_that_fills_up_meanwhile_is_no_space_too(server: Server, tmp_path: Path) -> None:
    part = tmp_path / (DIGEST.removeprefix("sha256:") + ".part")
    part.symlink_to("/dev/full")
    with pytest.raises(NoSpace, match="ran full"):
        get(server, tmp_path)


def test_a_download_that_is_called_off_keeps_what_it_has(server: Server, tmp_path: Path) -> None:
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        get(server, tmp_path, cancelled=lambda: next(asked))
    assert 0 < next(tmp_path.glob("*.part")).stat().st_size < len(CONTENT)


def test_parts_of_other_archives_are_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "old.part").write_bytes(b"x")
    get(server, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {DIGEST.removeprefix("sha256:") + ".bundle", "room"}


def part_of(folder: Path) -> Path:
    return folder / (DIGEST.removeprefix("sha256:") + ".part")


def test_room_is_taken_before_the_first_byte_and_kept_for_what_comes_out(
    server: Server, tmp_path: Path
) -> None:
    server.cuts = [300_000]
    server.after = lambda: seen.append((tmp_path / "room").stat().st_size)
    seen: list[int] = []
    get(server, tmp_path)
    assert seen[0] >= 2 * len(CONTENT)
    assert (tmp_path / "room").stat().st_size == 2 * len(CONTENT)


def test_a_part_is_continued_only_of_the_same_file(server: Server, tmp_path: Path) -> None:
    server.etag, server.cuts = '"one"', [300_000]

    def changed() -> None:
        server.etag = '"two"'

    server.after = changed
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [(r.get("Range"), r.get("If-Range")) for r in server.requests] == [
        (None, None),
        ("bytes=300000-", '"one"'),
    ]
    assert [f.suffix for f in tmp_path.iterdir() if f.name != "room"] == [".bundle"]


def test_a_file_that_changes_under_a_server_that_ignores_if_range_is_refused(
    server: Server, tmp_path: Path
) -> None:
    server.headers, server.cuts = {"ETag": '"one"'}, [300_000]

    def changed() -> None:
        server.headers = {"ETag": '"two"'}

    server.after = changed
    with pytest.raises(ServerRefused, match="changed in the middle"):
        get(server, tmp_path)
    assert not part_of(tmp_path).exists()
    server.after = None
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['W/"weak"', "bare", '"bad\x7f"', '"' + "x" * 300 + '"'])
def test_an_etag_that_proves_nothing_is_not_sent_back(server: Server, tmp_path: Path, etag: str) -> None:
    server.headers, server.cuts = {"ETag": etag}, [300_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert "If-Range" not in server.requests[1]


def test_a_length_that_is_too_long_is_refused_before_it_is_paid_for(server: Server, tmp_path: Path) -> None:
    meter = DataMeter(tmp_path.parent / "data.json")
    server.headers = {"Content-Length": str(1 << 40)}
    with pytest.raises(ServerRefused, match=r"that was assigned: 0 \+ 10995"):
        get(server, tmp_path, meter=meter)
    assert not part_of(tmp_path).exists()


def test_a_length_that_is_too_short_is_gone_on_from(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Length": "200000"}
    with pytest.raises(ServerUnreachable, match=r"(ended the archive at|broke)"):
        server.knows_ranges = False
        get(server, tmp_path)
    server.knows_ranges = True
    server.headers = {}
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("said", ["bytes 5-699999/700000", "bytes 300000-699999/800000", "", "nonsense"])
def test_another_range_than_was_asked_for_is_refused(server: Server, tmp_path: Path, said: str) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:300_000])
    server.headers = {"Content-Range": said}
    with pytest.raises(ServerRefused, match="asked for was 300000- of 700000"):
        get(server, tmp_path)


def test_a_server_that_drips_is_as_good_as_gone_and_its_part_is_kept(server: Server, tmp_path: Path) -> None:
    server.drip = True
    seconds = iter(range(0, 10**9, 30))
    with pytest.raises(ServerUnreachable, match=r"the server sent \d+ bytes in 60 s"):
        get(server, tmp_path, clock=lambda: next(seconds))
    assert part_of(tmp_path).exists()


def test_a_busy_server_says_when_to_come_back(server: Server, tmp_path: Path) -> None:
    server.status, server.headers = 429, {"Retry-After": "120"}
    with pytest.raises(ServerBusy) as caught:
        get(server, tmp_path)
    assert caught.value.after_s == 120
    server.status, server.headers = 503, {"Retry-After": "soon"}
    with pytest.raises(ServerBusy) as caught:
        get(server, tmp_path)
    assert caught.value.after_s is None


def test_a_download_stops_where_the_budget_ends_and_goes_on_there(server: Server, tmp_path: Path) -> None:
    budget = tmp_path.parent / f"{tmp_path.name}.json"
    with pytest.raises(DownloadWaits, match="300000 of 300000 bytes"):
        get(server, tmp_path, meter=DataMeter(budget, DataRules(day_bytes=300_000)))
    assert part_of(tmp_path).stat().st_size == 300_000
    with pytest.raises(DownloadWaits):
        get(server, tmp_path, meter=DataMeter(budget, DataRules(day_bytes=300_000)))
    assert len(server.requests) == 1, "the server was asked although nothing may be fetched"
    assert get(server, tmp_path, meter=DataMeter(budget, DataRules(day_bytes=700_000))).exists()
    assert server.requests[1]["Range"] == "bytes=300000-"


def test_a_folder_that_cannot_be_written_is_the_disks_fault(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).mkdir()
    with pytest.raises(HomeInvalid, match="cannot write"):
        get(server, tmp_path)


def test_an_archive_that_cannot_take_its_name_is_the_disks_fault(server: Server, tmp_path: Path) -> None:
    """A rename that fails is what a disk does that turned read-only meanwhile."""

    def in_the_way() -> None:
        (tmp_path / DIGEST.removeprefix("sha256:")).with_suffix(".bundle").mkdir()

    server.after = in_the_way
    with pytest.raises(HomeInvalid, match="cannot use"):
        get(server, tmp_path)
    assert part_of(tmp_path).stat().st_size == len(CONTENT), "it is paid for"


def test_a_disk_without_room_for_the_rest_is_waited_for(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:300_000])
    with pytest.raises(RanFull):
        get(server, tmp_path, free_bytes=lambda _: RESERVE_BYTES)
    assert part_of(tmp_path).stat().st_size == 300_000
    assert get(server, tmp_path).exists()
