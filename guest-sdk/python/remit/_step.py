"""From a function with typed input and output to a step: JSON in, JSON out, and the schemas of both."""

import dataclasses
import enum
import json
import math
import types
import typing

from ._context import Context
from ._fail import Fail

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}

#: The step of this component: its function and the types of its input and output.
declared = None


class Misfit(Fail):
    """The input does not fit; the text names the place."""


def step(function):
    """Makes `function(input, context)` the component's step. Its types are those of its annotations."""
    global declared
    hints = typing.get_type_hints(function, include_extras=True)
    names = [name for name in hints if name != "return"]
    if len(names) != 2 or "return" not in hints or hints[names[1]] is not Context:
        raise TypeError(
            f"a step is written as `def {function.__name__}(input: Input, context: Context) -> Output:`, with a type for each"
        )
    if declared is not None and declared[0].__module__ == function.__module__:
        raise TypeError(f"`{declared[0].__name__}` is the step already; a component has one")
    declared = (function, hints[names[0]], hints["return"])
    for kind in declared[1:]:
        schema(kind)
    function.types = declared[1:]
    return function


def describe(function):
    """The schemas of a step's input and output."""
    given, gives = function.types
    return {"input": {"$schema": _DIALECT, **schema(given)}, "output": {"$schema": _DIALECT, **schema(gives)}}


def call(function, text):
    """Calls a step with a JSON document and gives its output as one."""
    given, gives = function.types
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Misfit(f"the input does not fit: {error}") from error
    output = function(read(given, value, ""), Context())
    try:
        # Checked against what the manifest promises, so that a later step never sees something else.
        written = write(output)
        read(gives, written, "", what="output")
        return json.dumps(written, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Fail(f"the output cannot be written as JSON: {error}") from error


def schema(kind):
    """JSON Schema 2020-12 of a type: dataclasses, enums, lists, dicts with text keys, unions, literals and what JSON has."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        texts = [text for text in arguments[1:] if isinstance(text, str)]
        return {**schema(arguments[0]), **({"description": " ".join(texts)} if texts else {})}
    if kind is typing.Any or kind is object:
        return {}
    if kind is None:
        return {"type": "null"}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if kind in (list, dict):
        return {"type": "array" if kind is list else "object"}
    if origin is list:
        return {"type": "array", "items": schema(arguments[0])}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema(argument) for argument in arguments]}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [case.value for case in kind]}
    if dataclasses.is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"{kind!r} has no form in JSON: use dataclasses, lists, dicts with text keys, unions and scalars")


def _record(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    found = {"type": "object", "properties": {field.name: schema(hints[field.name]) for field in fields}}
    own = kind.__doc__ if kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(") else ""
    if own:
        found["description"] = " ".join(own.split())
    if required := [field.name for field in fields if _required(field)]:
        found["required"] = required
    return {**found, "additionalProperties": False}


def _required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _misfit(what, path, why):
    return Misfit(f"the {what} does not fit: " + (f"at `{path}`: {why}" if path else why))


def read(kind, value, path, what="input"):
    """`value`, as parsed from JSON, as `kind`; the error names the place where it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return read(arguments[0], value, path, what)
    if kind is typing.Any or kind is object:
        return value
    if kind is None or kind in _SCALARS:
        return _scalar(type(None) if kind is None else kind, value, path, what)
    if kind is list or origin is list:
        if not isinstance(value, list):
            raise _misfit(what, path, f"expected a list, found {_name(value)}")
        inner = arguments[0] if arguments else typing.Any
        return [read(inner, item, f"{path}[{at}]", what) for at, item in enumerate(value)]
    if kind is dict or origin is dict:
        if not isinstance(value, dict):
            raise _misfit(what, path, f"expected an object, found {_name(value)}")
        inner = arguments[1] if arguments else typing.Any
        return {key: read(inner, item, _inside(path, key), what) for key, item in value.items()}
    if origin is typing.Literal:
        if any(type(value) is type(one) and value == one for one in arguments):
            return value
        raise _misfit(what, path, f"expected one of {', '.join(map(json.dumps, arguments))}")
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, path, what)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        for case in kind:
            if type(case.value) is type(value) and case.value == value:
                return case
        raise _misfit(what, path, f"expected one of {', '.join(json.dumps(case.value) for case in kind)}")
    return _read_record(kind, value, path, what)


def _scalar(kind, value, path, what):
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _misfit(what, path, f"expected {_SCALARS[kind]}, found {_name(value)}")
    if kind is float and not math.isfinite(value):
        raise _misfit(what, path, "it is not a number that JSON has")
    return value


def _one_of(kinds, value, path, what):
    misfits = []
    for kind in kinds:
        try:
            return read(kind, value, path, what)
        except Misfit as misfit:
            misfits.append(misfit)
    # Of an optional value, what is wrong with the value says more than that it is not null.
    real = [misfit for kind, misfit in zip(kinds, misfits) if kind is not type(None)]
    raise real[0] if len(real) == 1 else _misfit(what, path, f"{_name(value)} is none of what it may be")


def _read_record(kind, value, path, what):
    if not isinstance(value, dict):
        raise _misfit(what, path, f"expected an object, found {_name(value)}")
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [key for key in value if key not in fields]:
        raise _misfit(what, path, f"unknown field `{unknown[0]}`, expected {', '.join(f'`{name}`' for name in fields)}")
    if missing := [name for name, field in fields.items() if name not in value and _required(field)]:
        raise _misfit(what, path, f"missing field `{missing[0]}`")
    return kind(**{key: read(hints[key], item, _inside(path, key), what) for key, item in value.items()})


def _inside(path, key):
    return f"{path}.{key}" if path else key


def _name(value):
    names = {dict: "an object", list: "a list", **_SCALARS}
    return names.get(type(value), type(value).__name__)


def write(value):
    """A value of a step as JSON has it."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: write(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [write(item) for item in value]
    if isinstance(value, dict):
        return {key: write(item) for key, item in value.items()}
    return value
