"""A host for unit tests: it answers as it was told, and tells what the step did.

    run = Fake().http("GET", "https://a.example/", Answer(200, json={"up": True})).call(step, {"url": "https://a.example/"})
    assert run.output == {"up": True}

A call that the test did not prepare is an AssertionError that says which; so is an answer that was never asked for. Time does
not pass by itself: only `sleep` moves it.
"""

import json as _json
from dataclasses import dataclass, field

from . import _host, _step
from ._fail import Cancelled, Denied, Fail, Refusal


class Answer:
    """What a server says."""

    def __init__(self, status=200, *, body=b"", json=None, headers=None):
        self.status = status
        self.body = _json.dumps(json).encode() if json is not None else body.encode() if isinstance(body, str) else body
        self.headers = [(name.lower(), value) for name, value in dict(headers or {}).items()]


class Program:
    """What a program does."""

    def __init__(self, stdout="", stderr="", code=0, signal=None):
        self.pieces = [("stdout", stdout.encode()), ("stderr", stderr.encode())]
        self.code, self.signal = (code, None) if signal is None else (None, signal)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def read(self):
        while self.pieces:
            stream, data = self.pieces.pop(0)
            if data:
                return stream, data
        return None

    def wait(self):
        return self.code, self.signal


@dataclass
class Sent:
    """A request that the step sent."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    def json(self):
        return _json.loads(self.body)


@dataclass
class Run:
    """What a step did."""

    output: object = None
    failure: Fail | None = None
    cancelled: bool = False
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    started: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    revealed: list[str] = field(default_factory=list)
    slept: float = 0.0

    @property
    def messages(self):
        return [message for _, message, _ in self.log]


class Fake:
    """A host that is told beforehand what to answer."""

    def __init__(self):
        self._node, self._secrets, self._answers, self._programs = None, {}, [], []
        self._cancelled = False
        self._run = Run()

    def on(self, node):
        """The node that the step is run for."""
        self._node = node
        return self

    def secret(self, name, value):
        """A secret that the step may see."""
        self._secrets[name] = value
        return self

    def http(self, method, url, answer):
        """The next request of this method to this address is answered so; a `Refusal` is raised."""
        self._answers.append((method, url, answer))
        return self

    def exec(self, program, arguments, does):
        """The next start of this program with these arguments does so; a `Refusal` is raised."""
        self._programs.append((program, list(arguments), does))
        return self

    def cancel(self):
        """The run has been cancelled."""
        self._cancelled = True
        return self

    def call(self, function, value):
        """Runs a step with a value as JSON has it: through its input's schema to its output's."""
        before, _host.current = _host.current, _Host(self)
        try:
            self._run.output = _json.loads(_step.call(function, _json.dumps(value)))
        except Fail as fail:
            self._run.failure = fail
        except Cancelled:
            self._run.cancelled = True
        except Refusal as refusal:
            self._run.failure = Fail(f"{type(refusal).__name__}: {refusal}")
        finally:
            _host.current = before
        left = [f"{method} {url}" for method, url, _ in self._answers] + [name for name, _, _ in self._programs]
        assert not left, f"prepared, and never asked for: {', '.join(left)}"
        return self._run


class _Host:
    def __init__(self, fake):
        self.fake, self.run = fake, fake._run

    def log(self, level, message, fields):
        self.run.log.append((level, message, dict(fields)))

    def node(self):
        return self.fake._node

    def execution(self):
        return "00000000-0000-0000-0000-000000000000"

    def step(self):
        return "test"

    def attempt(self):
        return 1

    def idempotency_key(self):
        return "test-key"

    def progress(self, done, total):
        self.run.progress.append((done, total))

    def cancelled(self):
        return self.fake._cancelled

    def remaining(self):
        return max(0, 60_000 - round(self.run.slept * 1000))

    def sleep(self, milliseconds):
        if self.fake._cancelled:
            raise Cancelled()
        self.run.slept += milliseconds / 1000

    def reveal(self, name):
        if name not in self.fake._secrets:
            raise Denied(f"reveal {name}")
        self.run.revealed.append(name)
        return self.fake._secrets[name]

    def start(self, program, arguments, stdin):
        does = self._take(self.fake._programs, (program, arguments), f"{program} {arguments}")
        self.run.started.append((program, arguments, stdin))
        return does

    def http(self, method, scheme, authority, path, headers, body, timeout):
        url = f"{scheme}://{authority}{path}"
        answer = self._take(self.fake._answers, (method, url), f"{method} {url}")
        self.run.sent.append(Sent(method, url, dict(headers), body))
        return answer.status, answer.headers, (piece for piece in [answer.body])

    def _take(self, prepared, wanted, words):
        for at, (first, second, does) in enumerate(prepared):
            if (first, second) == wanted:
                del prepared[at]
                if isinstance(does, Refusal):
                    raise does
                return does
        raise AssertionError(f"the test did not prepare {words}")
