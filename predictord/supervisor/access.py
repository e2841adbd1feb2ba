"""Who may call: pure rules over a request's head.

Local is no trust boundary, since any web page that the user has open can reach
127.0.0.1. `Host` stops DNS rebinding, `Origin` and `Sec-Fetch-Site` stop other sites'
pages, and the token stops other machines. Whoever is not named is refused.
"""

import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache

from predictord.problem import Code, Problem
from predictord.wire import Headers

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_WEB_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_PAGE_PARTS = re.compile(r"/dashboard/[a-z_-]+\.[a-z]+", re.ASCII)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")

_JUDGED_ALWAYS = frozenset({b"host", b"origin", b"sec-fetch-site"})
_MAX_KNOWN_HOSTS = 64
_SHOWN_CHARACTERS = 100

_EXPOSED = b"x-request-id, x-predictord-worker, x-predictord-generation, server-timing, retry-after"
_PREFLIGHT_MAX_AGE_S = 600


@dataclass(frozen=True)
class AccessRules:
    """The settings that say who may call, and the judgement of one request.

    `is_loopback` is about `--host`: on another one, the address that a connection came in
    on is a good `Host` too. `allow_host` holds names with or without a port.
    """

    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    is_loopback: bool = True
    _known_hosts: set[bytes] = field(default_factory=set, init=False, repr=False, compare=False)

    def check(
        self, method: bytes | str, path: bytes | str, headers: Headers, local_address: str | None
    ) -> Problem | None:
        """Why this request may not be served, or `None` if it may.

        `path` is the request target without its query, as sent: an absolute URL there is
        refused. Names in `headers` are lower-case. `local_address` is our end of the connection.
        """
        method, path = _text(method), _text(path)
        judged = [pair for pair in headers if pair[0] in _JUDGED_ALWAYS]
        if (  # nearly every request, 30,000 times a second: one good Host and no browser
            len(judged) == 1
            and judged[0][0] == b"host"
            and judged[0][1] in self._known_hosts
            and self.token is None
            and path[:1] == "/"
        ):
            return None
        if path[:1] != "/":
            return Problem(Code.BAD_REQUEST, "the request target must be a path, such as /predict")
        return (
            self._host_problem(_values(headers, b"host"), local_address)
            or self._origin_problem(method, path, headers)
            or self._token_problem(method, path, headers)
        )

    def cors_headers(self, headers: Headers, method: bytes | str = b"POST") -> bytes:
        """The rendered headers that let an allowed origin's page read the answer; `b""` for all others.

        For a preflight (`is_preflight`) they are the whole answer's.
        """
        origins = _values(headers, b"origin")
        if not origins or not self._allows_origins(origins):
            return b""
        allow = b"access-control-allow-origin: " + origins[0] + b"\r\n"
        if not is_preflight(method, headers):
            return allow + b"access-control-expose-headers: " + _EXPOSED + b"\r\nvary: origin\r\n"
        asked = b", ".join(_values(headers, b"access-control-request-headers"))
        return (
            allow
            + b"access-control-allow-methods: GET, HEAD, POST\r\n"
            + (b"access-control-allow-headers: " + asked + b"\r\n" if _HEADER_NAMES.fullmatch(asked) else b"")
            + b"access-control-max-age: %d\r\n" % _PREFLIGHT_MAX_AGE_S
            + b"vary: origin, access-control-request-headers\r\n"
        )

    def _host_problem(self, hosts: list[bytes], local_address: str | None) -> Problem | None:
        if len(hosts) != 1 or not hosts[0].strip():
            return Problem(Code.BAD_REQUEST, f"a request needs exactly one Host header, this one has {len(hosts)}")
        if hosts[0] in self._known_hosts:
            return None
        authority = _text(hosts[0]).lower()
        match = _AUTHORITY.fullmatch(authority)
        if match and self._allows_host(match[1], authority):
            if len(self._known_hosts) >= _MAX_KNOWN_HOSTS:
                self._known_hosts.clear()
            self._known_hosts.add(hosts[0])
            return None
        # Depends on the connection, so it is no known host.
        if match and not self.is_loopback and local_address and _is_address(match[1], local_address):
            return None
        return Problem(
            Code.HOST_NOT_ALLOWED,
            f"the Host {authority[:_SHOWN_CHARACTERS]!a} is not this service's; --allow-host would allow it",
        )

    def _allows_host(self, name: str, authority: str) -> bool:
        return name in _LOOPBACK_NAMES or any(
            allowed.lower() in (name, name.strip("[]"), authority) for allowed in self.allow_host
        )

    def _origin_problem(self, method: str, path: str, headers: Headers) -> Problem | None:
        origins = _values(headers, b"origin")
        if origins:
            if self._allows_origins(origins):
                return None
            shown = _text(b", ".join(origins))[:_SHOWN_CHARACTERS]
            return Problem(Code.ORIGIN_NOT_ALLOWED, f"the origin {shown!a} may not call; --allow-origin would allow it")
        sites = _values(headers, b"sec-fetch-site")
        if not any(site.lower() in (b"cross-site", b"same-site") for site in sites):
            return None
        if method == "GET" and path == "/" and _values(headers, b"sec-fetch-mode") == [b"navigate"]:
            return None  # a link to the page; it changes nothing, and can't be framed
        return Problem(Code.ORIGIN_NOT_ALLOWED, "another site's page may not call; --allow-origin would allow it")

    def _allows_origins(self, origins: list[bytes]) -> bool:
        if len(origins) != 1:
            return False
        origin = _text(origins[0]).lower()
        match = _WEB_ORIGIN.fullmatch(origin)
        return (match is not None and match[1] in _LOOPBACK_NAMES) or any(
            origin == allowed.lower().rstrip("/") for allowed in self.allow_origin
        )

    def _token_problem(self, method: str, path: str, headers: Headers) -> Problem | None:
        if self.token is None or path == "/healthz" or asks_for_page(method, path, headers):
            return None
        if method in ("GET", "HEAD") and _PAGE_PARTS.fullmatch(path):
            return None  # the page's script and style, as empty of data as itself
        if is_preflight(method, headers):
            return None  # browsers never send credentials with it; its origin is allowed, or we were not here
        scheme, _, credentials = b"\n".join(_values(headers, b"authorization")).partition(b" ")
        is_right = hmac.compare_digest(credentials.strip(), self.token.encode())
        if is_right and scheme.lower() == b"bearer":
            return None
        return Problem(
            Code.TOKEN_REQUIRED, "send the token of --token-file or PREDICTORD_TOKEN as Authorization: Bearer …"
        )


def is_preflight(method: bytes | str, headers: Headers) -> bool:
    """Whether a browser asks if it may send a request; answered with `cors_headers` alone and 204."""
    if _text(method) != "OPTIONS":
        return False
    names = {name for name, _ in headers}
    return b"origin" in names and b"access-control-request-method" in names


def asks_for_page(method: bytes | str, path: bytes | str, headers: Headers) -> bool:
    """Whether the answer is the dashboard's empty page, which holds no data and so needs no token."""
    if _text(path) != "/" or _text(method) not in ("GET", "HEAD"):
        return False
    accepted = b",".join(_values(headers, b"accept")).lower().split(b",")
    return any(media_range.partition(b";")[0].strip() == b"text/html" for media_range in accepted)


@lru_cache(maxsize=_MAX_KNOWN_HOSTS)
def _is_address(name: str, local_address: str) -> bool:
    try:
        named = ipaddress.ip_address(name.strip("[]"))
        local = ipaddress.ip_address(local_address.partition("%")[0])
    except ValueError:
        return False
    # A dual-stack listener sees IPv4 connections as ::ffff:192.0.2.1, clients write 192.0.2.1.
    return named == (getattr(local, "ipv4_mapped", None) or local)


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
