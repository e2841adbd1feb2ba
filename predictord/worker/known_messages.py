"""The supervisor's messages, decoded once: the heads of one client's requests are the same, byte for byte."""

from predictord.wire import Predict, ToWorker, decode_to_worker

_MOST = 256
_LONGEST_BYTES = 1 << 11


class KnownMessages(dict[bytes, ToWorker]):
    """Frame headers and what they say; asked for one that it does not know, it decodes it."""

    def __missing__(self, header: bytes) -> ToWorker:
        message = decode_to_worker(header)
        if isinstance(message, Predict) and len(header) <= _LONGEST_BYTES:
            if len(self) >= _MOST:
                self.clear()
            self[header] = message
        return message
