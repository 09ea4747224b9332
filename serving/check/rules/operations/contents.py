"""ConfigMap keys whose extension names a format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from serving.check.findings import Finding, finding
from serving.check.manifests.objects import Manifests
from serving.check.manifests.values import mapping

__all__ = ["check"]


_EVENTS: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(manifests: Manifests) -> Iterator[Finding]:
    for found in manifests.of("ConfigMap"):
        for key, content in mapping(found.data, "data").items():
            ending = str(key).rpartition(".")[2]
            error = _error(ending, content) if isinstance(content, str) else ""
            if error:
                yield finding(
                    "content",
                    found,
                    f"data.{key}",
                    " ".join(error.split()),
                    format="JSON" if ending == "json" else "YAML",
                )


def _error(ending: str, content: str) -> str:
    """Why a text is not in the format of its extension; "" if it is, or the extension names no format."""
    try:
        if ending == "json":
            json.loads(content)
        elif ending in ("yaml", "yml") and not re.search(r"(?m)^\s*\{\{", content):  # a template that will be YAML
            for _ in yaml.parse(content, Loader=_EVENTS):
                pass
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        return str(error) or type(error).__name__
    return ""
