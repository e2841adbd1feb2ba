"""Opens the listening sockets, before any model is loaded."""

import errno
import socket

from predictord.errors import SettingsError, StartError

_BACKLOG = 2048
_TRIES = 20


def listen(host: str | None, port: int) -> list[socket.socket]:
    """Sockets for `host` and `port`; `None` means 127.0.0.1 and, where there is IPv6, ::1, on one port.

    Raises `StartError` if the port is taken, `SettingsError` for an address this machine does not have.
    """
    if host is None:
        return _listen_on_loopback(port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise SettingsError(f"--host {host!r} can't be resolved ({error.strerror}); give an address") from error
    family, address = found[0][0], found[0][4]
    return [_open(family, str(address[0]), port)]


def _listen_on_loopback(port: int) -> list[socket.socket]:
    for _ in range(_TRIES):
        first = _open(socket.AF_INET, "127.0.0.1", port)
        chosen = first.getsockname()[1]
        try:
            return [first, _open(socket.AF_INET6, "::1", chosen)]
        except StartError:
            # With a port that the kernel chose, another one may be free on both.
            first.close()
            if port:
                raise
        except OSError:
            return [first]  # no IPv6 here
    raise StartError("no port is free on both 127.0.0.1 and ::1; give one with --port")


def _open(family: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A daemon that is started again at once must not fail on connections in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            from predictord.supervisor.port_holder import cure

            raise StartError(f"port {port} on {address} is in use{cure(port)}") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StartError(f"port {port} on {address} needs root; choose one above 1023 with --port") from error
        if family == socket.AF_INET6 and address == "::1":
            raise
        raise SettingsError(f"--host {address!r} is no address of this machine ({error.strerror})") from error
    sock.setblocking(False)
    return sock


def urls(sockets: list[socket.socket]) -> list[str]:
    """The base URL of each listening socket."""
    found = []
    for sock in sockets:
        address, port = sock.getsockname()[:2]
        found.append(f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}")
    return found
