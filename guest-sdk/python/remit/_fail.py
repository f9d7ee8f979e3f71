"""How a step ends when it does not succeed, and why the host did not do what was asked of it."""


class Fail(Exception):
    """The step failed: one sentence for a person, and details by name."""

    def __init__(self, message, **fields):
        super().__init__(message)
        self.message = message
        self.fields = {name: str(value) for name, value in fields.items()}


class Refusal(Exception):
    """The host did not do what was asked of it. The step may go on; raised out of it, the step fails."""


class Denied(Refusal):
    """The remit does not allow it; the text names the permission."""

    def __str__(self):
        return f"not allowed by this step's remit: {self.args[0]}"


class OverLimit(Refusal):
    """A limit of the remit is used up; the text names it."""

    def __str__(self):
        return f"a limit of this step's remit is used up: {self.args[0]}"


class Failed(Refusal):
    """It was allowed, and it did not work."""


class Cancelled(Refusal):
    """The run has been cancelled. Raised out of the step, it ends as cancelled, not as failed."""

    def __str__(self):
        return "cancelled"
