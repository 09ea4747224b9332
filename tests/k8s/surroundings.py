"""Mistakes around the servers: the store and what fills it, quotas, nodes, peers, alerts and their files."""

# ruff: noqa: E501 -- a table: one row a mistake

from __future__ import annotations

import copy
from typing import Any

from tests.k8s.mutations import Documents, Mutation, at, kind, one, pod, server, spec, text
from tests.k8s.outsiders import HPA, NP, SVC, cont

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


MUTATIONS = [
    # The store: what the export writes and the servers read.
    Mutation("api-field", "a value from two sources", at(server, "env|0|value", "4")),
    Mutation("export-store", "the job's store at another path", at(export, "containers|0|volumeMounts|0|mountPath", "/store")),
    Mutation("export-store", "a script that publishes elsewhere", text("export.sh", "--store /models", "--store=/data")),
    Mutation("export-store", "a command that publishes elsewhere", lambda d: weekly(d)["containers"][0].update(command=["python", "-m", "export"], args=["export", "/tmp/run", "--store=/srv", "--name=emoji"])),
    Mutation("export-store", "an emptyDir for the store", at(weekly, "volumes|0", {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}})),
    Mutation("claim-writer", "one of the jobs mounts the store read-only", at(weekly, "containers|0|volumeMounts|0|readOnly", True)),
    Mutation("claim-writer", "the first job's claim is read-only", at(export, "volumes|0|persistentVolumeClaim|readOnly", True)),
    Mutation("export-folder", "the servers' subPath", at(server, "volumeMounts|0|subPath", "store")),
    Mutation("export-folder", "the job's claim", other_claim),
    Mutation("export-model", "the script's model", text("export.sh", "MODEL=emoji", "MODEL=emojis")),
    Mutation("export-model", "the job's model", lambda d: (text("export.sh", "MODEL=emoji", "MODEL=${MODEL:-emoji}")(d), weekly(d)["containers"][0]["env"].append({"name": "MODEL", "value": "emojis"}))),
    Mutation("script-file", "a script that its ConfigMap lacks", at(export, "containers|0|command|1", "/etc/duoserve/export/run.sh")),
    Mutation("export-user", "a job whose user can't write", lambda d: export(d)["securityContext"].update(runAsUser=20002, fsGroup=None)),
    Mutation("claim-block", "a device for the store", at(kind("PersistentVolumeClaim", "duoserve-models"), "volumeMode", "Block")),
    # What leads to the servers, and who may.
    Mutation("port-swapped", "a Service's numbers swapped", lambda d: (at(SVC, "ports|0|port", 8501)(d), at(SVC, "ports|1|port", 8500)(d))),
    Mutation("port-swapped", "a Service's names swapped", lambda d: (at(SVC, "ports|0|name", "rest")(d), at(SVC, "ports|1|name", "grpc")(d))),
    Mutation("selects-nothing", "the servers' Service without a selector", at(SVC, "selector", None)),
    Mutation("namespace-name", "Prometheus's namespace misspelt", at(NP, "ingress|2|from|0|namespaceSelector|matchLabels|kubernetes.io/metadata.name", "monitorng")),
    Mutation("namespace-name", "the DNS's namespace misspelt", lambda d: NP(d).update(egress=[{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-sytem"}}}]}])),
    Mutation("namespace-name", "our own namespace misspelt, in a list", lambda d: NP(d)["ingress"][1]["from"].append({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["duosrve"]}]}, "podSelector": {"matchLabels": {"a": "b"}}})),
    Mutation("api-field", "an address without its prefix", lambda d: NP(d)["ingress"][2]["from"].append({"ipBlock": {"cidr": "10.1.2.3"}})),
    Mutation("api-field", "a range that is none", lambda d: NP(d)["ingress"][2]["from"].append({"ipBlock": {"cidr": "10.1.2.300/24"}})),
    Mutation("api-field", "an exception outside of its range", lambda d: NP(d)["ingress"][2]["from"].append({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/24"]}})),
    # Pods.
    Mutation("command-words", "a preStop of one word", at(server, "lifecycle|preStop", {"exec": {"command": ["sleep 10"]}})),
    Mutation("command-words", "a command of one word", at(cont("duoserve-exporter"), "command", ["python -m serving.exporter"])),
    Mutation("api-field", "a deadline for what runs for ever", at(pod, "activeDeadlineSeconds", 3600)),
    Mutation("api-field", "no DNS at all", at(pod, "dnsPolicy", "None")),
    Mutation("api-field", "mounts that reach the node", at(server, "volumeMounts|3|mountPropagation", "Bidirectional")),
    Mutation("api-field", "a field that pods do not have", lambda d: server(d)["env"].append({"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIp"}}})),
    Mutation("probe-timeout", "readiness that is asked before it ends", at(server, "readinessProbe|timeoutSeconds", 8)),
    Mutation("anti-affinity-zone", "one server a zone", at(pod, "affinity", APART)),
    Mutation("node-contradiction", "nodes of two kinds at once", at(pod, "affinity", ARM)),
    # Sizes.
    Mutation("api-field", "an average in the place of a share", at(HPA, "metrics|0|containerResource|target", {"type": "Utilization", "averageValue": "2"})),
    Mutation("api-field", "a share in the place of an average", at(HPA, "metrics|0|containerResource|target", {"type": "AverageValue", "averageUtilization": 60})),
    Mutation("quota-small", "CPUs for two of three servers", quota(requests_cpu="10")),
    Mutation("quota-small", "memory for one server", quota(memory="5Gi")),
    Mutation("quota-small", "two pods", quota(pods="2")),
    Mutation("quota-small", "storage for half a store", quota(requests_storage="10Gi")),
    Mutation("limit-range", "containers of at most 2 CPUs", limits("Container", max={"cpu": "2"})),
    Mutation("limit-range", "containers of at least 1 CPU", limits("Container", min={"cpu": "1"})),
    Mutation("limit-range", "pods of at most 2Gi", limits("Pod", max={"memory": "2Gi"})),
    Mutation("limit-range", "small claims", limits("PersistentVolumeClaim", max={"storage": "5Gi"})),
    # Alerts and the files of ConfigMaps.
    Mutation("rule-value", "alerts on a label that nobody has", expression('label="stable"', 'label="prod"')),
    Mutation("rule-value", "alerts on a model that nobody serves", expression("request_latency_count{", 'request_latency_count{model_name="emojis",')),
    Mutation("rule-syntax", "a bracket too few", expression("[5m]))", "[5m])")),
    Mutation("rule-syntax", "a quote too few", expression('label="stable"', 'label="stable')),
    Mutation("rule-syntax", "brackets crossed", expression("[5m]))", "[5m)])")),
    Mutation("content", "a dashboard cut off", made("ConfigMap", data={"dashboard.json": '{"panels": ['})),
    Mutation("content", "a file of rules that is no YAML", made("ConfigMap", data={"rules.yaml": "a: [1"})),
]  # fmt: skip
