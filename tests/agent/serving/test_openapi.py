"""The OpenAPI document says what is served, and a fuzzer that is led by it finds no fault of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from agent_serving import INFER, Served, served
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from edge_agent.doubt.feedback import FeedbackBook
from edge_agent.doubt.feedback_api import feedback_route
from edge_agent.doubt.labelling import Feedback
from edge_agent.doubt.reviewer import Reviewer
from edge_agent.doubt.ring import ReviewRing
from edge_agent.doubt.settings import ReviewSettings
from edge_agent.serving.openapi import PATH
from edge_agent.serving.routes import Asked, Response, Route


def test_the_document_holds_every_route_and_those_of_other_packages(tmp_path: Path) -> None:
    def hello(_asked: Asked) -> Response:
        return Response(b'"hello"')

    with served(tmp_path, more=[Route("GET", "/hello/{name}", hello)]) as up:
        document = up.ask("GET", PATH, headers={"Authorization": ""}).document
        assert up.ask("GET", "/hello/you").document == "hello"
    paths = document["paths"]
    assert set(paths["/v2/models/{model}/versions/{version}/infer"]) == {"post"}
    assert set(paths) >= {INFER.replace("tiny", "{model}"), "/v2", "/v2/health/ready", PATH, "/hello/{name}"}
    assert paths["/hello/{name}"]["get"]["parameters"][0]["name"] == "name"
    assert paths["/v2"]["get"]["security"] == [{"token": []}]
    assert paths["/v2/health/live"]["get"]["security"] == []


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzz")
    reviewer = Reviewer(ReviewRing(folder / "review", folder / "review.key"), ReviewSettings())
    labels = feedback_route(Feedback(FeedbackBook(), reviewer, lambda _: None))
    with served(folder, more=[labels]) as running:
        yield running


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_what_a_fuzzer_makes_of_the_document_is_answered_or_refused(up: Served, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(up.ask("GET", PATH).document)
    schema.config.update(base_url=f"http://{up.host}:{up.port}")
    statuses: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        named = {"model": "tiny", "version": "1"} if "{" in operation.path else None
        for cases in (operation.as_strategy(mode), operation.as_strategy(mode, path_parameters=named)):
            try:
                ask(up, cases, statuses.setdefault(operation.label, set()))
            except Unsatisfiable:
                continue  # nothing can be wrong about an operation without parameters
    met = set().union(*statuses.values())
    assert not {status for status in met if status >= 500}
    assert 400 in statuses[f"POST {INFER.replace('tiny', '{model}')}"]
    assert {200, 404} <= met


def ask(up: Served, cases: SearchStrategy[schemathesis.Case[Any]], statuses: set[int]) -> None:
    """Send some requests; each answer must be one that the document allows."""

    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(1)
    @given(cases)
    def fuzz(case: schemathesis.Case[Any]) -> None:
        told = case.call(headers=up.headers)
        statuses.add(told.status_code)
        case.validate_response(told, checks=[not_a_server_error, response_schema_conformance])
        if told.status_code >= 400:
            document = told.json()
            assert "\n" not in document["error"]

    fuzz()
