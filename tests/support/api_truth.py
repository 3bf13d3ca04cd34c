"""Whether a server's answers are what its `/openapi.json` says: every test that asks one is such a test.

The document leaves objects open, so that clients live with a field that comes later; here they are closed:
a field that no document names is a fault. So are an answer of another status or media type than is named,
null where none is said, and a field that is missing. Pages of the console have no document.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from edge_fleet.api.access import every

JSON = "application/json"


def closed(document: Any) -> Any:
    """The same with objects that have the stated fields and no others."""
    if isinstance(document, list):
        return [closed(part) for part in document]
    if not isinstance(document, dict):
        return document
    found = {name: closed(part) for name, part in document.items()}
    if isinstance(document.get("properties"), dict) and document.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


class Promises:
    """What a document says, ready to compare answers with it."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Read a document."""
        self._paths = document["paths"]
        self._components = closed(document["components"])
        self._validators: dict[tuple[str, str, str], Any] = {}

    def fault(self, where: tuple[str, str, str], media_type: str, body: bytes) -> str:
        """How an answer differs from what is said of it; "" when it does not.

        Args:
            where: Path, method and status.
            body: Of JSON; other kinds are not looked into.
        """
        path, method, status = where
        told = f"{method.upper()} {path} answers {status}"
        try:
            found = self._paths[path][method]["responses"][status]
        except KeyError:
            return f"{told}, which is not documented"
        content = found.get("content", {})
        if media_type not in content and (media_type or content):
            return f"{told} as {media_type or 'nothing'}, documented is {', '.join(content) or 'nothing'}"
        if media_type != JSON:
            return ""
        if where not in self._validators:
            whole = {**closed(content[JSON]["schema"]), "components": self._components}
            self._validators[where] = jsonschema_rs.Draft202012Validator(whole)
        wrong = next(iter(self._validators[where].iter_errors(json.loads(body))), None)
        if wrong is None:
            return ""
        place = "/".join(map(str, wrong.instance_path))
        return f"{told}, but at {place or 'the top'}: {wrong.message[:500]}"


# a document takes as long as a test, and all servers of a process have the same
_MADE: dict[tuple[str, ...], Promises] = {}


def promises_of(app: FastAPI) -> Promises:
    """Those of an application, by its routes."""
    routes = (app.title, *(f"{one.methods} {one.path_format}" for one in every(app.routes)))
    if routes not in _MADE:
        _MADE[routes] = Promises(app.openapi())
    return _MADE[routes]


class Truth:
    """An application whose untrue answers become 500s that say what is wrong."""

    def __init__(self, app: FastAPI) -> None:
        """Watch an application."""
        self.app = app
        self.faults: list[str] = []
        self._promises = promises_of(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = b""
        refused = False

        async def told(message: Message) -> None:
            nonlocal start, body, refused
            begins = message["type"] == "http.response.start"
            start = message if begins else start
            media_type = dict(start["headers"]).get(b"content-type", b"").decode().partition(";")[0]
            body += message.get("body", b"") if media_type == JSON else b""
            if refused or (media_type == JSON and (begins or message.get("more_body"))):
                return
            fault = ""
            if begins or media_type == JSON:
                fault = self._fault(scope, start["status"], media_type, body)
            if fault:
                refused = True
                self.faults.append(fault)
                await JSONResponse({"code": "untrue", "message": fault}, 500)(scope, receive, send)
                return
            if media_type == JSON:
                await send(start)
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self.app(scope, receive, told)

    def _fault(self, scope: Scope, status: int, media_type: str, body: bytes) -> str:
        route = scope.get("route")
        if not isinstance(route, APIRoute) or not route.include_in_schema or status == 500:
            return ""
        return self._promises.fault(
            (route.path_format, scope["method"].lower(), str(status)), media_type, body
        )
