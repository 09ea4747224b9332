"""A mistake as a change of a clean rendering, and the ways to write such a change."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from typing import Any

from tests.k8s import renders

Documents = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One mistake: the rule that has to find it, the change, the rendering it is made in, and options of `check`."""

    rule: str
    about: str
    change: Callable[[Documents], Any]
    render: str = "production"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}"


def one(documents: Documents, kind: str, name: str = "duoserve") -> dict[str, Any]:
    """The object; a Job's name ends with a hash of its content."""
    names = re.compile(re.escape(name) + ("-[a-z0-9]{10}" if kind == "Job" else ""))
    return next(d for d in documents if d["kind"] == kind and names.fullmatch(d["metadata"]["name"]))


def spec(documents: Documents, kind: str, name: str = "duoserve") -> dict[str, Any]:
    found: dict[str, Any] = one(documents, kind, name)["spec"]
    return found


def pod(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = spec(documents, "Deployment")["template"]["spec"]
    return found


def server(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = pod(documents)["containers"][0]
    return found


def flag(old: str, *new: str) -> Callable[[Documents], None]:
    """Replaces the flag that begins with `old`, by none or several."""

    def change(documents: Documents) -> None:
        arguments = server(documents)["args"]
        place = next(i for i, argument in enumerate(arguments) if argument.startswith(old))
        arguments[place : place + 1] = new

    return change


def text(name: str, old: str, new: str) -> Callable[[Documents], None]:
    """Replaces text in a config file, which has to be there."""

    def change(documents: Documents) -> None:
        for document in documents:
            if document["kind"] == "ConfigMap" and name in document["data"]:
                assert old in document["data"][name]
                document["data"][name] = document["data"][name].replace(old, new)

    return change


def at(find: Callable[[Documents], dict[str, Any]], path: str, value: Any) -> Callable[[Documents], None]:
    """Sets the value at a path; a number in the path is an index. None removes it."""

    def change(documents: Documents) -> None:
        node: Any = find(documents)
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("|"))
        for part in parents:
            node = node[part]
        assert isinstance(node, list) or last in node or value is not None
        if value is None:
            del node[last]
        else:
            node[last] = value

    return change


def drop(kind: str, name: str = "duoserve") -> Callable[[Documents], None]:
    return lambda documents: documents.remove(one(documents, kind, name))


def kind(of: str, name: str = "duoserve") -> Callable[[Documents], dict[str, Any]]:
    return lambda documents: spec(documents, of, name)


PROBE = "/v1/models/emoji/labels/stable/metadata"
LABEL = "app.kubernetes.io/component"
POLICY = kind("NetworkPolicy")
AUTOSCALER = kind("HorizontalPodAutoscaler")
SERVICE = kind("Service")
DEPLOYMENT = kind("Deployment")
BUDGET = kind("PodDisruptionBudget")


def container_of(name: str) -> Callable[[Documents], dict[str, Any]]:
    """The container of another Deployment."""
    return lambda documents: spec(documents, "Deployment", name)["template"]["spec"]["containers"][0]


def config_map(name: str) -> Callable[[Documents], dict[str, Any]]:
    """A ConfigMap, its hash left out."""
    return lambda documents: next(
        d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"].startswith(name)
    )


ROLE = lambda documents: one(documents, "Role", "duoserve-rollout")["rules"]  # noqa: E731
BINDING = lambda documents: one(documents, "RoleBinding", "duoserve-rollout")  # noqa: E731


def job(documents: Documents) -> dict[str, Any]:
    """The pod of the rollout's job."""
    found: dict[str, Any] = spec(documents, "CronJob", "duoserve-rollout")["jobTemplate"]["spec"]["template"]
    return found


def config_again(documents: Documents) -> None:
    """The ConfigMap that the rollout owns, in the kustomization all the same."""
    documents.append(one(renders.documents("production"), "ConfigMap", "duoserve-models"))


ZONE = "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
APART = {
    "podAntiAffinity": {
        REQUIRED: [{"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "server"}}}]
    }
}

ARM = {
    "nodeAffinity": {
        REQUIRED: {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}
            ]
        }
    }
}


def export(documents: Documents, name: str = "duoserve-export-first") -> dict[str, Any]:
    """The pod of an export job."""
    owner = spec(documents, "Job" if name.endswith("first") else "CronJob", name)
    found: dict[str, Any] = owner.get("jobTemplate", {"spec": owner})["spec"]["template"]["spec"]
    return found


def weekly(documents: Documents) -> dict[str, Any]:
    return export(documents, "duoserve-export")


def other_claim(documents: Documents) -> None:
    """A second claim, which the weekly job fills."""
    claim = copy.deepcopy(one(documents, "PersistentVolumeClaim", "duoserve-models"))
    claim["metadata"]["name"] = "other"
    documents.append(claim)
    weekly(documents)["volumes"][0]["persistentVolumeClaim"]["claimName"] = "other"


def made(of: str, **body: Any) -> Any:
    """One more object of the servers' namespace."""
    head = {"apiVersion": "v1", "kind": of, "metadata": {"name": "more", "namespace": "duoserve"}}
    return lambda documents: documents.append({**head, **body})


def quota(**hard: str) -> Any:
    return made("ResourceQuota", spec={"hard": {name.replace("_", "."): value for name, value in hard.items()}})


def limits(of: str, **bounds: Any) -> Any:
    return made("LimitRange", spec={"limits": [{"type": of, **bounds}]})


def expression(old: str, new: str) -> Any:
    """Replaces text in the alert rules, which has to be there."""

    def change(documents: Documents) -> None:
        hits = [
            rule
            for group in spec(documents, "PrometheusRule")["groups"]
            for rule in group["rules"]
            if old in rule["expr"]
        ]
        hits[0]["expr"] = hits[0]["expr"].replace(old, new)

    return change


def twin(documents: Documents) -> None:
    """The servers' Deployment once more, under another name."""
    found = copy.deepcopy(one(documents, "Deployment"))
    found["metadata"]["name"] = "twin"
    documents.append(found)


def rollout_settings(documents: Documents) -> dict[str, Any]:
    """The ConfigMap with rollout.toml."""
    return next(d for d in documents if d["kind"] == "ConfigMap" and "rollout.toml" in d["data"])["data"]
