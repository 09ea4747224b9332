"""Mistakes that the API server refuses: by its schemas, and by further checks."""

# ruff: noqa: E501 -- a table: one row a mistake

from __future__ import annotations

import copy

from tests.k8s.mutations.edits import (
    BINDING,
    POLICY,
    SERVICE,
    Mutation,
    at,
    job,
    kind,
    made,
    one,
    pod,
    server,
)

MUTATIONS = [
    # Api.
    Mutation("schema", "two mounts in one place", at(server, "volumeMounts|2|mountPath", "/models")),
    Mutation("schema", "a Service's port twice", lambda d: SERVICE(d)["ports"].append(dict(SERVICE(d)["ports"][0]))),
    Mutation("schema", "a volume twice", lambda d: pod(d)["volumes"].append({"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}})),
    Mutation("schema", "a variable twice", lambda d: server(d)["env"].append({"name": "CPU_LIMIT", "value": "64"})),
    Mutation("schema", "dup container names", lambda d: pod(d)["containers"].append(copy.deepcopy(server(d)))),
    Mutation("schema", "a spread constraint twice", lambda d: pod(d)["topologySpreadConstraints"].append(dict(pod(d)["topologySpreadConstraints"][0], maxSkew=2))),
    Mutation("access-modes", "a claim without access modes", at(kind("PersistentVolumeClaim", "duoserve-models"), "accessModes", [])),
    Mutation("role-group", "a role's group with a version", lambda d: BINDING(d)["roleRef"].update(apiGroup="rbac.authorization.k8s.io/v1"), "component:rollout"),
    Mutation("schema", "drain number not string", at(server, "env|1|value", 75)),
    Mutation("schema", "client label bool unquoted", at(POLICY, "ingress|0|from|0|podSelector|matchLabels|duoserve.dev/client", True)),
    Mutation("schema", "replicas in quotes", at(kind("Deployment"), "replicas", "1")),
    Mutation("schema", "a mode in quotes", at(pod, "volumes|1|configMap|defaultMode", "0440")),
    Mutation("schema", "a field's name", at(pod, "terminationGracePeriod", 30)),
    Mutation("schema", "one container for a list", at(pod, "containers", {"name": "server"})),
    Mutation("schema", "a probe without its port", at(server, "readinessProbe|httpGet|port", None)),
    Mutation("schema", "an annotation that is a number", lambda d: one(d, "Deployment")["metadata"].setdefault("annotations", {}).update(revision=3)),
    Mutation("api-size", "a CronJob with a long name", lambda d: one(d, "CronJob", "duoserve-export")["metadata"].update(name="duoserve-export-" + "x" * 40)),
    Mutation("schema", "a token for five minutes", lambda d: next(v for v in job(d)["spec"]["volumes"] if "projected" in v)["projected"]["sources"][0]["serviceAccountToken"].update(expirationSeconds=300), "component:rollout"),
    Mutation("schema", "a backoff limit below 0", at(kind("Job", "duoserve-export-first"), "backoffLimit", -1)),
    Mutation("schema", "a Service's port over 65535", at(SERVICE, "ports|1|port", 70000)),
    Mutation("unknown-kind", "kind typo", lambda d: one(d, "PodDisruptionBudget").update(kind="PodDisruptionBudgt")),
    Mutation("unknown-kind", "apiVersion old", lambda d: one(d, "HorizontalPodAutoscaler").update(apiVersion="autoscaling/v2beta2")),
    Mutation("api-size", "a ConfigMap of more than 1 MiB", made("ConfigMap", data={"names.txt": "x" * (2**20 + 1)})),
]  # fmt: skip
