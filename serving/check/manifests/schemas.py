"""Kubernetes' own schemas (the package kubernetes-validate), and the parts of an object that they refuse."""

import difflib
import functools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import referencing
from kubernetes_validate import latest_version
from kubernetes_validate.utils import all_versions, major_minor, schema_contents

_OLDEST = (1, 30)
_ARTICLES = {"integer": "an integer", "object": "a mapping", "array": "a list", "string": "text", "number": "a number"}
_PORT, _COUNT = (1, 2**16 - 1), (0, 2**63 - 1)
_RANGES = {"containerPort": _PORT, "port": _PORT, "targetPort": _PORT, "expirationSeconds": (600, 2**32)}
_SIGNED = {"priority", "value"}
"""The only numbers below 0 that Kubernetes has: priorities of pods."""


Refusal = tuple[str, str, str, str]
"""What a schema refuses: the field, as "spec.replicas"; what is expected there; what is there; how to fix it."""


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
def kinds(version: str) -> dict[tuple[str, str], str]:
    """The kinds that a Kubernetes version has: the name of each one's schema by apiVersion and kind."""
    return {
        (f"{kind['group']}/{kind['version']}".lstrip("/"), kind["kind"]): name
        for name, schema in _definitions(version)["$defs"].items()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }


def _ranges(validator: Any, properties: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """`properties`, and the ranges of numbers that the API server has beside its schemas."""
    yield from jsonschema.Draft202012Validator.VALIDATORS["properties"](validator, properties, instance, schema)
    for name in sorted(properties.keys() & instance.keys() - _SIGNED) if isinstance(instance, dict) else ():
        least, most = _RANGES.get(name, _COUNT)
        if type(instance[name]) is int and not least <= instance[name] <= most:
            message = f"a number from {least} to {most}" if name in _RANGES else "a number of at least 0"
            yield jsonschema.ValidationError(message, validator="range", path=[name], instance=instance[name])


def _once(_validator: Any, keys: list[str], instance: Any, _schema: Any) -> Iterator[Any]:
    """Entries of a list that have the same key fields; a protocol is TCP by default."""
    entries = [entry for entry in instance if isinstance(entry, dict)] if isinstance(instance, list) else ()
    found = Counter(str([entry.get(key, "TCP" if key == "protocol" else None) for key in keys]) for entry in entries)
    for entry, count in found.items():
        if count > 1:
            message, shown = f"each {' and '.join(keys)} once", f"{entry} {count} times"
            yield jsonschema.ValidationError(message, validator="once", instance=shown)


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"properties": _ranges, "x-kubernetes-list-map-keys": _once}
)


@functools.lru_cache(maxsize=128)
def _validator(name: str, version: str) -> Any:
    definitions = _definitions(version)
    resource = referencing.Resource.from_contents(definitions)
    reference = {"$ref": f"{definitions['$id']}#/$defs/{name}"}
    return _Validator(reference, registry=resource @ referencing.Registry())


def refusals(data: dict[str, Any], version: str) -> tuple[Refusal, ...]:
    """What the schema of an object's kind refuses; nothing for a kind that Kubernetes does not have."""
    name = kinds(version).get((str(data.get("apiVersion")), str(data.get("kind"))))
    if name is None:
        return ()
    metadata = data.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("namespace"), str):
        data = {**data, "metadata": {**metadata, "namespace": ""}}  # valid, but it would defeat the cache
    return _refusals(name, json.dumps(data, default=str, skipkeys=True), version)


@functools.lru_cache(maxsize=512)  # most objects of two renderings are the same
def _refusals(name: str, content: str, version: str) -> tuple[Refusal, ...]:
    data = json.loads(
        content, object_pairs_hook=lambda pairs: {key: value for key, value in pairs if value is not None}
    )
    return tuple(_refusal(error) for error in _validator(name, version).iter_errors(data))


def _refusal(error: Any) -> Refusal:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    field, value = field or "object", error.instance
    if error.validator in ("range", "once"):
        return field, error.message, str(value), "Correct the value."
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = sorted(value.keys() - known.keys())
        near = difflib.get_close_matches(unknown[0], known, 1)
        fix = f"Write {near[0]}." if near else "Remove it, or correct its indentation."
        return field, "fields of its API only", ", ".join(unknown), fix
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in value]
        return field, f"the field {missing[0]}", f"only {', '.join(sorted(value)) or 'none'}", "Add it."
    types = error.validator_value if error.validator == "type" else ["string", "number"]
    wanted = [_ARTICLES.get(name, name) for name in ([types] if isinstance(types, str) else types) if name != "null"]
    number = isinstance(value, str) and value.lstrip("-").isdecimal() and "integer" in types
    word = not isinstance(value, (str, dict, list)) and "string" in types
    fix = "Remove the quotes." if number else "Put it in quotes." if word else "Correct the value."
    return field, " or ".join(wanted), f"{value!r:.80}", fix
