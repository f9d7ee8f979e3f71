"""The host as a component sees it. `remit step build` makes the world of what `step.toml` asks for, so each capability may be
absent; the modules are taken here, because after the build there is no file left to import one from."""

import json
import traceback

from componentize_py_types import Err
from wit_world.imports import remit_step_context_0_1_0 as context
from wit_world.imports import remit_step_log_0_1_0 as steplog
from wit_world.imports import remit_step_types_0_1_0 as types

from . import _host, _step
from ._context import Node
from ._fail import Cancelled, Denied, Fail, Failed, OverLimit

try:
    from wit_world.imports import remit_exec_run_0_1_0 as programs
except ImportError:
    programs = None
try:
    from wit_world.imports import remit_secrets_reveal_0_1_0 as reveal
except ImportError:
    reveal = None
try:
    from . import _guest_http as web
except ImportError:
    web = None

LEVELS = {
    "debug": steplog.Level.DEBUG,
    "info": steplog.Level.INFO,
    "warn": steplog.Level.WARN,
    "error": steplog.Level.ERROR,
}


def refusal(error):
    """What a host function raised, in the SDK's words."""
    value = error.value
    if isinstance(value, types.CapabilityError_Denied):
        return Denied(value.value)
    if isinstance(value, types.CapabilityError_OverLimit):
        return OverLimit(value.value)
    if isinstance(value, (types.CapabilityError_Cancelled, types.End_Cancelled)):
        return Cancelled()
    return Failed(getattr(value, "value", str(value)))


def asked(module, lines):
    if module is None:
        raise Denied(f"step.toml asks for no {lines}")
    return module


class Child:
    def __init__(self, inner):
        self.inner = inner

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self.inner.__exit__(*error)

    def read(self):
        try:
            chunk = self.inner.read()
        except Err as error:
            raise refusal(error) from None
        if chunk is None:
            return None
        return ("stdout" if isinstance(chunk, programs.Chunk_Stdout) else "stderr", chunk.value)

    def wait(self):
        try:
            end = self.inner.wait()
        except Err as error:
            raise refusal(error) from None
        return (end.value, None) if isinstance(end, programs.Exit_Code) else (None, end.value)


class Guest:
    """The runner."""

    def log(self, level, message, fields):
        steplog.write(LEVELS[level], message, fields)

    def node(self):
        node = context.node()
        return node and Node(node.name, list(node.tags), dict(node.attributes))

    def execution(self):
        return context.execution()

    def step(self):
        return context.step()

    def attempt(self):
        return context.attempt()

    def idempotency_key(self):
        return context.idempotency_key()

    def progress(self, done, total):
        context.progress(done, total)

    def cancelled(self):
        return context.cancelled()

    def remaining(self):
        return context.remaining()

    def sleep(self, milliseconds):
        try:
            context.sleep(milliseconds)
        except Err as error:
            raise refusal(error) from None

    def reveal(self, name):
        try:
            return asked(reveal, "[[reveal]]").get(name)
        except Err as error:
            raise refusal(error) from None

    def start(self, program, arguments, stdin):
        try:
            return Child(asked(programs, "[[exec]]").Child.start(program, arguments, stdin))
        except Err as error:
            raise refusal(error) from None

    def http(self, *request):
        return asked(web, "[[http]]").send(*request)


def failed(message, fields=()):
    return Err(types.End_Failed(types.Failure(message, list(fields))))


class Main:
    """What a component of kind `step` exports."""

    def describe(self):
        return json.dumps(_step.describe(_step.declared[0]))

    def run(self, input):
        try:
            return _step.call(_step.declared[0], input)
        except Fail as fail:
            raise failed(fail.message, fail.fields.items()) from None
        except Cancelled:
            raise Err(types.End_Cancelled()) from None
        except Exception as error:
            for line in traceback.format_exception(error):
                steplog.write(steplog.Level.DEBUG, line.rstrip(), [])
            raise failed(f"{type(error).__name__}: {error}") from None


_host.current = Guest()
if _step.declared is None:
    raise SystemExit("step.py has no step: put `@step` before its function")
