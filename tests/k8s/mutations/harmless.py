"""Sensible changes, which the doctor must accept."""

# ruff: noqa: E501 -- a table: one row a change

from __future__ import annotations

import copy
from typing import Any

from tests.k8s.mutations.edits import (
    Documents,
    Mutation,
    at,
    drop,
    expression,
    flag,
    kind,
    limits,
    made,
    one,
    pod,
    quota,
    server,
    spec,
    text,
)

DIGEST = "@sha256:" + "5" * 64
CONTEXT = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
SIDECAR = {"name": "log", "image": f"ghcr.io/who/log{DIGEST}", "securityContext": CONTEXT, "resources": SMALL}


def moved(documents: Documents) -> None:
    """Everything in another namespace."""
    for document in documents:
        if document["kind"] == "Namespace":
            document["metadata"]["name"] = "models"
        else:
            document["metadata"]["namespace"] = "models"


def numbers(documents: Documents) -> None:
    """Ports by number where the base has names."""
    container = server(documents)
    for probe in ("startupProbe", "readinessProbe"):
        container[probe]["httpGet"]["port"] = 8501
    for name in ("duoserve", "duoserve-headless"):
        for port in spec(documents, "Service", name)["ports"]:
            port["targetPort"] = port["port"]
    for rule in spec(documents, "NetworkPolicy")["ingress"]:
        for port in rule["ports"]:
            port["port"] = {"grpc": 8500, "rest": 8501}[port["port"]]


def by_service(documents: Documents) -> None:
    """A ServiceMonitor in the place of the PodMonitor."""
    documents.remove(one(documents, "PodMonitor"))
    labels = {"matchLabels": {"app.kubernetes.io/name": "duoserve", "app.kubernetes.io/component": "server"}}
    endpoint = {"port": "rest", "path": "/monitoring/prometheus/metrics", "interval": "30s", "scrapeTimeout": "10s"}
    metadata = {"name": "duoserve", "namespace": "duoserve"}
    documents.append(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "ServiceMonitor",
            "metadata": metadata,
            "spec": {"selector": labels, "endpoints": [endpoint]},
        }
    )


def two_versions(documents: Documents) -> None:
    """In the middle of a rollout."""
    text("models.config", "versions: 1", "versions: 1\n        versions: 2")(documents)
    text(
        "models.config",
        'version_labels { key: "stable" value: 1 }',
        'version_labels { key: "stable" value: 1 }\n    version_labels { key: "canary" value: 2 }',
    )(documents)


def second_model(documents: Documents) -> None:
    """Another model in the same servers, without labels."""
    more = '  config { name: "pets" base_path: "/models/pets" model_platform: "tensorflow" }\n}\n'
    config = one(documents, "ConfigMap", "duoserve-models")["data"]
    config["models.config"] = config["models.config"].rstrip()[:-1] + more


def rest_route(documents: Documents) -> None:
    """REST through the same gateway."""
    route: dict[str, Any] = copy.deepcopy(one(documents, "GRPCRoute"))
    route |= {"kind": "HTTPRoute", "metadata": {**route["metadata"], "name": "rest"}}
    route["spec"]["rules"] = [{"backendRefs": [{"name": "duoserve", "port": 8501}]}]
    documents.append(route)


def anti_affinity(documents: Documents) -> None:
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "server"}},
    }
    del pod(documents)["topologySpreadConstraints"]
    pod(documents)["affinity"] = {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}
    }


def fixed_size(documents: Documents) -> None:
    documents.remove(one(documents, "HorizontalPodAutoscaler"))
    spec(documents, "Deployment")["replicas"] = 3


def store_folder(documents: Documents) -> None:
    for document in documents:
        if document["kind"] in ("Deployment", "Job", "CronJob"):
            found = document["spec"].get("jobTemplate", document)["spec"]["template"]["spec"]
            for mount in found["containers"][0].get("volumeMounts", ()):
                if mount["name"] == "models":
                    mount["subPath"] = "store"


def claim_of_each(documents: Documents) -> None:
    """A StatefulSet beside the servers, as a cache of something else."""
    template = copy.deepcopy(spec(documents, "Deployment", "duoserve-exporter")["template"])
    template["metadata"]["labels"] = {"app": "cache"}
    container = template["spec"]["containers"][0]
    container |= {"args": [], "command": ["/bin/cache"], "ports": []}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        container.pop(probe, None)
    container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    template["spec"].pop("volumes", None)
    container["resources"] = SMALL
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    documents.append(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "cache", "namespace": "duoserve"},
            "spec": {
                "serviceName": "cache",
                "selector": {"matchLabels": {"app": "cache"}},
                "template": template,
                "volumeClaimTemplates": [claim],
            },
        }
    )


def generated(documents: Documents) -> None:
    """Twice the same prefix is no name twice."""
    found = copy.deepcopy(one(documents, "Job", "duoserve-export-first"))
    found["metadata"]["generateName"] = found["metadata"].pop("name") + "-"
    documents += [found, copy.deepcopy(found)]


def neighbour(documents: Documents) -> None:
    """Another team's workload, in a namespace that enforces nothing."""
    container = {"name": "web", "image": "nginx:1.29", "resources": {**SMALL, "limits": {"memory": "64Mi"}}}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"securityContext": {"runAsUser": 1000}, "containers": [container]},
    }
    documents += [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "web"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
        },
    ]


HARMLESS = [
    Mutation("", "another namespace", moved),
    Mutation("", "ports by number", numbers),
    Mutation("", "a ServiceMonitor", by_service),
    Mutation("", "two versions and a canary label", two_versions),
    Mutation("", "a second model", second_model),
    Mutation("", "REST through the gateway", rest_route, "gitops-canary"),
    Mutation("", "anti-affinity for the spread", anti_affinity),
    Mutation("", "a fixed size", fixed_size),
    Mutation("", "no preStop, since the entrypoint drains", at(server, "lifecycle", None)),
    Mutation("", "a longer grace period", at(pod, "terminationGracePeriodSeconds", 300)),
    Mutation("", "memory above its request", at(server, "resources|requests|memory", "2Gi")),
    Mutation("", "other units", lambda d: server(d)["resources"].update(limits={"cpu": "4000m", "memory": "4096Mi"})),
    Mutation("", "a quarter of the replicas", at(kind("PodDisruptionBudget"), "maxUnavailable", "25%")),
    Mutation("", "half of the replicas stay", lambda d: spec(d, "PodDisruptionBudget").update(minAvailable="50%", maxUnavailable=None)),
    Mutation("", "surge by a quarter", at(kind("Deployment"), "strategy|rollingUpdate|maxSurge", "25%")),
    Mutation("", "an autoscaler with its default metric", at(kind("HorizontalPodAutoscaler"), "metrics", None)),
    Mutation("", "a metric of the pods", lambda d: spec(d, "HorizontalPodAutoscaler")["metrics"].append({"type": "Pods", "pods": {"metric": {"name": "calls"}, "target": {"type": "AverageValue", "averageValue": "40"}}})),
    Mutation("", "a sidecar", lambda d: pod(d)["containers"].append(SIDECAR)),
    Mutation("", "an init container", lambda d: pod(d).update(initContainers=[{**SIDECAR, "name": "wait"}])),
    Mutation("", "a private registry with a port", at(server, "image", f"registry.local:5000/team/serving:1.2{DIGEST}")),
    Mutation("", "a pull secret", at(pod, "imagePullSecrets", [{"name": "registry"}])),
    Mutation("", "amd64 nodes", at(pod, "nodeSelector", {"kubernetes.io/arch": "amd64", "pool": "serving"})),
    Mutation("", "a node group of a cloud", at(pod, "nodeSelector", {"eks.amazonaws.com/nodegroup": "serving"})),
    Mutation("", "a priority", at(pod, "priorityClassName", "high")),
    Mutation("", "the flags in another order", lambda d: server(d)["args"].reverse()),
    Mutation("", "one more flag of the server", lambda d: server(d)["args"].append("--rest_api_timeout_in_ms=20000")),
    Mutation("", "fixed threads below the limit", flag("--tensorflow_inter", "--tensorflow_inter_op_parallelism=2")),
    Mutation("", "the entrypoint by name", at(server, "command", ["/usr/local/bin/duoserve-entrypoint"])),
    Mutation("", "a variable of the image's libraries", lambda d: server(d)["env"].append({"name": "OMP_NUM_THREADS", "value": "2"})),
    Mutation("", "a Secret from elsewhere", lambda d: server(d)["env"].append({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k"}}})),
    Mutation("", "a key under its own path", at(pod, "volumes|1|configMap|items", [{"key": "models.config", "path": "models.config"}])),
    Mutation("", "files for the group only", at(pod, "volumes|1|configMap|defaultMode", 0o440)),
    Mutation("", "one more label", lambda d: spec(d, "Deployment")["template"]["metadata"]["labels"].update({"team": "vision"})),
    Mutation("", "an annotation", lambda d: spec(d, "Deployment")["template"]["metadata"].update(annotations={"prometheus.io/scrape": "false"})),
    Mutation("", "a Service at another port", lambda d: spec(d, "Service")["ports"][0].update(port=80)),
    Mutation("", "local traffic first", at(kind("Service"), "internalTrafficPolicy", "Local")),
    Mutation("", "more callers", lambda d: spec(d, "NetworkPolicy")["ingress"][0]["from"].append({"podSelector": {"matchLabels": {"app": "web"}}})),
    Mutation("", "a range of ports for nobody else", lambda d: spec(d, "NetworkPolicy")["ingress"][2]["ports"][0].update(port=8501, endPort=8501)),
    Mutation("", "the PodMonitor's own namespace by name", at(kind("PodMonitor"), "namespaceSelector", {"matchNames": ["duoserve"]})),
    Mutation("", "every week, by its name", at(kind("CronJob", "duoserve-export"), "schedule", "@weekly")),
    Mutation("", "weekdays by name", at(kind("CronJob", "duoserve-export"), "schedule", "*/15 8-18 * JAN,jul mon-fri")),
    Mutation("", "no canary traffic", lambda d: [b.update(weight=w) for b, w in zip(spec(d, "GRPCRoute")["rules"][0]["backendRefs"], (100, 0), strict=True)], "gitops-canary"),
    Mutation("", "a readiness that gives up later", at(server, "readinessProbe|failureThreshold", 6)),
    Mutation("", "no exporter", lambda d: [drop(k, n)(d) for k, n in (("Deployment", "duoserve-exporter"), ("NetworkPolicy", "duoserve-exporter"), ("PodMonitor", "duoserve-exporter"), ("ServiceAccount", "duoserve-exporter"))]),
    Mutation("", "a subPath for the store, everywhere", store_folder),
    Mutation("", "a model named by the job", lambda d: text("export.sh", "MODEL=emoji", 'MODEL="${MODEL:-emoji}"')(d)),
    Mutation("", "a script that asks for its model", lambda d: text("export.sh", "MODEL=emoji", "MODEL=$(cat /etc/model)")(d)),
    Mutation("", "files of a projected volume", lambda d: pod(d)["volumes"].__setitem__(1, {"name": "models-config", "projected": {"sources": [{"configMap": {"name": "duoserve-models"}}]}})),
    Mutation("", "a claim of each pod", claim_of_each),
    Mutation("", "quota and limits with room", lambda d: (quota(cpu="100", limits_memory="200Gi", pods="50", requests_storage="1Ti")(d), limits("Container", max={"cpu": "8"}, min={"cpu": "5m"})(d))),
    Mutation("", "a quota for the best efforts only", made("ResourceQuota", spec={"hard": {"pods": "0"}, "scopes": ["BestEffort"]})),
    Mutation("", "a namespace of a similar name", lambda d: spec(d, "NetworkPolicy")["ingress"][2]["from"].append({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring-eu"}}, "podSelector": {"matchLabels": {"app": "prometheus"}}})),
    Mutation("", "a namespace beside ours in a row", lambda d: spec(d, "NetworkPolicy")["ingress"][2]["from"].append({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "duoserve2"}}, "podSelector": {"matchLabels": {"app": "prometheus"}}})),
    Mutation("", "a script with two models", lambda d: text("export.sh", "MODEL=emoji", "MODEL=other\nMODEL=emoji")(d)),
    Mutation("", "a template of YAML", made("ConfigMap", data={"values.yaml": "{{- if a }}\nb: [1\n{{- end }}\n"})),
    Mutation("", "a range of addresses", lambda d: spec(d, "NetworkPolicy")["ingress"][2]["from"].append({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})),
    Mutation("", "a node affinity beside the selector", at(pod, "affinity", {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}]}]}}})),
    Mutation("", "a comment in an expression", expression("[5m]))", "[5m])) # it's (half")),
    Mutation("", "labels by a pattern", expression('label="stable"', 'label=~"stable|canary"')),
    Mutation("", "files that are what they say", made("ConfigMap", data={"dashboard.json": "{}", "rules.yaml": "a: !x [1]\n---\nb: 2\n", "notes.txt": "{"})),
    Mutation("", "fields of the pod", lambda d: server(d)["env"].extend({"name": f"F{i}", "valueFrom": {"fieldRef": {"fieldPath": path}}} for i, path in enumerate(("status.podIP", "metadata.labels['a']", "spec.nodeName")))),
    Mutation("", "a preStop by a shell", at(server, "lifecycle|preStop", {"exec": {"command": ["sh", "-c", "sleep 10"]}})),
    Mutation("", "a Service whose endpoints are made by hand", lambda d: d.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "duoserve"}, "spec": {"ports": [{"port": 5432}]}})),
    Mutation("", "a job whose name the API server completes", generated),
    Mutation("", "a policy for a namespace that is elsewhere", lambda d: d.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "web"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}})),
    Mutation("", "a neighbour of another namespace, in its own way", neighbour),
    Mutation("", "a sidecar with a user of its image", lambda d: pod(d)["containers"].append({**SIDECAR, "securityContext": {**CONTEXT, "runAsUser": 999}})),
]  # fmt: skip
