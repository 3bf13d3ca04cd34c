"""Bytes in, labels out, over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import LABELS, reference
from agent_fleet import until
from agent_serving import Served, Told, opened_serving, served
from lineup_models import bundle, contrary, open_serving

from edge_agent.doubt.feedback import FeedbackBook
from edge_agent.doubt.lineup import Experiment, Lineup, Members

PATH = "/v2/models/tiny/answer"
COLUMNS = [{"name": name, "low": -9, "high": 9} for name in "abcd"]
RULES: dict[str, Any] = {
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


CSV = {"Content-Type": "text/csv"}
UNSURE = b"a,b,c,d\n0,0,0,0\n"
ANY: dict[str, Any] = RULES | {
    "inputs": [
        {"name": "x", "shape": (1, 4), "prepare": {"kind": "table", "columns": [{"name": c} for c in "abcd"]}}
    ]
}


def classes(told: Told) -> list[str]:
    assert told.status == 200, told.content
    (answer,) = told.document["answers"]
    return [one["class"] for one in answer["top"]]


def best(x: np.ndarray, count: int = 2) -> list[str]:
    return [LABELS[i] for i in np.argsort(-reference(x)[0])[:count]]


def test_what_the_second_model_or_arm_b_answered_is_told_in_labels(tmp_path: Path) -> None:
    book = FeedbackBook()
    with served(tmp_path, model=False, lineup=Lineup(book)) as up:
        unsure = bundle(0.9, **ANY)
        up.engine.switch(open_serving(tmp_path / "a", unsure))
        second = open_serving(tmp_path / "b", contrary.__wrapped__(**ANY), "second")
        up.engine.change(Members(second))
        told = up.ask("POST", PATH, UNSURE, CSV | {"Edge-Request-Id": "q1"})
        assert told.document["model_version"] == "contrary"
        expected = [LABELS[i] for i in np.argsort(reference(np.zeros((1, 4), np.float32))[0])[:2]]
        assert classes(told) == expected, "the contrary model likes least what the other likes most"
        assert told.document["id"] == "q1"
        assert book.judge("q1", expected[0]).correct

        arm_b = open_serving(tmp_path / "c", contrary.__wrapped__(**ANY), "arm-b", "taste")
        up.engine.change(Members(experiment=Experiment("taste", arm_b, 1000)))
        told = up.ask("POST", PATH, UNSURE, CSV)
        assert (told.document["model_version"], classes(told)) == ("contrary", expected)
        up.engine.change(Members())


def test_bytes_are_prepared_anew_for_a_model_with_other_rules_that_took_over(tmp_path: Path) -> None:
    other = [{"name": name} for name in "dcba"]
    turned = RULES | {
        "inputs": [{"name": "x", "shape": (1, 4), "prepare": {"kind": "table", "columns": other}}]
    }
    with served(tmp_path, model=False) as up:
        up.engine.switch(opened_serving(tmp_path / "1", "1", manifest=ANY))
        next_one = opened_serving(tmp_path / "2", "2", manifest=turned)
        go, told = threading.Event(), list[Told]()
        busy = threading.Thread(target=up.engine.between, args=(go.wait,))
        client = threading.Thread(
            target=lambda: told.append(up.ask("POST", PATH, b"a,b,c,d\n0.5,-1,0.25,1.5\n", CSV))
        )
        busy.start()
        client.start()
        until(lambda: up.engine.waiting == 1, "the bytes are prepared and wait")
        switch = threading.Thread(target=up.engine.switch, args=(next_one,))
        switch.start()
        until(lambda: len(up.engine._requests) == 1, "the switch is ordered")
        go.set()
        for thread in (busy, switch, client):
            thread.join(20)
    assert told[0].document["model_version"] == "2"
    assert classes(told[0]) == best(ROW[:, ::-1])


def test_a_request_id_that_is_too_long_is_refused(up: Served) -> None:
    told = up.ask("POST", PATH, b"a,b,c,d\n1,1,1,1\n", CSV | {"Edge-Request-Id": "x" * 1025})
    assert (told.status, told.document["code"]) == (400, "bad-request")
