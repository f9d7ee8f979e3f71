"""HTTP requests to the hosts that the step's remit names, asked for with `[[http]]`. Redirects are not followed.

    services = http.get("https://control.example/v1/services").ok().json()
"""

import json as _json
from dataclasses import dataclass
from urllib.parse import urlsplit

from . import _host
from ._fail import Fail

#: Largest body of an answer unless the request says otherwise.
MAX_BODY = 4 << 20


@dataclass
class Answer:
    """What the server said. Names of headers are in small letters."""

    request: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        """The first header of this name, in any case of letters; None if there is none."""
        return next((value for own, value in self.headers if own.lower() == name.lower()), None)

    @property
    def text(self):
        """The body as text, with U+FFFD for what is not UTF-8."""
        return self.body.decode("utf-8", "replace")

    def json(self):
        """The body as JSON; a failure if it is none."""
        try:
            return _json.loads(self.body)
        except ValueError as error:
            raise Fail(f"{self.request}: the answer (status {self.status}) is not JSON: {error}") from error

    def ok(self):
        """This, or a failure with the status and the beginning of the body for a status of 400 or more."""
        if self.status < 400:
            return self
        raise Fail(
            f"{self.request}: the server answered with status {self.status}",
            status=self.status, body=self.text[:512],
        )


def request(method, url, *, headers=None, body=b"", json=None, timeout=None, max_body=MAX_BODY):
    """Sends a request and reads the answer. `json` is written as the body; `timeout` is in seconds, for each of connecting,
    the first byte and the time between two reads."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise ValueError(f"{url!r} is not an address such as https://host/path; a login stands in no address")
    headers = [(name.lower(), str(value)) for name, value in dict(headers or {}).items()]
    if json is not None:
        body = _json.dumps(json).encode()
        if not any(name == "content-type" for name, _ in headers):
            headers.append(("content-type", "application/json"))
    elif isinstance(body, str):
        body = body.encode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = f"{method} {parts.scheme}://{parts.netloc}{parts.path or '/'}"
    status, answer_headers, read = _host.current.http(
        method, parts.scheme, parts.netloc, path, headers, bytes(body), timeout
    )
    whole = bytearray()
    for piece in read:
        whole += piece
        if len(whole) > max_body:
            read.close()
            raise Fail(f"{name}: the answer is larger than {max_body} bytes")
    return Answer(name, status, answer_headers, bytes(whole))


def get(url, **options):
    """A `GET` request."""
    return request("GET", url, **options)


def post(url, **options):
    """A `POST` request."""
    return request("POST", url, **options)


def put(url, **options):
    """A `PUT` request."""
    return request("PUT", url, **options)


def patch(url, **options):
    """A `PATCH` request."""
    return request("PATCH", url, **options)


def delete(url, **options):
    """A `DELETE` request."""
    return request("DELETE", url, **options)
