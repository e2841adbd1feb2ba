"""The control socket: the few messages of a worker's birth, and the data sockets it hands over."""

import array
import socket
from typing import TypeVar

from predictord.wire import PREFIX, Build, Channels, Load, ToSupervisor, decode_to_worker, frame_head

Message = TypeVar("Message", Load, Build)

_FDS_A_MESSAGE = 128
"""The kernel takes 253 file descriptors a message (SCM_MAX_FD)."""


class Control:
    """Blocking; used by the main thread only, before serving begins."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def send(self, message: ToSupervisor) -> None:
        """Write one message."""
        self.socket.sendall(frame_head(message))

    def receive(self, kind: type[Message]) -> Message:
        """The next message, which must be of this kind. Raises EOFError when the supervisor is gone."""
        header_bytes, _ = PREFIX.unpack(self._exactly(PREFIX.size))
        message = decode_to_worker(self._exactly(header_bytes))
        if not isinstance(message, kind):
            raise EOFError(f"expected {kind.__name__}, got {type(message).__name__}")
        return message

    def hand_over(self, sockets: list[socket.socket]) -> None:
        """Give the supervisor its ends of the data sockets, and close them here."""
        for start in range(0, len(sockets), _FDS_A_MESSAGE):
            some = sockets[start : start + _FDS_A_MESSAGE]
            fds = array.array("i", [sock.fileno() for sock in some])
            frame = frame_head(Channels(len(some)))
            sent = self.socket.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            self.socket.sendall(frame[sent:])
        for sock in sockets:
            sock.close()

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError("the supervisor closed the control socket")
            view = view[got:]
        return data
