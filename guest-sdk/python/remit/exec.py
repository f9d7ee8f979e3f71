"""Programs that the runner's owner named, asked for with `[[exec]]`. There is no shell: arguments are handed over as they are.

    uptime = exec.run("uptime", ["-p"]).success().text
"""

from dataclasses import dataclass

from . import _host, log
from ._fail import Fail

#: How much of each stream is kept unless `run` says otherwise.
KEEP = 64 * 1024


@dataclass
class Output:
    """How a program ended, and the end of what it wrote."""

    program: str
    code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes

    @property
    def text(self):
        """Standard output as text, with U+FFFD for what is not UTF-8."""
        return self.stdout.decode("utf-8", "replace")

    def success(self):
        """This, or a failure with the exit code and the end of standard error, unless it ended with code 0."""
        if self.code == 0:
            return self
        how = f"exit code {self.code}" if self.signal is None else f"signal {self.signal}"
        raise Fail(f"{self.program} ended with {how}", stderr=self.stderr[-2048:].decode("utf-8", "replace").strip())


def run(program, arguments=(), *, stdin=b"", keep=KEEP, follow=False):
    """Runs a program to its end and keeps the last `keep` bytes of each stream. With `follow`, its lines are logged as they
    come: standard output as info, standard error as warn."""
    if isinstance(arguments, str):
        raise TypeError("arguments are a list of texts, one for each; there is no shell that would take a line apart")
    stdin = stdin.encode() if isinstance(stdin, str) else bytes(stdin)
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    lines = {"stdout": b"", "stderr": b""}
    levels = {"stdout": log.info, "stderr": log.warn}
    with _host.current.start(program, [str(argument) for argument in arguments], stdin) as child:
        while (chunk := child.read()) is not None:
            stream, data = chunk
            kept[stream] += data
            del kept[stream][:-keep or None]
            if follow:
                *whole, rest = (lines[stream] + data).split(b"\n")
                lines[stream] = rest[-KEEP:]
                for line in whole:
                    levels[stream](line.decode("utf-8", "replace"))
        code, signal = child.wait()
    if follow:
        for stream, line in lines.items():
            if line:
                levels[stream](line.decode("utf-8", "replace"))
    return Output(program, code, signal, bytes(kept["stdout"]), bytes(kept["stderr"]))
