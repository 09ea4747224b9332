"""Containers that run a command of this repository: a program that exists, and an exporter of the right servers."""

import contextlib
import difflib
import io
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import PROBES, Container, Manifests
from serving.check.manifests.programs import COMMANDS, python_module, script
from serving.check.manifests.servers import labels_by_model, servers
from serving.check.manifests.values import integer, items, mapping, strings

VARIABLES = ("DUOSERVE_CGROUP", "DUOSERVE_CPUINFO", "DUOSERVE_CPUS", "DUOSERVE_DRAIN_SECONDS", "DUOSERVE_PRECISION",
             "DUOSERVE_SERVER", "DUOSERVE_TLS_DIR")  # fmt: skip
"""The variables of serving/container/entrypoint.sh."""

_PROGRAMS = ("tensorflow_model_server", "duoserve-entrypoint", "python", "python3", "duoserve")
_ANYWHERE = {"0.0.0.0", "::"}  # noqa: S104 -- recognised, not bound
_HOOKS = ("lifecycle.preStop", "lifecycle.postStart", *PROBES)


def check(manifests: Manifests) -> Iterator[Finding]:
    for container in manifests.containers():
        yield from _program(container)
        fields = ["command", *(f"{hook}.exec.command" for hook in _HOOKS)]
        for field, words in [(field, strings(container.data, field)) for field in fields]:
            if len(words) == 1 and re.search(r"\s", words[0].strip()):
                yield finding("command-words", container, field, words, words=words[0].split())
        file = script(container)
        if file is not None and file.text is None and not manifests.external("ConfigMap", file.source):
            found = manifests.find("ConfigMap", file.source, container.pod.namespace)
            known = mapping(found.data, "data").keys() if found else "none here"
            yield finding("script-file", container, "command", repr(file.name), object=file.object, known=known)
        name, arguments = python_module(container)
        if name == "serving.exporter":
            yield from _exporter(manifests, container, arguments)
    for server in servers(manifests):
        for name in [name for name in server.env if name.startswith("DUOSERVE_")]:
            near = difflib.get_close_matches(name, VARIABLES, 1)
            expected, fix = "a variable of the entrypoint", f"Write {near[0]}." if near else "Remove it."
            if server.entrypoint != "duoserve":
                expected, fix = "no command, since the entrypoint reads it", "Leave `command` to the image."
            elif name in VARIABLES:
                continue
            yield finding("env-unknown", server, f"env[{name}]", name, expected=expected, fix=fix)


def _program(container: Container) -> Iterator[Finding]:
    """A program or a Python module that is nearly one of the images'."""
    program = next(iter(strings(container.data, "command")), "").rpartition("/")[2]
    name, _ = python_module(container)
    for written, shown, known in ((program, repr(program), _PROGRAMS), (name, f"python -m {name}", COMMANDS)):
        near = difflib.get_close_matches(written, known, 1, cutoff=0.8)
        if near and written not in known:
            yield finding("command", container, "command", shown, known=set(known), near=near[0])


def _exporter(manifests: Manifests, container: Container, arguments: list[str]) -> Iterator[Finding]:
    """It asks a Service for a model: both have to be those of the servers."""
    try:
        from serving import exporter
    except ImportError:  # its package is only in the image
        return
    options, error = _parsed(exporter.parser(), arguments)
    if options is None:
        yield finding("exporter-options", container, "args", error)
        return
    models = labels_by_model(manifests)
    labels, ports = models.get(options.model, set()), {integer(port, "containerPort") for port in container.ports}
    for target in options.target:
        yield from _target(manifests, container, target)
    for option, what, known, given in (
        ("--model", "a model of models.config", set(models), [options.model]),
        ("--label", "a label of models.config", labels, options.label or ()),
        ("--port", "a port of the container", ports, [options.port]),
        ("--host", "an address that Prometheus reaches from outside of the pod", _ANYWHERE, [options.host]),
    ):
        for value in given:
            if known and value not in known:
                expected = f"{what} ({', '.join(sorted(map(str, known)))})"
                yield finding("exporter", container, "args", repr(value), option=option, expected=expected)


def _target(manifests: Manifests, container: Container, target: str) -> Iterator[Finding]:
    host, _, port = target.rpartition(":")
    service = manifests.find("Service", host.partition(".")[0], container.pod.namespace)
    entries = {str(entry.get("port")): entry for entry in items(service.spec, "ports")} if service else {}
    grpc = [server.grpc_port for pod in manifests.behind(service) for server in servers(pod)]
    expected, wrong = "the REST port of the servers", ", the gRPC port"
    if service is None or port not in entries:
        expected = "NAME:PORT of a Service of this namespace"
        wrong = f" (its ports: {', '.join(entries)})" if service else ", no Service"
    elif service.spec.get("clusterIP") != "None":
        expected, wrong = "a headless Service, which names every replica", ", one address for all"
    elif not any(pod.target(entries[port]) in grpc for pod in manifests.behind(service)):
        return
    yield finding("exporter", container, "args", f"{target!r}{wrong}", option="--target", expected=expected)


def _parsed(parser: ArgumentParser, arguments: list[str]) -> tuple[Namespace | None, str]:
    """The options, or None and the parser's error."""
    with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
        try:
            return parser.parse_args(arguments), ""
        except SystemExit:
            lines = error.getvalue().strip().splitlines() or ["nothing to run"]
            return None, lines[-1].partition("error: ")[2] or lines[-1]
