"""Values of secrets, asked for with `[[reveal]]`. Most steps do not want this: the runner itself puts secrets where they are
used. Each call is recorded, and the run is marked as having seen the value."""

from . import _host


def get(name):
    """The value of the secret that the job bound to `name`, as text."""
    return _host.current.reveal(name)
