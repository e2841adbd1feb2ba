"""The door: one client connection, from its bytes to calls; `answering.py` is the way back.

A subclass of uvicorn's protocol, which keeps the framing (httptools) and serves all that
is no prediction through ASGI. Predictions pass it by: their body is collected here and goes
to the dispatcher with no scope, task or future. What it uses of the parent is not public
API; `tests/supervisor/test_uvicorn_contract.py` names it.
"""

from enum import Enum
from time import monotonic
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from predictord.problem import Code, Problem
from predictord.supervisor import limits, reply, request_head
from predictord.supervisor.access import is_preflight
from predictord.supervisor.answering import AnsweringProtocol
from predictord.supervisor.call import Call
from predictord.supervisor.half_close import HalfCloseProbe
from predictord.supervisor.known_head import KnownHead
from predictord.supervisor.request_body import Pieces, no_room, too_large
from predictord.wire import RequestHead, header

_PREDICT_PATHS = frozenset({b"/", b"/predict"})
_TOLD_APART = frozenset({b"x-request-id", b"transfer-encoding"})
"""Fields that make a head not worth remembering: the next request's differs, or has no length."""


class Phase(Enum):
    """What a connection is waiting for."""

    IDLE = 1
    HEAD = 2
    BODY = 3
    ANSWER = 4
    """A prediction is on its way, or the ASGI app answers."""
    LINGER = 5
    """Refused: what still comes is dropped."""


_IDLE, _ANSWER = Phase.IDLE, Phase.ANSWER  # by name each would cost a request a tenth of a microsecond


class Door(AnsweringProtocol):
    """One connection: what comes in."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._phase = Phase.IDLE
        self._framing_bytes = 0  # since the head began, or the last piece of the body came
        self._fields = 0
        self._method = b""
        self._collecting = False
        self._ignoring = False
        self._received = False
        self._half_closed = False
        self._request_id = b""
        self._known: KnownHead | None = None
        self._whole = b""  # the piece being parsed, if a request begins with it
        self.proxy.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._body.release()
        call, self._call = self._call, None
        if call is not None and not self._collecting:  # what never became whole is no prediction
            self.proxy.client_left(call)
        self.proxy.disconnected(self)

    # --- bytes in

    def data_received(self, data: bytes) -> None:
        if self._phase is _IDLE:
            known = self._known
            if known is not None:
                if len(data) != known.total_bytes or not data.startswith(known.raw):
                    known = known.renewed(data)
                if known is not None and self._predict_known(known, data):
                    return
            self._begin_head()
            self._whole = data
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self._phase is Phase.LINGER:
            return
        if self._ignoring:
            self._drop(data)
            return
        if self._phase is Phase.BODY:
            self._patience.deadline = self.loop.time() + limits.BODY_GAP_S
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, MemoryError):
                raise
            self._refuse(Problem(Code.QUEUE_FULL, "there is no memory for the request's body"))
        except httptools.HttpParserUpgrade:
            self._refuse(Problem(Code.BAD_REQUEST, "upgrading the connection is not supported"))
        except httptools.HttpParserError as error:
            self._refuse(Problem(Code.BAD_REQUEST, f"the request is not valid HTTP/1.1: {error}"))
        else:
            if self._framing_bytes > limits.HEAD_BYTES and self._phase in (Phase.HEAD, Phase.BODY):
                self._refuse(request_head.too_long())
        self._whole = b""

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client may end its side and still wait for the answer (`shutdown(SHUT_WR)`)."""
        self._keep_alive = False
        if self._phase is not Phase.ANSWER:
            return False
        self._half_closed = True
        if self._call is not None:
            HalfCloseProbe(self.loop, self.transport, self._call)
        elif self.cycle is not None:
            self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        if self._phase is Phase.ANSWER:
            # Pipelined: the answer in hand is sent, then the connection closes.
            self._ignoring = True
            self._keep_alive = False
            return
        if self._phase is Phase.IDLE:
            self._begin_head()  # pipelined behind a request that was answered at once
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._fields = 0

    def on_url(self, url: bytes) -> None:
        if not self._ignoring:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ignoring or self._phase is not Phase.HEAD:
            return  # a trailer could forge what the head's checks have passed
        self._fields += 1
        if self._fields <= limits.HEADER_FIELDS:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._ignoring:
            return
        if self._fields > limits.HEADER_FIELDS or self._head_is_long():
            self._refuse(request_head.too_long())
            return
        self._method = self.parser.get_method()
        version = self.parser.get_http_version()
        self._keep_alive = version != "1.0" and self.parser.should_keep_alive()
        fields = dict(self.headers)
        self._request_id = request_head.choose_id(fields.get(b"x-request-id"))
        raw_path, _, query = self.url.partition(b"?")
        path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
        problem = self._check_head(version, raw_path, fields)
        if problem is not None:
            self._refuse(problem)
        elif self._method == b"POST" and path in _PREDICT_PATHS:
            self._begin_prediction(path, query, version, fields)
        elif self._extra and is_preflight(self._method, self.headers):
            self._answer_preflight(fields)
        else:
            self._hand_to_app(fields)

    def on_body(self, body: bytes) -> None:
        if self._ignoring:
            return
        if not self._collecting:
            if self._phase is Phase.ANSWER:
                super().on_body(body)
            return
        if self._body.size + len(body) > self.proxy.max_body_bytes:
            self._refuse(too_large(self.proxy.max_body_bytes))
        elif not self._body.add(body):
            self._refuse(no_room())
        else:
            self._framing_bytes = 0

    def on_message_complete(self) -> None:
        if self._ignoring:
            return
        if self._collecting:
            self._collecting = False
            self._phase = Phase.ANSWER
            call = self._call
            if call is None:
                return
            call.arrived = monotonic()  # the loop's own time has milliseconds only
            call.body, call.body_bytes = self._body.pieces, self._body.size
            self._learn(call)
            self.proxy.submit(call)
        elif self._phase is Phase.ANSWER:
            self._received = True
            super().on_message_complete()

    # --- answers out (the rest of it is the parent's)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._phase is Phase.IDLE:
            self.flow.resume_reading()

    def rest(self) -> None:
        """Wait for the next request, or close."""
        if self._keep_alive:
            self._phase = _IDLE
            self._patience.deadline = None
            if self.flow.write_paused:
                self.flow.pause_reading()  # whoever takes no answers gets no more of them
        elif self._ignoring and not self._half_closed:
            self._linger()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """The ASGI app has answered (a callback of the parent)."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self._phase is not Phase.ANSWER:
            return
        if not self._received:
            # Nobody will read the rest of a body that came late.
            self._ignoring = True
            self._keep_alive = False
        self.rest()

    # --- time, and the end

    def sweep(self, now: float) -> None:
        """Enforce the time limits; called about twice a second."""
        if self.flow.write_paused or self.transport.is_closing():
            if self._patience.reader_is_stuck(now, self.transport.get_write_buffer_size()):
                self.transport.abort()
        elif self._phase is Phase.ANSWER or not self._patience.is_over(now):
            return
        elif self._phase is Phase.IDLE or self._phase is Phase.LINGER:
            self.transport.close()
        elif self._phase is Phase.HEAD:
            late = f"the request's header did not end within {limits.HEAD_TIMEOUT_S:g} s"
            self._refuse(Problem(Code.REQUEST_INCOMPLETE, late))
        elif self._phase is Phase.BODY:
            late = f"no byte of the request's body came for {limits.BODY_GAP_S:g} s"
            self._refuse(Problem(Code.REQUEST_INCOMPLETE, late))

    def shutdown(self) -> None:
        """The server ends: close now, or after the answer in hand."""
        self._keep_alive = False
        if self._phase is not Phase.ANSWER:
            self.transport.close()
        elif self._call is None:
            super().shutdown()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.transport.abort()

    # --- inside

    def _drop(self, data: bytes) -> None:
        """Read what a pipelining client sends meanwhile, up to a bound, so that its leaving is seen."""
        self._framing_bytes += len(data)
        if self._framing_bytes > limits.HEAD_BYTES:
            self.flow.pause_reading()

    def _begin_head(self) -> None:
        self._phase = Phase.HEAD
        self._extra = self._method = self._request_id = b""
        self._patience.deadline = self.loop.time() + limits.HEAD_TIMEOUT_S
        self._framing_bytes = 0

    def _head_is_long(self) -> bool:
        if self._framing_bytes <= limits.HEAD_BYTES:
            return False  # what was fed bounds what was parsed
        return request_head.is_long(self.url, self.headers)

    def _check_head(self, version: str, target: bytes, fields: dict[bytes, bytes]) -> Problem | None:
        """Why this request may not pass, from its head alone."""
        problem = request_head.framing_problem(version, self.url, self.headers)
        if problem is not None:
            return problem
        local = self.server[0] if self.server else None
        problem = self.proxy.access.check(self._method, target, self.headers, local)
        self._extra = self.proxy.access.cors_headers(self.headers, self._method) if b"origin" in fields else b""
        if problem is not None:
            return problem
        if self.parser.should_upgrade():
            return Problem(Code.BAD_REQUEST, "upgrading the connection is not supported")
        expect = fields.get(b"expect")
        if expect is not None:
            self.expect_100_continue = True
            return request_head.expectation_problem(expect)
        return None

    def _begin_prediction(self, path: bytes, query: bytes, version: str, fields: dict[bytes, bytes]) -> None:
        problem = request_head.encoding_problem(self.headers)
        if problem is not None:
            self._refuse(problem)
            return
        length = int(fields.get(b"content-length", b"0"))
        if length > self.proxy.max_body_bytes:
            self._refuse(too_large(self.proxy.max_body_bytes))
            return
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        media_type = header(self.headers, b"content-type")
        head = RequestHead(media_type, "POST", path.decode("ascii"), query, version, self.client, self.headers)
        self._call = Call(self._request_id, head, [], 0, self, 0.0)
        self._collecting = True
        self._phase = Phase.BODY
        self._patience.deadline = self.loop.time() + limits.BODY_GAP_S
        self._framing_bytes = 0

    def _learn(self, call: Call) -> None:
        """Remember the head of a request that came in one piece: the next one is likely to have it too."""
        is_plain = self._keep_alive and not self.expect_100_continue
        if self._whole and is_plain and _TOLD_APART.isdisjoint(name for name, _ in call.head.headers):
            self._known = KnownHead.of(self._whole, call.head, call.body_bytes, self._extra)

    def _predict_known(self, known: KnownHead, data: bytes) -> bool:
        """Submit a whole request whose head has passed before; False when its body must be refused."""
        size = known.body_bytes
        if size > self.proxy.max_body_bytes or not self._body.take(size):
            return False
        self._phase = _ANSWER
        self._extra = known.extra
        self._known = known
        body: Pieces = [data[known.body_at :]]
        self._call = call = Call(request_head.new_id(), known.head, body, size, self, monotonic(), known.frame)
        self.proxy.submit(call)
        return True

    def _hand_to_app(self, fields: dict[bytes, bytes]) -> None:
        """All that is no prediction: build the scope that the parent builds at each message's begin."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        self.scope["state"] = {"request_id": self._request_id.decode("ascii"), "cors": self._extra}
        self._phase = Phase.ANSWER
        self._received = False
        super().on_headers_complete()
        if not self._keep_alive:
            self.cycle.keep_alive = False

    def _answer_preflight(self, fields: dict[bytes, bytes]) -> None:
        if b"transfer-encoding" in fields or int(fields.get(b"content-length", b"0")):
            # It is answered at its head; what came behind that would be read as a request.
            self._refuse(Problem(Code.BAD_REQUEST, "a preflight request has no body"))
            return
        close = b"" if self._keep_alive else b"connection: close\r\n"
        self.transport.write(
            b"HTTP/1.1 204 No Content\r\nx-request-id: %b\r\n%b%b\r\n" % (self._request_id, self._extra, close)
        )
        self.rest()

    def _refuse(self, problem: Problem) -> None:
        """Answer before the request is read whole; the rest of it is dropped for a moment, then closed."""
        if self._phase is Phase.LINGER:
            return
        if self._phase is Phase.ANSWER:
            # What follows the request in hand is broken, not that request.
            self._ignoring = True
            self._keep_alive = False
            return
        self._ignoring = True
        self._collecting = False
        self._call = None
        self._body.release()
        self.proxy.count_refusal(problem)
        request_id = self._request_id or request_head.choose_id(None)
        self.transport.write(
            reply.problem(
                problem,
                request_id,
                None,
                self._extra,
                debug=self.proxy.debug,
                keep_alive=False,
                with_body=self._method != b"HEAD",
            )
        )
        self._linger()

    def send_400_response(self, msg: str) -> None:
        """The parent's word for what it can't parse."""
        self._refuse(Problem(Code.BAD_REQUEST, msg))

    def _linger(self) -> None:
        """Drop what still comes for a moment: to close with bytes unread resets the connection, the answer with it."""
        if self.transport.is_closing():
            return
        self._phase = Phase.LINGER
        self._patience.deadline = self.loop.time() + limits.LINGER_S
        self.flow.resume_reading()
        self.transport.write_eof()
