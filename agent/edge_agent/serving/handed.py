"""What an application hands over as bytes, and what it is told: labels or boxes.

The bytes become an input by the contract of the model that is open (`input/prepare.py`); the outputs become
an answer by the contract of the model that answered (`input/interpret.py`): the second model's or arm B's
where one of those did. When a model with other rules for its input has taken over meanwhile, its reply is of
no use: the bytes are prepared for it and asked again. HTTP and MQTT carry the same bytes and answers.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from edge_agent.errors import CallRefused, InputRefused, NoModel, no_memory
from edge_agent.inference.request import Caller, Reply, Request
from edge_agent.inference.serving import Serving
from edge_agent.input.interpret import interpret
from edge_agent.input.prepare import Prepared, prepare, prepares_alike
from edge_agent.serving.datatypes import refuse
from edge_agent.serving.inference_api import Answers
from edge_agent.serving.protocol import MAX_ID
from edge_contracts.errors import MissingExtra

MOST_ASKED = 3  # times for one request: models that take over faster than they answer


@dataclass(frozen=True, eq=False)
class Handed:
    """Bytes to be answered.

    Args:
        id: What the client calls the request, for the label that may come later; "" for nothing.
        deadline_s: By the monotonic clock.
    """

    payload: bytes
    media_type: str
    caller: Caller
    deadline_s: float
    id: str = ""

    def __post_init__(self) -> None:  # noqa: D105
        if len(self.id) > MAX_ID:
            raise refuse(f"Edge-Request-Id has {len(self.id)} characters, at most {MAX_ID} are kept")


@dataclass(frozen=True, eq=False)
class Question:
    """Bytes on their way through the queue.

    Args:
        serving: By whose contract they were prepared.
        times: How often they have been question.
    """

    handed: Handed
    serving: Serving
    prepared: Prepared
    future: Future[Reply]
    times: int = 1


def ask(engine: Answers, serving: Serving, handed: Handed, times: int = 1) -> Question:
    """Prepare bytes and have them answered.

    Raises:
        AgentError: Whatever the contract or the queue refuse.
    """
    try:
        prepared = prepare(serving.session.manifest, "", handed.payload, handed.media_type)
    except MissingExtra as error:
        raise CallRefused(503, "missing-extra", str(error)) from None
    except MemoryError:
        raise no_memory() from None
    caller = handed.caller
    request = Request(
        prepared.inputs, caller.client, handed.deadline_s, handed.id, handed.id, payer=caller.payer
    )
    return Question(handed, serving, prepared, engine.submit(request), times)


def again(engine: Answers, question: Question) -> Question | None:
    """The same bytes asked once more, when a model answered for whose input they were not prepared.

    Args:
        question: Its future is done.

    Raises:
        AgentError: As `ask`, or NoModel: it happened again and again.
    """
    error = question.future.exception()
    if error is None:
        by = question.future.result().manifest
    elif isinstance(error, InputRefused) and engine.serving is not None:
        by = engine.serving.session.manifest
    else:
        return None
    if prepares_alike(question.serving.session.manifest, by):
        return None
    if engine.serving is None or question.times >= MOST_ASKED:
        raise NoModel("the model is being replaced by others; ask again")
    return ask(engine, engine.serving, question.handed, question.times + 1)


def tell(question: Question) -> dict[str, Any]:
    """What a client is told; plain values that JSON can hold.

    Raises:
        AgentError: What the future holds instead of a reply.
    """
    reply = question.future.result()
    told: dict[str, Any] = {"model_name": reply.model, "model_version": reply.version}
    if question.handed.id:
        told["id"] = question.handed.id
    return told | {
        "answers": interpret(reply.manifest, reply.outputs, question.prepared.view),
        "uncertain": reply.uncertain,
        "confidence": reply.confidence,
        "flagged": dict(reply.flagged),
    }
