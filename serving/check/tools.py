"""Containers that run a command of this repository: the exporter, the rollout, the export."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from serving.check._data import dig, integer, items, mapping, strings, text
from serving.check._files import script
from serving.check._manifests import Container, Finding, Manifests
from serving.check._server import served, servers
from serving.check.handlers import KINDS

__all__ = ["COMMANDS", "check", "module"]

COMMANDS = ("export", "serving.capacity", "serving.check", "serving.exporter", "serving.local", "serving.rollout")
_PROGRAMS = ("tensorflow_model_server", "duoserve-entrypoint", "python", "python3", "duoserve")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- recognised, not bound


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in [container for pod in manifests.pods for container in pod.containers()]:
        program = next(iter(strings(container.data.get("command"))), "")
        close = difflib.get_close_matches(program.rpartition("/")[2], _PROGRAMS, 1, cutoff=0.8)
        if close and program.rpartition("/")[2] not in _PROGRAMS:
            yield Finding(
                "command",
                container.object,
                f"{container.path}.command",
                f"a program of the image ({', '.join(_PROGRAMS)})",
                repr(program),
                "The container does not start.",
                f"Write {close[0]}, or leave `command` to the image.",
            )
        for field, words in _commands(container):
            if len(words) == 1 and re.search(r"\s", words[0].strip()):
                yield Finding(
                    "command-words",
                    container.object,
                    f"{container.path}.{field}",
                    f"one word an entry: {words[0].split()}",
                    str(words),
                    "No shell splits it: there is no program with such a name, and it fails at once.",
                    "Write a list entry for each word.",
                )
        file = script(manifests, container)
        if file is not None and file.text is None and not manifests.external(*file.where.partition("/")[::2]):
            yield Finding(
                "script-file",
                container.object,
                f"{container.path}.command",
                f"a file of {file.where} ({_keys(manifests, container, file.where)})",
                repr(file.path),
                "The container ends at once: No such file or directory.",
                "Correct the path, or the ConfigMap's key.",
            )
        name, arguments = module(container)
        near = difflib.get_close_matches(name, COMMANDS, 1)
        if name not in COMMANDS and near:
            yield _finding(
                container,
                "command",
                f"a command of the image ({', '.join(COMMANDS)})",
                f"python -m {name}",
                "The container ends at once, again and again.",
                f"Write {near[0]}.",
            )
        if name == "serving.exporter":
            yield from _exporter(manifests, container, arguments)


def _commands(container: Container) -> Iterator[tuple[str, list[str]]]:
    """What is run in a container, each with its field."""
    yield "command", strings(container.data.get("command"))
    for field in ("lifecycle.preStop", "lifecycle.postStart", *KINDS):
        yield f"{field}.exec.command", strings(dig(container.data, *field.split("."), "exec", "command"))


def _keys(manifests: Manifests, container: Container, where: str) -> str:
    kind, _, name = where.partition("/")
    found = manifests.find(kind, name, container.pod.owner.namespace)
    return ", ".join(sorted(mapping(found.data.get("data")))) if found else "none here"


def module(container: Container) -> tuple[str, list[str]]:
    """What `python -m` runs in a container, and its arguments; ("", []) when it is not Python."""
    arguments = container.arguments
    if "-m" not in arguments[:-1]:
        return "", []
    at = arguments.index("-m") + 1
    return arguments[at], arguments[at + 1 :]


def _finding(container: Container, rule: str, expected: str, received: str, why: str, fix: str) -> Finding:
    return Finding(rule, container.object, f"{container.path}.args", expected, received, why, fix)


def _exporter(manifests: Manifests, container: Container, arguments: list[str]) -> Iterator[Finding]:
    """It asks a Service for a model: both have to be those of the servers."""
    try:
        from serving import exporter
    except ImportError:  # its package is only in the image
        return
    options, said = _parsed(exporter.parser(), arguments)
    if options is None:
        why = "The container ends at once, again and again: the alerts on versions are blind."
        yield _finding(container, "exporter", "its own options", said, why, "Correct the option.")
        return
    found = [*_targets(manifests, container, options.target)]
    models = served(manifests)
    if models and options.model not in models:
        found.append(("--model", f"a model of models.config ({', '.join(sorted(models))})", repr(options.model)))
    known = models.get(options.model, set())
    wrong = [label for label in options.label or () if known and label not in known]
    found += [("--label", f"a label of models.config ({', '.join(sorted(known))})", repr(label)) for label in wrong]
    ports = [integer(port.get("containerPort")) for port in items(container.data.get("ports"))]
    if options.port not in ports:
        found.append(("--port", f"a port of the container ({', '.join(map(str, ports)) or 'none'})", str(options.port)))
    if options.host not in _ANYWHERE:
        found.append(("--host", "0.0.0.0, since Prometheus calls from outside the pod", repr(options.host)))
    for option, expected, received in found:
        why = "The metrics of versions and labels are empty, and their alerts wrong."
        yield _finding(container, "exporter", f"{option}: {expected}", received, why, f"Correct {option}.")


def _targets(manifests: Manifests, container: Container, targets: list[str]) -> Iterator[tuple[str, str, str]]:
    for target in targets:
        host, _, port = target.rpartition(":")
        service = manifests.find("Service", host.partition(".")[0], container.pod.owner.namespace)
        entries = {str(entry.get("port")): entry for entry in items(service.spec.get("ports"))} if service else {}
        if service is None or port not in entries:
            shown = f" (its ports: {', '.join(entries)})" if service else ", no Service"
            yield "--target", "NAME:PORT of a Service of this namespace", f"{target!r}{shown}"
            continue
        if service.spec.get("clusterIP") != "None":
            yield "--target", "a headless Service, which names every replica", f"{target!r}, one address for all"
        name = entries[port].get("targetPort", entries[port].get("port"))
        for server in servers(manifests):
            pod = server.container.pod
            number = pod.port_numbers().get(text(name)) if isinstance(name, str) else integer(name)
            if pod in manifests.behind(service) and number == server.number("port"):
                yield "--target", "the REST port of the servers", f"{target!r}, the gRPC port"


def _parsed(parser: ArgumentParser, arguments: list[str]) -> tuple[Namespace | None, str]:
    """The options, or None and what the parser said."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            return parser.parse_args(arguments), ""
        except SystemExit:
            lines = said.getvalue().strip().splitlines() or ["nothing to run"]
            return None, lines[-1].partition("error: ")[2] or lines[-1]
