"""ConfigMap keys whose extension names a format."""

import json
import re
from collections.abc import Iterator

import yaml

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests
from serving.check.manifests.values import mapping

_FORMATS = {"json": "JSON", "yaml": "YAML", "yml": "YAML"}
_EVENTS: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(manifests: Manifests) -> Iterator[Finding]:
    for found in manifests.of("ConfigMap"):
        for key, content in mapping(found.data, "data").items():
            wanted = _FORMATS.get(str(key).rpartition(".")[2])
            if wanted and isinstance(content, str):
                try:
                    _read(wanted, content)
                except (ValueError, RecursionError, yaml.YAMLError) as error:
                    yield finding("content", found, f"data.{key}", " ".join(str(error).split()), format=wanted)


def _read(wanted: str, content: str) -> None:
    if wanted == "JSON":
        json.loads(content)
    elif not re.search(r"(?m)^\s*\{\{", content):  # a template that will be YAML
        for _ in yaml.parse(content, Loader=_EVENTS):
            pass
