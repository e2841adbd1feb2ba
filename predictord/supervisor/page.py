"""The dashboard's files, which hold no data: the page at `/`, and what it loads from `/dashboard/…`."""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_FOLDER = Path(__file__).with_name("dashboard")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing inline and nothing from elsewhere. Images may be blobs: what the user sends and what the predictor answers.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "cache-control": "no-cache",  # asked for anew, so that a newer predictord shows its own page, but by its etag
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _File(NamedTuple):
    body: bytes
    media_type: str
    etag: str


def page(request: Request) -> Response:
    """`GET /` for a browser."""
    response = _answer(request, "index.html")
    response.headers["vary"] = "accept"
    return response


async def asset(request: Request) -> Response:
    """`GET /dashboard/{name}`."""
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    file = _files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**_HEADERS, "etag": file.etag}
    known = request.headers.get("if-none-match", "").split(",")
    if file.etag in [etag.strip().removeprefix("W/") for etag in known]:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers={**headers, "content-type": file.media_type})


@cache
def _files() -> dict[str, _File]:
    """All of them, read when a browser first asks: 0.1 MB that most daemons never need."""
    found = {}
    for path in _FOLDER.iterdir():
        media_type = _MEDIA_TYPES.get(path.suffix)
        if media_type is not None:
            body = path.read_bytes()
            found[path.name] = _File(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return found
