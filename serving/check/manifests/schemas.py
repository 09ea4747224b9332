"""Kubernetes' own schemas (the package kubernetes-validate), and the parts of an object that they refuse."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from typing import Any

import jsonschema
import referencing
from kubernetes_validate import latest_version
from kubernetes_validate.utils import all_versions, major_minor, schema_contents

__all__ = ["Kinds", "Refusal", "kinds", "newest", "refusals", "versions"]

_OLDEST = (1, 30)
_ARTICLES = {"integer": "an integer", "object": "a mapping", "array": "a list", "string": "text", "number": "a number"}


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that a schema refuses.

    Attributes:
        field: Where, as "spec.replicas".
        expected: What the schema has there.
        received: What is there.
        fix: How to fix it.
    """

    field: str
    expected: str
    received: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Kinds:
    """The kinds of a Kubernetes version.

    Attributes:
        schemas: The schema's name by apiVersion and kind.
        groups: The API groups that Kubernetes itself has; "" is the core.
    """

    schemas: dict[tuple[str, str], str]
    groups: set[str]


def newest() -> str:
    """The newest Kubernetes version with schemas, as "1.37"."""
    return str(major_minor(latest_version()))


def versions() -> list[str]:
    """The versions with schemas that this project supports, as "1.30"."""
    known = sorted({tuple(map(int, major_minor(version).split("."))) for version in all_versions()})
    return [".".join(map(str, version)) for version in known if version >= _OLDEST]


@functools.lru_cache(maxsize=2)
def _definitions(version: str) -> Any:
    full = next(known for known in reversed(all_versions()) if major_minor(known) == version)
    return schema_contents(f"kubernetes-json-schema/v{full}-local-strict/_definitions.json", full)


@functools.lru_cache(maxsize=2)
def kinds(version: str) -> Kinds:
    """The kinds that a Kubernetes version has."""
    found = {}
    for name, schema in _definitions(version)["$defs"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            api_version = f"{kind['group']}/{kind['version']}".lstrip("/")
            found[api_version, kind["kind"]] = name
    return Kinds(found, {api_version.rpartition("/")[0] for api_version, _ in found})


@functools.lru_cache(maxsize=128)
def _validator(name: str, version: str) -> Any:
    definitions = _definitions(version)
    resource = referencing.Resource.from_contents(definitions)
    reference = {"$ref": f"{definitions['$id']}#/$defs/{name}"}
    return jsonschema.Draft202012Validator(reference, registry=resource @ referencing.Registry())


def refusals(data: dict[str, Any], version: str) -> tuple[Refusal, ...]:
    """What the schema of an object's kind refuses; nothing for a kind that Kubernetes does not have."""
    name = kinds(version).schemas.get((str(data.get("apiVersion")), str(data.get("kind"))))
    if name is None:
        return ()
    given = _without_null(data)
    if isinstance(given.get("metadata"), dict) and isinstance(given["metadata"].get("namespace"), str):
        del given["metadata"]["namespace"]  # valid, but it would defeat the cache
    return _refusals(name, json.dumps(given, sort_keys=True, default=str), version)


@functools.lru_cache(maxsize=512)  # most objects of two renderings are the same
def _refusals(name: str, content: str, version: str) -> tuple[Refusal, ...]:
    return tuple(_refusal(error) for error in _validator(name, version).iter_errors(json.loads(content)))


def _without_null(node: Any) -> Any:
    """The API server takes a null as absent."""
    if isinstance(node, dict):
        return {str(key): _without_null(value) for key, value in node.items() if value is not None}
    return [_without_null(value) for value in node] if isinstance(node, list) else node


def _refusal(error: Any) -> Refusal:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    value = error.instance
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = sorted(value.keys() - known.keys())
        near = difflib.get_close_matches(unknown[0], known, 1)
        fix = f"Write {near[0]}." if near else "Remove it, or correct its indentation."
        return Refusal(field or "object", "fields of its API only", ", ".join(unknown), fix)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in value]
        return Refusal(
            field or "object", f"the field {missing[0]}", f"only {', '.join(sorted(value)) or 'none'}", "Add it."
        )
    types = error.validator_value if error.validator == "type" else ["string", "number"]
    wanted = [_ARTICLES.get(name, name) for name in ([types] if isinstance(types, str) else types) if name != "null"]
    number = isinstance(value, str) and value.lstrip("-").isdecimal() and "integer" in types
    word = not isinstance(value, (str, dict, list)) and "string" in types
    fix = "Remove the quotes." if number else "Put it in quotes." if word else "Correct the value."
    return Refusal(field, " or ".join(wanted), f"{value!r:.80}", fix)
