"""TOML files as dataclasses, for the settings files of `export` and `serving`. The client has none.

Every entry is checked against the type of its field, and every wrong one is reported at once. A field's
metadata may have `least` (of an integer; default 1) and `read`, which reads a text in place of the type's form.
"""

import argparse
import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal


class SettingsFileError(ValueError):
    """A settings file that can't be read, or has wrong entries.

    Attributes:
        problems: What was expected and received, one line each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n  - ".join(["Expected valid settings. Received:", *problems] if problems[1:] else problems))
        self.problems = problems


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises SettingsFileError if it can't be read."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # not among the client's dependencies
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsFileError(f"Expected {path} to be a readable TOML file. Received: {error}") from error
    return content


def checked(kind: type[Any], content: Mapping[str, Any], base: Path, place: str = "") -> dict[str, Any]:
    """The entries of a file as values for the fields of a dataclass; tables become the dataclasses of their fields.

    Args:
        kind: The dataclass. Missing fields get their defaults.
        content: The entries.
        base: The folder of relative paths.
        place: What precedes an entry's name in errors.

    Raises:
        SettingsFileError: Entries that are unknown or have a wrong value.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values, problems = {}, list[str]()
    for name, value in content.items():
        try:
            if name not in fields:
                known = ", ".join(sorted(fields))
                raise SettingsFileError(f"Expected only entries among {known}. Received: {place}{name}")
            read = fields[name].metadata.get("read")
            if read is not None and isinstance(value, str):
                values[name] = read(value)
            else:
                least = fields[name].metadata.get("least", 1)
                values[name] = _value(hints[name], value, f"{place}{name}", base, least)
        except SettingsFileError as error:
            problems += error.problems
        except argparse.ArgumentTypeError as error:
            problems.append(f"{place}{name}: {error}")
    if problems:
        raise SettingsFileError(*problems)
    return values


def _value(hint: Any, value: Any, place: str, base: Path, least: int) -> Any:
    """The value in its field's type: tables, paths, numbers, strings, tuples and unions of these."""
    if dataclasses.is_dataclass(hint):
        _expect(isinstance(value, Mapping), place, "a table", value)
        table: Any = hint
        return table(**checked(table, value, base, f"{place}."))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        is_list = isinstance(value, (list, tuple))
        fitting = [kind for kind in kinds if (typing.get_origin(kind) is tuple) == is_list]
        return _value((fitting or kinds)[0], value, place, base, least)
    if origin is tuple:
        _expect(isinstance(value, (list, tuple)), place, "a list", value)
        return tuple(_value(arguments[0], entry, f"{place}[{at}]", base, least) for at, entry in enumerate(value))
    if origin is Literal:
        _expect(value in arguments, place, f"one of {', '.join(arguments)}", value)
    elif hint is Path:
        _expect(isinstance(value, (str, Path)) and bool(str(value)), place, "a path", value)
        return base / value
    elif hint is float:
        _expect(type(value) in (int, float) and 0 <= value < math.inf, place, "a number of at least 0", value)
        return float(value)
    elif hint is int:
        _expect(type(value) is int and value >= least, place, f"an integer of at least {least}", value)
    elif origin is not None:
        _expect(isinstance(value, Mapping), place, "a table", value)
    elif hint is str:
        _expect(isinstance(value, str) and (bool(value) or place.endswith("]")), place, "a string, not empty", value)
    else:
        _expect(isinstance(value, hint), place, f"a {hint.__name__}", value)
    return value


def _expect(fits: bool, place: str, wanted: str, value: Any) -> None:
    if not fits:
        raise SettingsFileError(f"Expected {place} to be {wanted}. Received: {value!r:.60}")
