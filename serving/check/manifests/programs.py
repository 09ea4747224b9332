"""The program of a container: a script, or a command of this repository."""

from __future__ import annotations

from serving.check.manifests.files import ConfigFile, mounted
from serving.check.manifests.objects import Container
from serving.check.manifests.shell import SHELLS

__all__ = ["COMMANDS", "known_variables", "python_module", "script"]

COMMANDS = ("export", "serving.capacity", "serving.check", "serving.exporter", "serving.local", "serving.rollout")
"""The modules for `python -m` in the tools image."""


def python_module(container: Container) -> tuple[str, list[str]]:
    """The module that `python -m` runs in a container, and its arguments; ("", []) if it does not run Python."""
    arguments = container.arguments
    if "-m" not in arguments[:-1]:
        return "", []
    at = arguments.index("-m") + 1
    return arguments[at], arguments[at + 1 :]


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


def known_variables(container: Container) -> dict[str, str]:
    """The environment variables whose values are known."""
    return {name: value for name in container.env if (value := container.variable(name)) is not None}
