"""Bytes in, labels out, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import LABELS, reference
from agent_serving import Served, opened_serving, served

PATH = "/v2/models/tiny/answer"
COLUMNS = [{"name": name, "low": -9, "high": 9} for name in "abcd"]
RULES = {
    "inputs": [{"name": "x", "shape": (1, 4), "prepare": {"kind": "table", "columns": COLUMNS}}],
    "interpret": {"kind": "classes", "top_k": 2},
}
ROW = np.array([[0.5, -1.0, 0.25, 1.5]], np.float32)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("answers")
    with served(folder) as running:
        running.engine.switch(opened_serving(folder / "table", "2", manifest=RULES))
        yield running


def test_a_row_gets_its_labels(up: Served) -> None:
    told = up.ask("POST", PATH, b"d,c,b,a\n1.5,0.25,-1,0.5\n", {"Content-Type": "text/csv; charset=utf-8"})
    assert told.status == 200
    document = told.document
    assert (document["model_name"], document["model_version"]) == ("tiny", "2")
    (answer,) = document["answers"]
    expected = reference(ROW)[0]
    order = np.argsort(-expected)[:2]
    assert [one["class"] for one in answer["top"]] == [LABELS[i] for i in order]
    assert [one["score"] for one in answer["top"]] == pytest.approx(expected[order].tolist(), abs=1e-5)
    assert document["uncertain"] is False


@pytest.mark.parametrize(
    ("content_type", "body", "status", "told"),
    [
        ("image/jpeg", b"\xff\xd8\xff", 415, "is a table"),
        ("", b"", 415, "is a table"),
        ("text/csv", b"a,b,c\n1,2,3\n", 400, "'d' is missing"),
        ("text/csv", b"a,b,c,d\n1,2,3,99\n", 400, "outside its table's columns"),
        ("application/json", b"{", 400, "not JSON"),
    ],
)
def test_what_the_contract_does_not_take_is_the_clients_fault(
    up: Served, content_type: str, body: bytes, status: int, told: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = up.ask("POST", PATH, body, headers)
    assert answer.status == status
    assert told in answer.document["error"]


def test_another_models_name_is_not_found_and_no_token_is_no_entry(up: Served) -> None:
    assert up.ask("POST", "/v2/models/other/answer", b"{}").status == 404
    assert up.ask("POST", PATH, b"{}", {"Authorization": "Bearer wrong"}).status == 401
