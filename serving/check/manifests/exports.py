"""The store and the model's name of export jobs, from their command line or script."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from serving.check.findings import Place
from serving.check.manifests import shell
from serving.check.manifests.objects import Container, Manifests
from serving.check.manifests.programs import known_variables, python_module, script

__all__ = ["Export", "exports"]


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One export that a job runs.

    Attributes:
        container: Where it runs.
        store: The root of all models; "" when it can't be known.
        model: The model's name; "" when it can't be known.
        written: Where its options are written: the container, or a script.
    """

    container: Container
    store: str
    model: str
    written: Place


def exports(manifests: Manifests) -> Iterator[Export]:
    """The exports of all jobs."""
    for container in [c for pod in manifests.pods if not pod.is_service for c in pod.containers()]:
        name, arguments = python_module(container)
        if name == "export" and arguments[:1] == ["export"]:
            yield _export(container, arguments, {}, container)
        file = script(container)
        if file is None or file.text is None:
            continue
        values = shell.assigned(file.text, known_variables(container))
        for words in shell.commands(file.text):
            if "export" in words and "-m" in words:
                at = words.index("-m") + 1
                if words[at : at + 2] == ["export", "export"]:
                    yield _export(container, words[at + 1 :], values, file)


def _export(container: Container, words: list[str], values: Mapping[str, str], written: Place) -> Export:
    options = {"--store": "", "--name": ""}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in options:
            options[option] = shell.filled(value if equals else after, values) or ""
    return Export(container, options["--store"], options["--name"], written)
