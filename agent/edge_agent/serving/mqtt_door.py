"""Inference over a local broker: a connection that is kept up, requests in, replies out.

Nothing is decided here and nothing is remembered: a request that the queue refuses is answered with the
refusal, one that a broker kept (retained) is not looked at, and a reply that cannot be sent is dropped,
because its client has gone as well. Topics and messages are `mqtt_requests.py`'s.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import AgentError, CallRefused, NoModel, no_memory
from edge_agent.inference.request import Caller, Payer, Reply
from edge_agent.serving.doors import parse_address
from edge_agent.serving.handed import Question, again, ask, tell
from edge_agent.serving.inference_api import Answers, request_of, require_named
from edge_agent.serving.mqtt_requests import CLIENT, Asked, Topics, read_asked, read_handed, write_refusal
from edge_agent.serving.protocol import Call, write_reply
from edge_agent.serving.token import read_login
from edge_contracts.inference_topics import ANSWER

log = logging.getLogger(__name__)

PORT = 1883
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
ANYBODY = Caller("mqtt", Payer("mqtt"))  # a broker does not say who has published
MAX_UNSENT = 256  # replies that a slow broker has not taken; more are dropped


@dataclass(frozen=True)
class BrokerPlace:
    """A broker, and how to come in."""

    host: str
    port: int
    user: str = ""
    password: str = ""

    @staticmethod
    def parse(address: str, login: Path | None = None) -> BrokerPlace:
        """A place from HOST[:PORT] and a file with USER:PASSWORD.

        Raises:
            ListenRefused: The address or the file is none.
        """
        has_port = address.rpartition("]")[2].count(":") == 1
        host, port = parse_address(address if has_port else f"{address}:{PORT}")
        user, password = read_login(login) if login is not None else ("", "")
        return BrokerPlace(host, port, user, password)


@dataclass(frozen=True, eq=False)
class _Told:
    """A request whose answer is there.

    Args:
        future: Of the answer, or of the refusal.
        id: What the client called it.
        call: What was asked, when it was tensors.
        question: What was asked, when it was bytes.
    """

    asked: Asked
    future: Future[Reply]
    id: str = ""
    call: Call | None = None
    question: Question | None = None


class MqttDoor:
    """The connection."""

    def __init__(self, place: BrokerPlace, topics: Topics, engine: Answers) -> None:
        """Take the parts; `start` begins to keep it up."""
        self._place, self._topics, self._engine = place, topics, engine
        self._told: SimpleQueue[_Told | None] = SimpleQueue()
        self._client: Client | None = None
        self._up, self._stopping = threading.Event(), threading.Event()
        self._reason = ""
        self._is_v5, self._is_reached = True, False
        self._keeper = threading.Thread(target=self._keep_up, name="mqtt-requests", daemon=True)
        self._teller = threading.Thread(target=self._tell, name="mqtt-replies", daemon=True)

    @property
    def is_up(self) -> bool:
        """Whether it is connected and listens."""
        return self._up.is_set()

    def start(self) -> None:
        """Connect, and connect again whenever it is lost, until `stop`."""
        self._keeper.start()
        self._teller.start()

    def stop(self) -> None:
        """Send what is answered, and disconnect."""
        self._stopping.set()
        self._told.put(None)
        self._teller.join(CONNECT_TIMEOUT_S)
        client = self._client
        if client is not None:
            client.disconnect()
        self._keeper.join(2 * CONNECT_TIMEOUT_S)

    def _keep_up(self) -> None:
        pause_s, version = FIRST_PAUSE_S, MQTTProtocolVersion.MQTTv5
        while not self._stopping.is_set():
            self._reason, self._is_reached = "", False
            was_up = self._connect_once(version)
            if self._stopping.is_set():
                return
            log.warning("no MQTT requests", extra={"reason": self._reason or "the connection ended"})
            pause_s = FIRST_PAUSE_S if was_up else min(pause_s * 1.5, LONGEST_PAUSE_S)
            if was_up or version is MQTTProtocolVersion.MQTTv311:
                version = MQTTProtocolVersion.MQTTv5
            elif self._is_reached:  # it took the connection and then no MQTT 5
                version = MQTTProtocolVersion.MQTTv311
                continue
            self._stopping.wait(pause_s)

    def _connect_once(self, version: MQTTProtocolVersion) -> bool:
        """Connect and serve the connection until it ends; whether it had come up."""
        place = self._place
        client = Client(CallbackAPIVersion.VERSION2, protocol=version, reconnect_on_failure=False)
        self._is_v5 = version is MQTTProtocolVersion.MQTTv5
        if place.user:
            client.username_pw_set(place.user, place.password)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(MAX_UNSENT)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_open = _send_at_once
        self._client = client
        try:
            client.connect(place.host, place.port, KEEPALIVE_S)
            self._is_reached = True
            if self._stopping.is_set():
                client.disconnect()
            ended = client.loop_forever(retry_first_connection=False)
            if ended != MQTTErrorCode.MQTT_ERR_SUCCESS and not self._reason:
                self._reason = str(ended)
        except OSError as error:
            self._reason = f"{place.host}:{place.port}: {error.strerror or error}"
        self._client = None
        was_up = self._up.is_set()
        self._up.clear()
        return was_up

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            self._reason = f"the broker refuses: {reason}"
            return
        client.subscribe([(name, 1) for name in self._topics.subscriptions])

    def _on_subscribe(self, client: Client, _data: Any, _mid: int, reasons: Any, _props: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._reason = "the broker refuses the subscription to the topics of requests"
            client.disconnect()
            return
        log.info("MQTT requests are taken", extra={"topic": self._topics.subscriptions[0]})
        self._up.set()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        """A request; in the network thread."""
        if message.retain:
            return
        asked = _read(message)
        if self._topics.can_be_replied_to(asked):
            self._ask(asked)
        else:
            log.warning(
                "request without a reply", extra={"reason": "its topic leaves no room for the reply's"}
            )

    def _ask(self, asked: Asked) -> None:
        told = _Told(asked, Future())
        try:
            self._topics.reply_to(asked)
            serving = self._engine.serving
            if serving is None:
                raise NoModel(self._engine.why_none)
            named = self._topics.names(asked.topic)
            if named is None:
                raise CallRefused(404, "not-found", f"{asked.topic!r:.80} is no topic for requests")
            caller = ANYBODY.calling_itself(asked.properties.get(CLIENT, ""))
            if named.what == ANSWER:
                handed = read_handed(asked, named, caller)
                told = _Told(asked, told.future, handed.id)
                require_named(serving, named.model, named.version)
                self._pass_on(asked, ask(self._engine, serving, handed))
                return
            call = read_asked(asked)
            told = _Told(asked, told.future, call.id, call)
            require_named(serving, named.model, named.version)
            told = replace(told, future=self._engine.submit(request_of(call, caller, asked.expiry_s)))
        except AgentError as error:
            told.future.set_exception(error)
        except MemoryError:
            told.future.set_exception(no_memory())
        told.future.add_done_callback(lambda _: self._told.put(told))

    def _pass_on(self, asked: Asked, question: Question) -> None:
        """Have the thread of the replies see to bytes when their answer is there."""
        told = _Told(asked, question.future, question.handed.id, question=question)
        question.future.add_done_callback(lambda _: self._told.put(told))

    def _tell(self) -> None:
        while (told := self._told.get()) is not None:
            try:
                more = again(self._engine, told.question) if told.question is not None else None
            except AgentError as error:
                told = replace(told, future=Future(), question=None)
                told.future.set_exception(error)
                more = None
            if more is None:
                self._send(told)
            else:
                self._pass_on(told.asked, more)

    def _send(self, told: _Told) -> None:
        """Publish a reply; in the thread of the replies."""
        json_bytes, status = None, 200
        try:
            if told.question is not None:
                content = json.dumps(tell(told.question), allow_nan=False).encode()
            elif told.call is not None:
                message = write_reply(told.call, told.future.result())
                content, json_bytes = message.content, message.json_bytes
            else:
                raise told.future.exception() or AssertionError("a reply without a request")
        except AgentError as error:
            content, status = write_refusal(error, told.id)
        except MemoryError:
            content, status = write_refusal(no_memory(), told.id)
        try:
            where = self._topics.reply_to(told.asked)
        except CallRefused:
            where = self._topics.reply_to(Asked(told.asked.topic, b""))
        client = self._client
        if client is not None and self.is_up:
            properties = _properties(told.asked, status, json_bytes) if self._is_v5 else None
            client.publish(where, content, qos=told.asked.qos, properties=properties)


@contextmanager
def mqtt_opened(place: BrokerPlace, prefix: str, engine: Answers) -> Iterator[MqttDoor]:
    """Take requests over a broker until the block ends.

    Raises:
        CallRefused: The prefix cannot be one.
    """
    door = MqttDoor(place, Topics(prefix), engine)
    door.start()
    try:
        yield door
    finally:
        door.stop()


def _send_at_once(_client: Client, _data: Any, sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # acknowledgement and reply: 40 ms otherwise


def _read(message: MQTTMessage) -> Asked:
    properties = message.properties
    # paho sets an attribute for each property that a message has, and none at all with MQTT 3.1.1
    expiry_s = getattr(properties, "MessageExpiryInterval", None)
    pairs = getattr(properties, "UserProperty", ())
    return Asked(
        message.topic,
        bytes(message.payload),
        message.qos,
        getattr(properties, "ResponseTopic", ""),
        getattr(properties, "CorrelationData", None),
        {name.lower(): value for name, value in pairs},
        None if expiry_s is None else float(expiry_s),
        getattr(properties, "ContentType", ""),
    )


def _properties(asked: Asked, status: int, json_bytes: int | None) -> Properties:
    made = Properties(PacketTypes.PUBLISH)
    if asked.correlation is not None:
        made.CorrelationData = asked.correlation
    pairs = [("status", str(status))]
    if json_bytes is not None:
        pairs.append(("Inference-Header-Content-Length", str(json_bytes)))
    else:
        made.ContentType = "application/json"
    made.UserProperty = pairs
    return made
