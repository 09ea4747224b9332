"""Runs in the tools' Python: reads renderings as JSON from standard input, prints what the schemas refuse.

Input: {"documents": {NAME: [object, ...]}, "crds": {"Kind": schema}}.
The official client's models; for custom resources the operators' models (nothing may get lost in
them) or a schema of ours.
"""

import json
import re
import sys
from typing import Any

import jsonschema
import kubernetes.client
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator

OPERATORS = {
    "PodMonitor": operator.PodMonitor,
    "PrometheusRule": operator.PrometheusRule,
    "ScaledObject": keda.ScaledObject,
}


def model(document: dict[str, Any]) -> Any:
    """The client's class: V2HorizontalPodAutoscaler for autoscaling/v2."""
    version = document["apiVersion"].rpartition("/")[2]
    name = re.sub(r"^v", "V", version) + document["kind"]
    return getattr(kubernetes.client, name)


def lost(sent: Any, kept: Any, path: str = "") -> list[str]:
    """Fields that a model did not take."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        return [
            problem
            for key, value in sent.items()
            for problem in (
                [f"{path}.{key} is no field"] if key not in kept else lost(value, kept[key], f"{path}.{key}")
            )
        ]
    if isinstance(sent, list) and isinstance(kept, list):
        return [
            problem
            for i, (one, other) in enumerate(zip(sent, kept, strict=True))
            for problem in lost(one, other, f"{path}[{i}]")
        ]
    return []


def custom(document: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    if document["kind"] in schemas:
        validator = jsonschema.Draft202012Validator(schemas[document["kind"]])
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    parsed = OPERATORS[document["kind"]].model_validate(document)
    return lost(document, parsed.model_dump(mode="json", by_alias=True, exclude_unset=True))


def main() -> None:
    given = json.load(sys.stdin)
    problems, checked, seen = [], 0, set()
    for name, documents in given["documents"].items():
        for document in documents:
            where = f"{name} {document['kind']}/{document['metadata']['name']}"
            checked += 1
            document["metadata"].pop("namespace", None)
            content = json.dumps(document, sort_keys=True)
            if content in seen:  # most objects are the same in most renderings
                continue
            seen.add(content)
            try:
                if document["kind"] in {**given["crds"], **OPERATORS}:
                    problems += [f"{where}: {problem}" for problem in custom(document, given["crds"])]
                else:
                    model(document).model_validate(document)
            except Exception as error:
                problems.append(f"{where}: {error}")
    json.dump({"problems": problems, "checked": checked}, sys.stdout)


main()
