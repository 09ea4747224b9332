"""Mistakes around the servers (the store, quotas, nodes, peers, alerts), and what the API server refuses."""

# ruff: noqa: E501 -- a table: one row a mistake

from __future__ import annotations

import copy
from typing import Any

from tests.k8s.mutations import Documents, Mutation, at, drop, flag, kind, one, pod, server, spec, text
from tests.k8s.outsiders import BINDING, HPA, NP, SVC, config_again, cont, job

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
    # What the API server refuses, though each schema takes it.
    Mutation("api-field", "a claim without access modes", at(kind("PersistentVolumeClaim", "duoserve-models"), "accessModes", [])),
    Mutation("resource-name", "cpus", lambda d: server(d)["resources"]["limits"].update(cpus="4")),
    Mutation("api-size", "a ConfigMap of more than 1 MiB", made("ConfigMap", data={"names.txt": "x" * (2**20 + 1)})),
    Mutation("api-twice", "a spread constraint twice", lambda d: pod(d)["topologySpreadConstraints"].append(dict(pod(d)["topologySpreadConstraints"][0], maxSkew=2))),
    Mutation("api-number", "a token for five minutes", lambda d: next(v for v in job(d)["spec"]["volumes"] if "projected" in v)["projected"]["sources"][0]["serviceAccountToken"].update(expirationSeconds=300), "component:rollout"),
    Mutation("api-field", "a role's group with a version", lambda d: BINDING(d)["roleRef"].update(apiGroup="rbac.authorization.k8s.io/v1"), "component:rollout"),
    Mutation("api-number", "a backoff limit below 0", at(kind("Job", "duoserve-export-first"), "backoffLimit", -1)),
    Mutation("api-name", "a CronJob with a long name", lambda d: one(d, "CronJob", "duoserve-export")["metadata"].update(name="duoserve-export-" + "x" * 40)),
    Mutation("api-number", "a Service's port over 65535", at(SVC, "ports|1|port", 70000)),
    Mutation("api-name", "a Service that begins with a digit", lambda d: one(d, "Service")["metadata"].update(name="8500-duoserve")),
    # What the schemas refuse.
    Mutation("schema", "replicas in quotes", at(kind("Deployment"), "replicas", "1")),
    Mutation("schema", "a mode in quotes", at(pod, "volumes|1|configMap|defaultMode", "0440")),
    Mutation("schema", "a field's name", at(pod, "terminationGracePeriod", 30)),
    Mutation("schema", "one container for a list", at(pod, "containers", {"name": "server"})),
    Mutation("schema", "a probe without its port", at(server, "readinessProbe|httpGet|port", None)),
    Mutation("schema", "an annotation that is a number", lambda d: one(d, "Deployment")["metadata"].setdefault("annotations", {}).update(revision=3)),
    # Rules that no other mistake here breaks.
    Mutation("flag-tensor-content", "tensor_content beside REST", lambda d: server(d)["args"].append("--enable_serialization_as_tensor_content=true")),
    Mutation("flag-rest", "no REST port", flag("--rest_api_port")),
    Mutation("flag-healthcheck", "no health service", flag("--enable_grpc_healthcheck")),
    Mutation("flag-warmup", "no warmup", flag("--enable_model_warmup", "--enable_model_warmup=false")),
    Mutation("flag-mixed-precision", "half precision", lambda d: server(d)["args"].append("--mixed_precision=float16")),
    Mutation("command-form", "a command that is put together", at(server, "command", ["/bin/sh", "-c", "eval 'tensorflow_model_server --port=8500'"])),
    Mutation("models-empty", "no model", lambda d: one(d, "ConfigMap", "duoserve-models")["data"].update({"models.config": "model_config_list {}"})),
    Mutation("batching-client", "clients that send more", lambda d: None, "component:batching", {"client_batch": 64}),
    Mutation("placeholder", "images as they are shipped", lambda d: None, options={"for_apply": True}),
    Mutation("placeholder-class", "the storage class as it is shipped", lambda d: None, options={"for_apply": True}),
    Mutation("ignore-annotation", "an ignored rule that does not exist", lambda d: one(d, "Deployment")["metadata"].setdefault("annotations", {}).update({"duoserve.dev/ignore-no-bugdet": "one replica"})),
    Mutation("ignore-annotation", "an ignored rule without a reason", lambda d: one(d, "Deployment")["metadata"].setdefault("annotations", {}).update({"duoserve.dev/ignore-no-budget": ""})),
    Mutation("service-exposed-rest", "REST on the internet", lambda d: SVC(d).update(type="LoadBalancer", ports=[SVC(d)["ports"][1]])),
    Mutation("ingress-ports", "all ports for callers", at(NP, "ingress|0|ports", None)),
    Mutation("no-policy", "no policy", drop("NetworkPolicy"), "component:export"),
    Mutation("blocked-store", "a bucket that may not be called", text("models.config", '"/models/emoji"', '"gs://bucket/emoji"')),
    Mutation("no-liveness", "no liveness", at(server, "livenessProbe", None)),
    Mutation("no-request", "no resources at all", at(cont("duoserve-exporter"), "resources", None)),
    Mutation("proc-mount", "all of /proc", at(server, "securityContext|procMount", "Unmasked")),
    Mutation("sysctl", "an unsafe sysctl", at(pod, "securityContext|sysctls", [{"name": "kernel.msgmax", "value": "65536"}])),
    Mutation("user", "a user of the node", at(pod, "securityContext|runAsUser", 1000)),
    Mutation("selector-overlap", "a workload with the same labels", twin),
    Mutation("rollout-size", "more replicas than there are", at(HPA, "minReplicas", 1), "component:rollout"),
    Mutation("rollout-settings", "a rollout of another model", lambda d: (config_again(d), rollout_settings(d).update({"rollout.toml": 'model = "emojis"'})), "component:rollout"),
    Mutation("rollout-settings", "settings that are not TOML", lambda d: rollout_settings(d).update({"rollout.toml": "model = emoji"}), "component:rollout"),
]  # fmt: skip
