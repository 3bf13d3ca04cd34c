"""Pictures, sounds and tables over real brokers: labels come back, and the refusals are those of HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import LABELS, reference
from agent_serving import Served, opened_serving, served
from input_bundles import encoded, picture, picture_bundle, wav
from lineup_models import bundle, contrary, open_serving
from local_brokers import App, door, mosquitto, nats
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.doubt.feedback import FeedbackBook
from edge_agent.doubt.lineup import Lineup, Members
from edge_agent.inference.serving import Serving

ANSWER = "edge-agent/v2/models/tiny/answer"
COLUMNS = [{"name": name, "low": -9, "high": 9} for name in "abcd"]
TABLE: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": (1, 4), "prepare": {"kind": "table", "columns": COLUMNS}}],
    "interpret": {"kind": "classes", "top_k": 2},
}
SOUND: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": (1, 4), "prepare": {"kind": "sound", "sample_rate_hz": 8000}}]
}
FUZZED = ("text/csv", "application/json")
CSV = b"d,c,b,a\n1.5,0.25,-1,0.5\n"
ROW = np.array([[0.5, -1.0, 0.25, 1.5]], np.float32)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, model=False, lineup=Lineup(FeedbackBook())) as running:
        yield running


@pytest.fixture
def table(up: Served, tmp_path: Path) -> Serving:
    serving = opened_serving(tmp_path / "table", "2", manifest=TABLE)
    up.engine.switch(serving)
    return serving


def best(x: Any, count: int = 2) -> list[str]:
    return [LABELS[i] for i in np.argsort(-reference(x)[0])[:count]]


def classes(document: Any) -> list[str]:
    (answer,) = document["answers"]
    return [one["class"] for one in answer["top"]]


def status(message: MQTTMessage) -> str:
    properties: Any = message.properties
    return str(dict(properties.UserProperty)["status"])


def test_a_table_gets_its_labels_where_it_asked_under_the_id_that_it_stated(
    up: Served, table: Serving, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        named = [("Edge-Request-Id", "q1")]
        app.ask(
            CSV,
            ANSWER,
            ResponseTopic="app/answers",
            ContentType="text/csv; charset=utf-8",
            CorrelationData=b"7",
            UserProperty=named,
        )
        document, message = app.reply()
        assert (document["model_name"], document["model_version"], document["id"]) == ("tiny", "2", "q1")
        assert classes(document) == best(ROW)
        properties: Any = message.properties
        assert (properties.CorrelationData, properties.ContentType) == (b"7", "application/json")
        assert status(message) == "200"
        by_http = up.ask("POST", "/v2/models/tiny/answer", CSV, {"Content-Type": "text/csv"}).document
        assert by_http == {name: value for name, value in document.items() if name != "id"}
        app.close()
    book = up.engine._lineup.book
    assert book is not None
    assert book.judge("q1", best(ROW)[0]).correct


def test_a_picture_and_a_wav_file_are_answered(up: Served, tmp_path: Path) -> None:
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        serving = open_serving(tmp_path / "pictures", picture_bundle())
        up.engine.switch(serving)
        name = serving.session.manifest.name
        photo = encoded(picture(40, 30), "JPEG")
        topic = f"edge-agent/v2/models/{name}/answer"
        app.ask(photo, topic, ResponseTopic="app/answers", ContentType="image/jpeg")
        document, message = app.reply()
        assert status(message) == "200"
        by_http = up.ask("POST", f"/v2/models/{name}/answer", photo, {"Content-Type": "image/jpeg"}).document
        assert document == by_http
        assert len(document["answers"][0]["top"]) == 2

        up.engine.switch(opened_serving(tmp_path / "sound", "3", manifest=SOUND))
        samples = np.array([0, 16384, -16384, 8192], "<i2")
        app.ask(wav(samples, 8000), ANSWER, ResponseTopic="app/answers", ContentType="audio/wav")
        document, message = app.reply()
        assert status(message) == "200", document
        assert classes(document) == best(np.array([[0, 0.5, -0.5, 0.25]], np.float32), 1)
        app.close()


def test_with_mqtt_3_the_topic_says_what_it_is(up: Served, table: Serving, tmp_path: Path) -> None:
    with nats(tmp_path) as place, door(place, up):
        topic = ANSWER + "/text/csv"
        app = App(place, MQTTProtocolVersion.MQTTv311, topic + "/reply", ANSWER + "/reply")
        app.ask(CSV, topic)
        document, message = app.reply()
        assert (classes(document), message.topic) == (best(ROW), topic + "/reply")
        app.ask(CSV, ANSWER)
        assert app.reply()[0]["code"] == "media-type"
        app.close()


def test_what_the_contract_does_not_take_is_refused_as_by_http(
    up: Served, table: Serving, tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    cases = [(kind, random.bytes(int(size))) for size in random.integers(0, 80, 12) for kind in FUZZED]
    cases += [("text/csv", CSV[:cut]) for cut in range(0, 16, 3)]
    cases += [
        ("image/jpeg", b"\xff\xd8\xff"),
        ("", CSV),
        ("text/csv", b"a,b,c\n1,2,3\n"),
        ("text/csv", b"a,b,c,d\n1,2,3,99\n"),
        ("application/json", b"{"),
        ("application/json", b"[" * 20_000),
    ]
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        for kind, payload in cases:
            stated = {"ContentType": kind} if kind else {}
            app.ask(payload, ANSWER, ResponseTopic="app/answers", **stated)
            document, message = app.reply()
            by_http = up.ask("POST", "/v2/models/tiny/answer", payload, {"Content-Type": kind})
            assert (document, status(message)) == (by_http.document, str(by_http.status)), (kind, payload)
            assert by_http.status in (400, 415)
        for topic, code in (
            (ANSWER.replace("tiny", "other"), "not-found"),
            (ANSWER.replace("/answer", "/versions/9/answer"), "not-found"),
        ):
            app.ask(CSV, topic, ResponseTopic="app/answers", ContentType="text/csv")
            assert app.reply()[0]["code"] == code
        app.ask(CSV, ANSWER, ResponseTopic="app/answers", ContentType="text/csv", MessageExpiryInterval=60)
        assert classes(app.reply()[0]) == best(ROW)
        app.close()


def test_what_the_second_model_answered_is_read_by_its_contract(up: Served, tmp_path: Path) -> None:
    plain: dict[str, Any] = {
        "inputs": [
            {
                "name": "x",
                "shape": (1, 4),
                "prepare": {"kind": "table", "columns": [{"name": name} for name in "abcd"]},
            }
        ]
    }
    up.engine.switch(open_serving(tmp_path / "a", bundle(0.9, **plain)))
    up.engine.change(Members(open_serving(tmp_path / "b", contrary.__wrapped__(**plain), "second")))
    with mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        app.ask(b"a,b,c,d\n0,0,0,0\n", ANSWER, ResponseTopic="app/answers", ContentType="text/csv")
        document, _ = app.reply()
        assert document["model_version"] == "contrary"
        assert classes(document) == [LABELS[reference(np.zeros((1, 4), np.float32))[0].argmin()]]
        app.close()
    up.engine.change(Members())
