"""Who stands behind the SDK's functions: the runner in a component, a `fake.Fake` in a unit test."""


class Nobody:
    """Outside of both there is no host."""

    def __getattr__(self, name):
        raise RuntimeError(f"there is no host for `{name}`: run the step with remit.fake.Fake, or build it")


current = Nobody()
