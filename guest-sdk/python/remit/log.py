"""The run's log. The host redacts, bounds and numbers every line.

    log.info("restarted", host="web1", seconds=3)
"""

from . import _host


def _write(level, message, fields):
    _host.current.log(level, str(message), [(name, str(value)) for name, value in fields.items()])


def debug(message, /, **fields):
    """What helps to find a mistake."""
    _write("debug", message, fields)


def info(message, /, **fields):
    """What happened."""
    _write("info", message, fields)


def warn(message, /, **fields):
    """What somebody should look at."""
    _write("warn", message, fields)


def error(message, /, **fields):
    """What went wrong."""
    _write("error", message, fields)
