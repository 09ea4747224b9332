"""What export jobs publish: the store, and the model's name, by their command line or their script."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
from collections.abc import Iterator

from serving.check._files import script
from serving.check._manifests import Container, Manifests
from serving.check.tools import module

__all__ = ["Export", "exports"]

_ASSIGNED = re.compile(r"^\s*(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|\S*)", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One export that a job runs.

    Attributes:
        container: Where it runs.
        store: The root of all models; "" when it can't be told.
        model: The model's name; "" when it can't be told.
        where: The object that says so.
        field: Where it says so.
    """

    container: Container
    store: str
    model: str
    where: str
    field: str


def exports(manifests: Manifests) -> Iterator[Export]:
    """The exports of all jobs."""
    for pod in manifests.pods:
        for container in [] if pod.runs_for_ever else pod.containers():
            name, arguments = module(container)
            if name == "export" and arguments[:1] == ["export"]:
                yield _export(container, arguments, {}, container.object, f"{container.path}.args")
            file = script(manifests, container)
            if file is None or file.text is None:
                continue
            given = {name: value for name in container.env if (value := container.variable(name)) is not None}
            values = _assigned(file.text, given)
            for line in re.sub(r"\\\r?\n", " ", file.text).splitlines():
                words = _words(line) if "export" in line else []
                for at in range(len(words) - 2):
                    if words[at : at + 3] == ["-m", "export", "export"]:
                        yield _export(container, words[at + 2 :], values, file.where, file.field)


def _words(line: str) -> list[str]:
    with contextlib.suppress(ValueError):  # a quote that goes on in the next line
        return shlex.split(line, comments=True)
    return []


def _assigned(content: str, given: dict[str, str]) -> dict[str, str]:
    """The variables of a shell script, those of its environment among them; without what can't be told."""
    values, seen = dict(given), set()
    for name, written in _ASSIGNED.findall(content):
        value = written[1:-1] if written.startswith("'") else _filled(written.strip('"'), values)
        if value is None or (name in seen and value != values.get(name)):  # which of two counts is the shell's to say
            values.pop(name, None)
        else:
            values[name] = value
        seen.add(name)
    return values


def _filled(written: str, values: dict[str, str]) -> str | None:
    """A word of the shell with its variables filled in; None when one is not known."""
    found = [(match, values.get(match[1] or match[3]) or match[2]) for match in _VARIABLE.finditer(written)]
    for match, value in reversed(found):
        if value is None:
            return None
        written = written[: match.start()] + value + written[match.end() :]
    return None if "$" in written or "`" in written else written


def _export(container: Container, words: list[str], values: dict[str, str], where: str, field: str) -> Export:
    options = {"--store": "", "--name": ""}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in options:
            options[option] = _filled(value if equals else after, values) or ""
    return Export(container, options["--store"], options["--name"], where, field)
