"""Shell scripts: their variables, and the commands whose words can be known without running them."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from collections.abc import Mapping

__all__ = ["SHELLS", "assigned", "commands", "filled"]

SHELLS = ("sh", "bash", "dash", "ash")
_ASSIGNED = re.compile(r"^\s*(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
_KEYWORDS = frozenset({"!", "do", "elif", "else", "if", "then", "time", "until", "while", "{"})
_OPERATORS = frozenset(";&|()<>")


@functools.lru_cache(maxsize=64)
def commands(script: str) -> tuple[list[str], ...]:
    """The words of each command, without keywords as `while` before it, variables as they are written.

    A line with an open quote is left out.
    """
    found: list[list[str]] = []
    for line in re.sub(r"\\\r?\n", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        with contextlib.suppress(ValueError):  # a quote that continues in the next line
            for word in [*lexer, ";"]:
                if word and set(word) <= _OPERATORS:
                    found += [words] if words else []
                    words = []
                elif words or word not in _KEYWORDS:
                    words.append(word)
    return tuple(found)


def assigned(script: str, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of a script and of its environment, without those whose value can't be known."""
    values, seen = dict(given), set()
    for name, written in _ASSIGNED.findall(script):
        value = written[1:-1] if written.startswith("'") else filled(written.strip('"'), values)
        if value is None or (name in seen and value != values.get(name)):  # only the shell knows which one applies
            values.pop(name, None)
        else:
            values[name] = value
        seen.add(name)
    return values


def filled(word: str, values: Mapping[str, str]) -> str | None:
    """A word with its variables filled in; None when one is unknown."""
    found = [(match, values.get(match[1] or match[3]) or match[2]) for match in _VARIABLE.finditer(word)]
    for match, value in reversed(found):
        if value is None:
            return None
        word = word[: match.start()] + value + word[match.end() :]
    return None if "$" in word or "`" in word else word
