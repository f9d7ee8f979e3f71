"""What a step may know of its run, and how the run is told about."""

from dataclasses import dataclass, field

from . import _host


@dataclass
class Node:
    """A machine or service with tags and attributes."""

    name: str
    tags: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)


class Context:
    """The run: given to the step's function."""

    @property
    def node(self):
        """The node that the step is being run for; None in a workflow step."""
        return _host.current.node()

    @property
    def execution(self):
        """The execution's id."""
        return _host.current.execution()

    @property
    def step(self):
        """The step's name in the job."""
        return _host.current.step()

    @property
    def attempt(self):
        """The number of this try, from 1."""
        return _host.current.attempt()

    @property
    def idempotency_key(self):
        """The same for every try of this step on this node in this execution, and for nothing else."""
        return _host.current.idempotency_key()

    @property
    def cancelled(self):
        """True as soon as the run has been cancelled."""
        return _host.current.cancelled()

    @property
    def remaining(self):
        """Seconds until the wall clock limit ends the run."""
        return _host.current.remaining() / 1000

    def progress(self, done, total=0):
        """Tells how far the run is; a total of 0 means that it is not known."""
        _host.current.progress(done, total)

    def sleep(self, seconds):
        """Waits; raises `Cancelled` when the run is cancelled meanwhile."""
        _host.current.sleep(max(0, round(seconds * 1000)))
