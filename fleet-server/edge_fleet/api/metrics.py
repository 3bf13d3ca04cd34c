"""`GET /metrics`: what Prometheus scrapes; it sends a viewer's token as Authorization: Bearer."""

from __future__ import annotations

from fastapi.responses import PlainTextResponse

from edge_fleet.api.access import Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.metrics.collect import collect
from edge_fleet.metrics.exposition import CONTENT_TYPE, text

router = Router(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse)
def scrape(services: Shared, who: Reader) -> PlainTextResponse:
    """Figures of the whole fleet in Prometheus' text format."""
    return PlainTextResponse(text(collect(services)), media_type=CONTENT_TYPE)
