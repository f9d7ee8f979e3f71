"""The step `{{namespace}}/{{name}}`."""

from dataclasses import dataclass
from typing import Annotated

from remit import Context, Fail, log, step


@dataclass
class Input:
    """Whom to greet."""

    name: Annotated[str, "A name."]


@dataclass
class Output:
    greeting: str


@step
def greet(input: Input, context: Context) -> Output:
    if not input.name:
        raise Fail("there is nobody to greet: `name` is empty")
    log.info("greeting", name=input.name)
    return Output(greeting=f"Hello, {input.name}!")
