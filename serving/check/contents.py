"""ConfigMap keys that say by their ending what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from serving.check._data import mapping
from serving.check._manifests import Finding, Manifests

__all__ = ["check"]

_EVENTS: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(manifests: Manifests) -> Iterator[Finding]:
    for found in manifests.of("ConfigMap"):
        for key, content in mapping(found.data.get("data")).items():
            ending = str(key).rpartition(".")[2]
            said = _wrong(ending, content) if isinstance(content, str) else ""
            if said:
                yield Finding(
                    "content",
                    str(found),
                    f"data.{key}",
                    "JSON" if ending == "json" else "YAML",
                    " ".join(said.split()),
                    "Who reads it refuses it, or keeps the old one: a dashboard that is not there says nothing.",
                    "Correct the file that it is made from.",
                )


def _wrong(ending: str, content: str) -> str:
    """Why a text is not what its ending says; "" when it is, or says nothing."""
    try:
        if ending == "json":
            json.loads(content)
        elif ending in ("yaml", "yml"):
            for _ in yaml.parse(content, Loader=_EVENTS):
                pass
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        if ending != "json" and re.search(r"(?m)^\s*\{\{", content):  # a template that will be YAML
            return ""
        return str(error) or type(error).__name__
    return ""
