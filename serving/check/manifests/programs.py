"""The program of a container: a script, or a command of this repository; and the words of shell scripts."""

import contextlib
import functools
import re
import shlex
from collections.abc import Mapping, Sequence

from serving.check.manifests.files import ConfigFile, mounted
from serving.check.manifests.objects import Container

COMMANDS = ("export", "serving.capacity", "serving.check", "serving.exporter", "serving.local", "serving.rollout")
"""The modules for `python -m` in the tools image."""

SHELLS = ("sh", "bash", "dash", "ash")
_ASSIGNED = re.compile(r"^\s*(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
_KEYWORDS = frozenset({"!", "do", "elif", "else", "if", "then", "time", "until", "while", "{"})
_OPERATORS = frozenset(";&|()<>")


def python_module(container: Container) -> tuple[str, list[str]]:
    """The module that `python -m` runs in a container, and its arguments; ("", []) if it does not run Python."""
    arguments = container.arguments
    if "-m" not in arguments[:-1]:
        return "", []
    at = arguments.index("-m") + 1
    return arguments[at], arguments[at + 1 :]


def options(words: Sequence[str], *names: str) -> dict[str, str]:
    """The values of options, given as `--name value` or `--name=value`; "" where one is missing."""
    found = dict.fromkeys(names, "")
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in found:
            found[option] = value if equals else after
    return found


def script(container: Container) -> ConfigFile | None:
    """The script that a command runs, from a ConfigMap or written into the command (`sh -c`)."""
    arguments = container.arguments
    program = arguments[0].rpartition("/")[2] if arguments else ""
    if program not in (*SHELLS, "python", "python3"):
        return mounted(container, arguments[0]) if arguments and arguments[0].startswith("/") else None
    for at, argument in enumerate(arguments[1:], 1):
        if program in SHELLS and argument.startswith("-") and argument.endswith("c") and at + 1 < len(arguments):
            return ConfigFile("-c", arguments[at + 1], container.object, f"{container.path}.command")
        if argument == "-m":
            return None
        if not argument.startswith("-"):
            return mounted(container, argument)
    return None


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


def assigned(script: str, container: Container) -> dict[str, str]:
    """The variables of a script and of its container, without those whose value can't be known."""
    values = {name: value for name in container.env if (value := container.variable(name)) is not None}
    seen = set()
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
