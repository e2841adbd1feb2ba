"""The ASGI app: everything that is no prediction. Nothing here changes the daemon."""

from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predictord.problem import MEDIA_TYPE, RETRY_AFTER_S, Code, Problem
from predictord.supervisor.access import asks_for_page
from predictord.supervisor.events import Events
from predictord.supervisor.metrics import Metrics
from predictord.supervisor.page import asset, page
from predictord.supervisor.status import Status

_PREDICT_METHODS = {"/": "GET, HEAD, POST", "/predict": "POST"}
"""Predictions never come here, so the router does not know their method."""


def build_app(status: Status, events: Events, metrics: Metrics, *, has_token: bool, debug: bool) -> ASGIApp:
    """The app behind the door."""

    async def summary(request: Request) -> Response:
        if asks_for_page(request.method, request.scope["path"], request.headers.raw):
            return page(request)
        summary = _json(status.summary())
        summary.headers["vary"] = "accept"
        return summary

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        problem = status.unready()
        return PlainTextResponse("ready\n") if problem is None else _problem(request, problem, debug)

    async def document(request: Request) -> Response:
        return _json(await status.document())

    async def openapi(request: Request) -> Response:
        from predictord.supervisor.openapi import describe  # here, since few ask and every start would pay

        name = status.predictor["class"] or "predictor"
        return _json(describe(status.interface, name=name, generation=status.generation, has_token=has_token))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.scope["path"]
        if error.status_code == 405 or path in _PREDICT_METHODS:
            allow = _PREDICT_METHODS.get(path) or (error.headers or {}).get("Allow", "GET, HEAD")
            allowed = Problem(Code.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here, but {allow}")
            return _problem(request, allowed, debug, {"Allow": allow})
        return _problem(request, Problem(Code.NOT_FOUND, f"there is nothing at {path}"), debug)

    routes = [
        Route("/", summary),
        Route("/dashboard/{name}", asset),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/status", document),
        Route("/events", events.answer),
        Route("/metrics", metrics.answer),
        Route("/openapi.json", openapi),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: on_http_error})
    app.router.redirect_slashes = False
    return _DoorHeaders(app)


class _DoorHeaders:
    """Puts what the door found out, the request id and the CORS headers, on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = scope["state"]["request_id"]
                for line in scope["state"]["cors"].split(b"\r\n"):
                    name, _, value = line.partition(b": ")
                    if name:
                        headers.append(name.decode(), value.decode())
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json", headers={"cache-control": "no-store"})


def _problem(request: Request, problem: Problem, debug: bool, headers: dict[str, str] | None = None) -> Response:
    body = problem.body(request.scope["state"]["request_id"], debug=debug)
    advice = {"retry-after": str(RETRY_AFTER_S)} if problem.status == 503 else {}
    return Response(body, problem.status, headers={**advice, **(headers or {})}, media_type=MEDIA_TYPE)
