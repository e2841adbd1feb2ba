"""The half of a connection that writes: whole answers, errors and streams, as the calls' client."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from predictord.problem import BODILESS, Code, Problem
from predictord.supervisor import reply
from predictord.supervisor.call import Call, Stage
from predictord.supervisor.patience import Patience
from predictord.supervisor.proxy import Proxy
from predictord.supervisor.request_body import RequestBody
from predictord.supervisor.streamed_answer import StreamedAnswer
from predictord.wire import AnswerHead, Buffer, StreamStart

_SMALL_BODY_BYTES = 1 << 14
_WRONG_LENGTH = Problem(Code.PREDICTOR_ERROR, "the stream does not have the length that its Content-Length announced")


class AnsweringProtocol(HttpToolsProtocol):
    """One connection, as far as it answers predictions; implements `call.Client`."""

    proxy: Proxy

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._call: Call | None = None
        self._body = RequestBody(self.proxy.budget)
        self._stream: StreamedAnswer | None = None
        self._keep_alive = True
        self._extra = b""
        self._patience = Patience()

    def rest(self) -> None:
        """An answer is on its way: wait for the next request, or close."""
        raise NotImplementedError

    def answer(self, call: Call, head: AnswerHead, body: Buffer) -> None:
        if head.problem is not None:
            self.fail(call, head.problem)
            return
        status, origin = head.status, call.origin
        self.proxy.done(call, status)
        if origin is not None and len(body) <= _SMALL_BODY_BYTES and self._keep_alive and status not in BODILESS:
            self.transport.write(reply.small(call, origin, head, self._extra, body))
        else:
            keep_alive = self._keep_alive
            self.transport.write(
                reply.whole(call, status, head.header_block, len(body), self._extra, keep_alive=keep_alive)
            )
            self.transport.write(body)
        self._complete()

    def fail(self, call: Call, problem: Problem) -> None:
        self.proxy.count_failure(call, problem)
        self.transport.write(
            reply.problem(problem, call.id, call, self._extra, debug=self.proxy.debug, keep_alive=self._keep_alive)
        )
        self._complete()

    def start_stream(self, call: Call, start: StreamStart) -> None:
        call.is_event_stream = b"text/event-stream" in start.header_block
        self._stream = StreamedAnswer(self.loop, self.transport, call, start, self._extra, keep_alive=self._keep_alive)

    def stream(self, call: Call, chunks: Sequence[Buffer]) -> None:
        if self._stream is None:
            return
        if not self._stream.send(chunks):
            self.proxy.count_failure(call, _WRONG_LENGTH)
            self._cut()
            self.proxy.abandon(call)  # nothing more of it can be sent
        elif self.flow.write_paused and call.slot is not None:
            call.slot.pause_reading()  # `pause_writing` is not called again for what was full already

    def end_stream(self, call: Call, problem: Problem | None) -> None:
        if self._stream is None:
            return
        if problem is not None:
            self.proxy.count_failure(call, problem)
            if call.is_event_stream:
                event = problem.event(call.id.decode("ascii"), worker=call.place_id, debug=self.proxy.debug)
                self._stream.send([event])
            self._cut()
        elif self._stream.end():
            self.proxy.done(call, self._stream.status)
            self._complete()
        else:
            self.proxy.count_failure(call, _WRONG_LENGTH)
            self._cut()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.reader_moved()
        if self._call is not None and self._call.slot is not None and self._call.stage is Stage.STREAMING:
            self._call.slot.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._patience.reader_moved()
        if self._call is not None and self._call.slot is not None:
            self._call.slot.resume_reading()

    def _complete(self) -> None:
        self._call = self._stream = None
        self._body.release()
        self.rest()

    def _cut(self) -> None:
        """End the connection so that the client sees an incomplete answer."""
        stream, self._stream = self._stream, None
        self._call = None
        self._body.release()
        if stream is not None:
            stream.cut()
