"""What clients of the Open Inference Protocol see, by HTTP and by the Unix socket, with real sockets."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, reference
from agent_fleet import until
from agent_serving import ASK, INFER, ROW, Served, opened_serving, served

from edge_agent.inference.request import Request
from edge_agent.inference.request_queue import QueueLimits

GOLDEN = {"name": "x", "shape": [16, 4], "datatype": "FP32"}
EXPECTED = reference(np.array([ROW], np.float32))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("serving")) as running:
        yield running


def test_a_client_by_http_gets_what_the_model_answers(up: Served) -> None:
    told = up.infer(ASK)
    assert told.status == 200
    document = told.document
    assert (document["model_name"], document["model_version"]) == ("tiny", "1")
    (output,) = document["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("scores", [1, 3], "FP32")
    assert np.allclose(output["data"], EXPECTED[0], atol=1e-5)


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/1/infer"])
def test_binary_tensors_go_both_ways(up: Served, path: str) -> None:
    asked = {
        "inputs": [GOLDEN | {"parameters": {"binary_data_size": GOLDEN_X.nbytes}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(asked).encode()
    told = up.ask(
        "POST", path, head + GOLDEN_X.tobytes(), {"Inference-Header-Content-Length": str(len(head))}
    )
    assert told.status == 200
    at = int(told.headers["inference-header-content-length"])
    scores = np.frombuffer(told.content[at:], "<f4").reshape(16, 3)
    assert np.allclose(scores, reference(GOLDEN_X), atol=1e-5)


def test_health_needs_no_token_and_tells_that_a_model_is_open(up: Served) -> None:
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert up.ask("GET", path, headers={"Authorization": ""}).status == 200


def test_metadata_is_the_contracts(up: Served) -> None:
    assert up.ask("GET", "/v2").document["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        document = up.ask("GET", path).document
        assert (document["name"], document["versions"]) == ("tiny", ["1"])
        assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert document["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]
        assert up.ask("GET", f"{path}/ready").status == 200


@pytest.mark.parametrize(
    ("shown", "found"), [("", "none was shown"), ("Bearer x", "another token"), ("Basic Og==", "another")]
)
def test_without_the_token_nothing_else_is_answered(up: Served, shown: str, found: str) -> None:
    for method, path in (("GET", "/v2"), ("POST", INFER), ("GET", "/v2/models/tiny")):
        told = up.ask(method, path, json.dumps(ASK), {"Authorization": shown})
        assert told.status == 401
        assert found in told.document["error"]
        assert told.headers["www-authenticate"].startswith("Bearer")


def test_the_unix_socket_asks_for_permissions_and_not_for_a_token(up: Served) -> None:
    assert up.path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(up.path))
        body = json.dumps(ASK).encode()
        client.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: edge\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"model_name":"tiny"' in answer


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/", 404, "nothing is served at '/'"),
        ("GET", "/v2/models/other", 404, "no model 'other' is served here, it is 'tiny'"),
        ("POST", "/v2/models/other/infer", 404, "it is 'tiny'"),
        ("GET", "/v2/models/tiny/versions/9", 404, "version '9' is not served, it is '1'"),
        ("GET", "/v2/models/tiny/versions/9/ready", 404, "it is '1'"),
        ("GET", "/v2/models/a%2Fb%00/ready", 404, r"no model 'a/b\x00'"),
        ("GET", INFER, 405, "takes POST"),
        ("DELETE", "/v2/models/tiny", 405, "takes GET"),
        ("GET", "/v2/models/tiny/config", 404, "nothing is served at"),
    ],
)
def test_other_names_paths_and_methods_are_refused_with_what_there_is(
    up: Served, method: str, path: str, status: int, said: str
) -> None:
    told = up.ask(method, path)
    assert told.status == status
    assert said in told.document["error"]
    allowed = {INFER: "POST", "/v2/models/tiny": "GET"}[path] if status == 405 else None
    assert told.headers.get("allow") == allowed


def data(*values: Any, **changed: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values} | changed]
    }


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (data(1, 2, 3), "shape"),
        (data(shape=[0, 4]), "shape"),
        (data(1, 2, 3, 1e300), "not-finite"),
        (data(1, 2, 3, 4, name="other"), "names"),
        (data(1, 2, 3, 4, datatype="INT32"), "dtype"),
        (data(1, 2, 3, float("nan")), "bad-request"),
        ({**data(1, 2, 3, 4), "outputs": [{"name": "nothing"}]}, "bad-request"),
    ],
)
def test_inputs_that_the_contract_refuses_are_the_clients_fault(up: Served, document: Any, code: str) -> None:
    told = up.infer(document)
    assert (told.status, told.document["code"]) == (400, code)
    assert "\n" not in told.document["error"]


def test_a_binary_nan_is_refused_and_counted(tmp_path: Path) -> None:
    values = np.array([[0, np.nan, 0, 0]], np.float32)
    asked = {"inputs": [GOLDEN | {"shape": [1, 4], "parameters": {"binary_data_size": 16}}]}
    head = json.dumps(asked).encode()
    with served(tmp_path) as up:
        told = up.ask(
            "POST", INFER, head + values.tobytes(), {"Inference-Header-Content-Length": str(len(head))}
        )
        assert (told.status, told.document["code"]) == (400, "not-finite")
        window = up.engine.cut(False)
    assert window is not None
    assert (window.refused, window.inferences) == ({"not-finite": 1}, 0)


@pytest.mark.parametrize("stated", ["-1", "x", "", "0", "99999", "9" * 30, "\xb2"])
def test_a_wrong_length_of_the_json_is_refused(up: Served, stated: str) -> None:
    told = up.ask("POST", INFER, json.dumps(ASK), {"Inference-Header-Content-Length": stated})
    assert (told.status, told.document["code"]) == (400, "bad-request")


def test_compressed_bodies_are_unpacked_within_the_limit(up: Served) -> None:
    plain = json.dumps(ASK).encode()
    for encoding, body in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
        assert up.ask("POST", INFER, body, {"Content-Encoding": encoding}).status == 200
    bomb = gzip.compress(bytes(64 << 20))
    cases = [
        ("gzip", bomb, 413, "when unpacked"),
        ("gzip", plain, 400, "is not gzip"),
        ("gzip", gzip.compress(plain)[:-9], 400, "not one whole gzip"),
        ("br", plain, 415, "'br' is not offered"),
    ]
    for encoding, body, status, said in cases:
        told = up.ask("POST", INFER, body, {"Content-Encoding": encoding})
        assert told.status == status
        assert said in told.document["error"]


def test_a_connection_is_used_again_also_after_a_refusal_of_the_model(up: Served) -> None:
    connection = HTTPConnection(up.host, up.port, timeout=20)
    statuses = [
        up.ask("POST", INFER, json.dumps(document), None, connection).status
        for document in (ASK, data(1, 2, 3), ASK, {}, ASK)
    ]
    connection.close()
    assert statuses == [200, 400, 200, 400, 200]


def test_a_full_queue_and_a_rate_are_told_with_when_to_come_again(tmp_path: Path) -> None:
    with served(tmp_path, queue=QueueLimits(rate_per_s=0.001, burst=2)) as up:
        told = [up.infer(ASK) for _ in range(3)]
        assert [t.status for t in told] == [200, 200, 429]
        assert told[2].headers["retry-after"] == "1"
        assert told[2].document["code"] == "rate-limited"
        other = up.ask("POST", INFER, json.dumps(ASK), {"Edge-Client": "another"})
        assert other.status == 200


ONCE = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.sendall(sys.argv[2].encode())
    print(client.recv(65536).split(b" ")[1].decode())
"""


def test_a_process_that_is_started_anew_for_each_request_has_the_rate_of_its_user(tmp_path: Path) -> None:
    body = json.dumps(ASK)
    head = f"POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n"
    with served(tmp_path, queue=QueueLimits(rate_per_s=0.001, burst=2)) as up:

        def once(more: str = "") -> str:
            command = [sys.executable, "-c", ONCE, str(up.path), f"{head}{more}\r\n{body}"]
            return subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=30
            ).stdout.strip()

        assert [once() for _ in range(3)] == ["200", "200", "429"]
        assert once("Edge-Client: another\r\n") == "200"


def test_without_a_model_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    with served(tmp_path, model=False) as up:
        assert up.ask("GET", "/v2/health/live").status == 200
        told = [up.ask("GET", "/v2/health/ready"), up.ask("GET", "/v2/models/tiny"), up.infer(ASK)]
        assert [t.status for t in told] == [503] * 3
        assert all(t.document["code"] == "no-model" for t in told)


def test_a_deadline_that_passes_in_the_queue_is_told_and_not_run(tmp_path: Path) -> None:
    with served(tmp_path) as up:
        blocked, go_on = threading.Event(), threading.Event()

        def block(_future: object) -> None:  # runs in the inference thread
            blocked.set()
            go_on.wait(20)

        up.engine.submit(Request({"x": GOLDEN_X})).add_done_callback(block)
        assert blocked.wait(10)
        told = up.infer({**ASK, "parameters": {"timeout": 50_000}})
        assert (told.status, told.document["code"]) == (504, "deadline")
        go_on.set()
        until(lambda: up.engine.waiting == 0, "the queue is empty")
        assert up.engine.totals.answered == 16


def test_clients_under_load_lose_nothing_and_mix_nothing_over_hot_swaps(tmp_path: Path) -> None:
    """Versions "1" and "2" answer differently: each reply must be of exactly the one that it names."""
    shifted = np.array([ROW, ROW], np.float32)
    seen: list[list[tuple[str, int]]] = [[], [], []]
    enough = threading.Event()
    body = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": shifted.tolist()}]}
    with served(tmp_path) as up:

        def client(number: int) -> None:
            connection = HTTPConnection(up.host, up.port, timeout=20)
            while not enough.is_set():
                told = up.ask("POST", INFER, json.dumps(body), None, connection)
                seen[number].append((told.document.get("model_version", told.document), told.status))
            connection.close()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(seen))]
        for thread in threads:
            thread.start()
        counted: dict[str, int] = {"1": 0, "2": 0}
        for swap, version in enumerate(("2", "1", "2", "1")):
            sofar = [len(one) for one in seen]
            until(lambda s=sofar: all(len(one) > n + 3 for one, n in zip(seen, s, strict=True)), "answers")  # type: ignore[misc]
            window = up.engine.switch(opened_serving(tmp_path / str(swap), version))
            assert window is not None
            counted["1" if version == "2" else "2"] += window.inferences
        enough.set()
        for thread in threads:
            thread.join(20)
        last = up.engine.switch(None)
        assert last is not None
        counted["1"] += last.inferences
    told = [version for one in seen for version, _ in one]
    assert {status for one in seen for _, status in one} == {200}
    assert counted == {version: 2 * told.count(version) for version in ("1", "2")}


def test_a_stop_cuts_no_answer_short(tmp_path: Path) -> None:
    begun, told = threading.Event(), []
    with served(tmp_path) as up:
        connection = HTTPConnection(up.host, up.port, timeout=20)

        def client() -> None:
            for _ in range(100_000):
                try:
                    told.append(up.ask("POST", INFER, json.dumps(ASK), None, connection).status)
                except (OSError, HTTPException):
                    break
                begun.set()
                if told[-1] != 200:
                    break
            connection.close()

        thread = threading.Thread(target=client)
        thread.start()
        assert begun.wait(10)
    thread.join(20)
    assert not thread.is_alive()
    assert set(told) <= {200, 503}
    assert told.count(200) > 0
