"""Finds out whether a client that sent FIN has closed its connection or only ended its side.

The kernel of a closed client answers any byte with a reset. An interim `100 Continue` is a
byte that every HTTP/1.1 client skips; in a stream its own pieces do the same.
"""

import asyncio
import socket

from predictord.supervisor.call import Call, Stage

_FIRST_S, _AGAIN_S = 0.02, 0.5
_TCP_CLOSE = 7
"""`TCP_INFO`'s state of a connection that was reset."""


class HalfCloseProbe:
    """Probes while the call has a client; aborts the connection when that client is gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, call: Call) -> None:
        self._loop = loop
        self._transport = transport
        self._call = call
        self._probe(_FIRST_S)

    def _probe(self, delay_s: float) -> None:
        call = self._call
        if call.client is None or call.stage is Stage.DONE or self._transport.is_closing():
            return
        sock = self._transport.get_extra_info("socket")
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
            self._transport.abort()
            return
        if call.stage is not Stage.STREAMING and call.head.http_version != "1.0":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._loop.call_later(delay_s, self._probe, _AGAIN_S)
