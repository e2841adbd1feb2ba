"""The loaded predictor: from a request's head and body to the keyword arguments of `predict`."""

from collections.abc import Callable, Sequence
from typing import Any

from predictord.wire import Buffer, Ready, RequestHead
from predictord.worker.contract import Contract
from predictord.worker.interface import read_interface
from predictord.worker.payload import PayloadDecoder

Arguments = dict[str, Any]


class LoadedPredictor:
    """The user's object with what its signature asks for."""

    def __init__(self, instance: Any, contract: Contract) -> None:
        self.instance = instance
        self.adopt(contract)

    def adopt(self, contract: Contract) -> None:
        """Follow this contract from now on: that of the class as it was loaded, or as a swap has changed it."""
        self.contract = contract
        self.decoder = PayloadDecoder(contract.payload_annotation)
        self.predict: Callable[..., Any] = self.instance.predict
        self.post_predict: Callable[..., Any] | None = None
        if contract.post_arguments is not None:
            self.post_predict = self.instance.post_predict
        wanted = set(contract.arguments) | (set(contract.post_arguments or ()) - {"response"})
        fillers = {
            "payload": self._payload,
            "query_params": _query_params,
            "headers": _headers,
            "request": _request,
        }
        self._fillers = [(name, fillers[name]) for name in sorted(wanted)]
        self._takes_payload_alone = wanted == {"payload"}

    def ready(self, *, threads: Sequence[int] = (), late_files: dict[str, bytes] | None = None) -> Ready:
        """What its worker says of it."""
        contract = self.contract
        return Ready(
            class_name=contract.class_name,
            is_async=contract.is_async,
            concurrency=contract.concurrency,
            max_batch_size=contract.max_batch_size,
            batch_interval_s=contract.batch_interval_s,
            threads=list(threads),
            late_files=late_files or {},
            interface=read_interface(type(self.instance), contract, self.decoder),
        )

    def fill(self, head: RequestHead, body: Buffer) -> Arguments:
        """All that `predict` and `post_predict` ask for. Raises `PayloadRejected`."""
        if self._takes_payload_alone:
            return {"payload": self.decoder(head.content_type, body)}
        return {name: filler(head, body) for name, filler in self._fillers}

    def predict_arguments(self, filled: Arguments) -> Arguments:
        """Those of `filled` that `predict` takes."""
        return filled if self.post_predict is None else {name: filled[name] for name in self.contract.arguments}

    def post_arguments(self, filled: Arguments, response: Any) -> Arguments:
        """Those of `filled`, and the response, that `post_predict` takes."""
        given = {**filled, "response": response}
        return {name: given[name] for name in self.contract.post_arguments or ()}

    def _payload(self, head: RequestHead, body: Buffer) -> Any:
        return self.decoder(head.content_type, body)


def _query_params(head: RequestHead, body: Buffer) -> Any:
    from starlette.datastructures import QueryParams

    return QueryParams(head.query)


def _headers(head: RequestHead, body: Buffer) -> Any:
    from starlette.datastructures import Headers as StarletteHeaders

    return StarletteHeaders(raw=list(head.headers))


def _request(head: RequestHead, body: Buffer) -> Any:
    from starlette.requests import Request

    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return Request(scope_of(head), receive)


def scope_of(head: RequestHead) -> dict[str, Any]:
    """The ASGI scope of a request, for starlette's `Request` and for running a starlette `Response`."""
    return {
        "type": "http",
        # From 2.4 on starlette learns of a client that left by an OSError from `send`.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": head.http_version,
        "method": head.method,
        "scheme": "http",
        "path": head.path,
        "raw_path": head.path.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": head.query,
        "headers": list(head.headers),  # ours is shared by all requests like this one
        "client": head.client,
        "server": None,
    }
