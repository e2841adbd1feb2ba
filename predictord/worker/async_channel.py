"""A data socket on an event loop: whole frames, one exchange at a time."""

import asyncio

from predictord.wire import PREFIX, Buffer, Cancel, ToSupervisor, ToWorker, frame_head
from predictord.worker.channel import ChannelClosed
from predictord.worker.known_messages import KnownMessages


class AsyncChannel(asyncio.BufferedProtocol):
    """One data socket on the loop: whole frames in, frames out; a `Cancel` cancels the task at once."""

    _SMALL_BYTES = 1 << 16

    def __init__(self, known: KnownMessages) -> None:
        self._buffer = bytearray(self._SMALL_BYTES)
        self._filled = 0
        self._known = known
        self._frames: asyncio.Queue[tuple[ToWorker, Buffer] | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.in_hand: asyncio.Task[None] | None = None
        """The task that a `Cancel` cancels; set while a request is in hand."""
        self.was_cancelled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        while (frame_bytes := self._frame_bytes()) and self._filled >= frame_bytes:
            self._take(frame_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self._frames.put_nowait(None)
        if self.in_hand is not None:
            self.in_hand.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def receive(self) -> tuple[ToWorker, Buffer]:
        """The next message and its body. Raises `ChannelClosed`."""
        frame = await self._frames.get()
        if frame is None:
            raise ChannelClosed("end of file")
        return frame

    async def send(self, message: ToSupervisor, body: Buffer = b"") -> None:
        """Write one frame; waits while the supervisor takes nothing."""
        await self.send_parts([frame_head(message, len(body)), body])

    async def send_parts(self, parts: list[Buffer]) -> None:
        """Write buffers in order; waits while the supervisor takes nothing."""
        self.write(parts)
        await self._writable.wait()

    def write(self, parts: list[Buffer]) -> None:
        """Write buffers in order without waiting."""
        if self._transport is None:
            return
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines([part for part in parts if len(part)])

    def close(self) -> None:
        """Close the socket, which tells the supervisor that nobody serves it any more."""
        if self._transport is not None:
            self._transport.close()

    def _frame_bytes(self) -> int:
        """The length of the frame that the buffer begins with, once known; grows the buffer to hold it."""
        if self._filled < PREFIX.size:
            return 0
        header_bytes, body_bytes = PREFIX.unpack_from(self._buffer)
        total: int = PREFIX.size + header_bytes + body_bytes
        if total > len(self._buffer):
            grown = bytearray(total)
            grown[: self._filled] = memoryview(self._buffer)[: self._filled]
            self._buffer = grown
        return total

    def _take(self, frame_bytes: int) -> None:
        header_bytes, _ = PREFIX.unpack_from(self._buffer)
        view = memoryview(self._buffer)
        body_at = PREFIX.size + header_bytes
        message = self._known[bytes(view[PREFIX.size : body_at])]
        if frame_bytes > self._SMALL_BYTES:
            body: Buffer = view[body_at:frame_bytes]
            rest = bytes(view[frame_bytes : self._filled])
            self._buffer = bytearray(max(self._SMALL_BYTES, len(rest)))
            self._buffer[: len(rest)] = rest
        else:
            body = bytes(view[body_at:frame_bytes])
            self._buffer[: self._filled - frame_bytes] = bytes(view[frame_bytes : self._filled])
        self._filled -= frame_bytes
        if isinstance(message, Cancel):
            if self.in_hand is not None:
                self.was_cancelled = True
                self.in_hand.cancel()
            elif not self._frames.empty():
                self.was_cancelled = True  # it came with its Predict, which no task has taken yet
        else:
            self._frames.put_nowait((message, body))
