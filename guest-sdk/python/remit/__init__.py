"""Write Remit steps in Python: `README.md` beside this package says how."""

from . import log
from ._context import Context, Node
from ._fail import Cancelled, Denied, Fail, Failed, OverLimit, Refusal
from ._step import Misfit, describe, step

__all__ = [
    "Cancelled", "Context", "Denied", "Fail", "Failed", "Misfit", "Node", "OverLimit", "Refusal",
    "describe", "log", "step",
]
