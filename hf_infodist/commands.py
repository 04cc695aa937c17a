"""Functions as commands: records become options, one for each field."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def command(function: Callable[..., None], *, shared: Mapping[str, Any] | None = None) -> Callable[..., None]:
    """Make a command of a function: each parameter that is a record becomes one option for each field of it.

    Args:
        function: What Typer is to call.
        shared: Options by name of a field, for records that do not say themselves what Typer makes of their fields.
    """
    parameters = inspect.signature(function).parameters.values()
    records = {each.name: each.annotation for each in parameters if is_dataclass(each.annotation)}

    @functools.wraps(function)
    def call(**values: Any) -> None:
        made = {
            name: record(**{each.name: values.pop(each.name) for each in fields(record)})  # type: ignore[operator]
            for name, record in records.items()
        }
        function(**values, **made)

    def options() -> Iterator[inspect.Parameter]:
        for each in parameters:
            yield from (
                _options_of(each.annotation, shared or {})
                if each.name in records
                else (each.replace(kind=inspect.Parameter.KEYWORD_ONLY),)
            )

    call.__signature__ = inspect.Signature(list(options()))  # type: ignore[attr-defined]
    return call


def _options_of(record: Any, shared: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    for each in fields(record):
        default = inspect.Parameter.empty if each.default is MISSING else each.default
        annotation = shared.get(each.name, each.type)
        yield inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
