from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from edge_fleet.events import QUEUE_EVENTS, EventBus, News


async def _listen(bus: EventBus, count: int, started: threading.Event) -> list[News | None]:
    found: list[News | None] = []
    stream = bus.listen(keep_alive_s=5)
    pending = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    started.set()
    found.append(await pending)
    while len(found) < count:
        found.append(await anext(stream))
    await stream.aclose()
    return found


def _publish_when(started: threading.Event, publish: Callable[[], None]) -> threading.Thread:
    def work() -> None:
        started.wait(10)
        publish()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_news_from_a_thread_reach_a_listener_in_order() -> None:
    bus, started = EventBus(), threading.Event()

    def publish() -> None:
        for n in range(3):
            bus.publish("device", device=str(n))

    thread = _publish_when(started, publish)
    found = asyncio.run(_listen(bus, 3, started))
    thread.join()
    assert [news.fields["device"] for news in found if news] == ["0", "1", "2"]


def test_a_listener_that_does_not_keep_up_is_told_that_it_lost_some() -> None:
    bus = EventBus()

    async def slow() -> list[str]:
        stream = bus.listen(keep_alive_s=5)
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for n in range(QUEUE_EVENTS + 10):
            bus.publish("device", device=str(n))
        news = [await first] + [await anext(stream) for _ in range(10)]
        await stream.aclose()
        return [one.kind for one in news if one]

    assert asyncio.run(slow()) == ["lost", *["device"] * 10]


def test_silence_is_broken_now_and_then() -> None:
    async def wait() -> object:
        stream = EventBus().listen(keep_alive_s=0.01)
        found = await anext(stream)
        await stream.aclose()
        return found

    assert asyncio.run(wait()) is None


def test_closing_ends_every_stream() -> None:
    bus, started = EventBus(), threading.Event()

    async def listen() -> list[object]:
        found: list[object] = []

        async def work() -> None:
            async for news in bus.listen(keep_alive_s=60):
                found.append(news)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        started.set()
        await asyncio.wait_for(task, 10)
        return found

    thread = _publish_when(started, bus.close)
    assert asyncio.run(listen()) == []
    thread.join()


def test_news_without_listeners_are_forgotten() -> None:
    bus = EventBus()
    bus.publish("device", device="d")
    assert not bus.closed
    bus.close()
    bus.publish("device", device="d")
    assert bus.closed
