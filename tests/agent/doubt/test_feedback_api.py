"""POST /feedback: a label over HTTP counts, finds its input, and is refused in HTTP's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_serving import INFER, Served, Told, served
from lineup_models import SURE_X, bundle, open_serving

from edge_agent.doubt.feedback import FeedbackBook
from edge_agent.doubt.feedback_api import PATH, feedback_route
from edge_agent.doubt.labelling import Feedback
from edge_agent.doubt.lineup import Lineup
from edge_agent.doubt.reviewer import Reviewer
from edge_agent.doubt.ring import ReviewRing
from edge_agent.doubt.settings import ReviewSettings

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": SURE_X[0].tolist()}


class Door:
    """A served engine whose answers are remembered."""

    def __init__(self, up: Served, ring: ReviewRing) -> None:
        self.up, self.ring = up, ring

    def infer(self, name: str) -> Told:
        return self.up.ask("POST", INFER, json.dumps({"id": name, "inputs": [TENSOR]}))

    def tell(self, body: Any) -> Told:
        return self.up.ask("POST", PATH, body if isinstance(body, str) else json.dumps(body))


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    book = FeedbackBook()
    serving = open_serving(tmp_path, bundle(0.1))
    ring = ReviewRing(tmp_path / "review", tmp_path / "review.key")
    reviewer = Reviewer(ring, ReviewSettings())
    manifests = {serving.bundle: serving.session.manifest}
    route = feedback_route(Feedback(book, reviewer, manifests.get))
    with served(tmp_path, more=[route], lineup=Lineup(book)) as up:
        up.engine.switch(serving)
        yield Door(up, ring)


def test_a_label_counts_for_the_answer_with_that_id(door: Door) -> None:
    assert door.infer("a").status == 200
    told = door.tell({"id": "a", "label": "cat"})
    assert (told.status, told.document) == (200, {"correct": True, "kept": False})
    again = door.tell({"id": "a", "label": "cat"})
    assert (again.status, again.document["code"]) == (404, "unknown-request")


def test_an_input_that_is_sent_again_is_kept_with_its_label(door: Door) -> None:
    door.infer("a")
    told = door.tell({"id": "a", "label": 2, "inputs": [TENSOR]})
    assert told.document == {"correct": False, "kept": True}
    (entry,) = door.ring.entries()
    assert entry.head is not None
    assert (entry.head.label, entry.head.label_name) == (2, "fox")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "bad-request"),
        ([], 400, "bad-request"),
        ({"id": "a"}, 400, "bad-request"),
        ({"id": 3, "label": 1}, 400, "bad-request"),
        ({"id": "", "label": 1}, 400, "bad-request"),
        ({"id": "a", "label": True}, 400, "bad-request"),
        ({"id": "a", "label": 1.5}, 400, "bad-request"),
        ({"id": "a", "label": 1, "lable": 1}, 400, "bad-request"),
        ({"id": "a", "label": 1, "inputs": {}}, 400, "bad-request"),
        ({"id": "a", "label": 1, "inputs": [{"name": "x"}]}, 400, None),
        ({"id": "a", "label": 7}, 400, "bad-label"),
        ({"id": "b", "label": 1}, 404, "unknown-request"),
        ({"id": "a", "label": 1, "inputs": [TENSOR | {"name": "z"}]}, 400, "names"),
    ],
)
def test_what_is_no_label_is_refused(door: Door, body: Any, status: int, code: str | None) -> None:
    door.infer("a")
    told = door.tell(body)
    assert told.status == status
    assert code is None or told.document["code"] == code
    assert door.ring.entries() == []


def test_nobody_labels_without_the_token(door: Door) -> None:
    assert door.up.ask("POST", PATH, "{}", headers={"Authorization": ""}).status == 401
