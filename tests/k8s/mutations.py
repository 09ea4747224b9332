"""Mistakes that people make in these manifests, each as a change of a clean rendering."""

# ruff: noqa: E501 -- a table: one row a mistake

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

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

MUTATIONS = [
    # References.
    Mutation("missing-configmap", "a ConfigMap's name", at(pod, "volumes|1|configMap|name", "duoserve-model")),
    Mutation("missing-configmap", "the hash of another build", at(pod, "volumes|2|configMap|name", "duoserve-server-x")),
    Mutation("missing-claim", "a claim's name", at(pod, "volumes|0|persistentVolumeClaim|claimName", "models")),
    Mutation("missing-claim", "the claim left out", drop("PersistentVolumeClaim", "duoserve-models")),
    Mutation("missing-serviceaccount", "a ServiceAccount's name", at(pod, "serviceAccountName", "duosrve")),
    Mutation("volume-undeclared", "a mount of no volume", at(server, "volumeMounts|3|name", "temp")),
    Mutation("volume-unused", "a volume without a mount", at(server, "volumeMounts|2", {"name": "tmp", "mountPath": "/x"})),
    Mutation("api-twice", "two mounts in one place", at(server, "volumeMounts|2|mountPath", "/models")),
    Mutation("scaler-target", "an autoscaler aimed at nothing", at(kind("HorizontalPodAutoscaler"), "scaleTargetRef|name", "duo")),
    Mutation("scaler-container", "an autoscaler's container", at(kind("HorizontalPodAutoscaler"), "metrics|0|containerResource|container", "serving")),
    Mutation("replicas-and-scaler", "replicas beside an autoscaler", at(kind("Deployment"), "replicas", 3)),
    Mutation("missing-container", "a limit of another container", at(server, "env|0|valueFrom|resourceFieldRef|containerName", "srv")),
    Mutation("route-backend", "a route to no Service", at(kind("GRPCRoute"), "rules|0|backendRefs|1|name", "duoserve-canry"), "gitops-canary"),
    Mutation("route-backend", "a route to no port", at(kind("GRPCRoute"), "rules|0|backendRefs|0|port", 9000), "gitops-canary"),
    Mutation("route-parent", "a route of no Gateway", at(kind("GRPCRoute"), "parentRefs|0|name", "gate"), "gitops-canary"),
    Mutation("route-parent", "a route of no listener", at(kind("GRPCRoute"), "parentRefs|0|sectionName", "http"), "gitops-canary"),
    Mutation("object-twice", "an object twice", lambda documents: documents.append(one(documents, "Service"))),
    Mutation("missing-configmap", "another namespace", lambda documents: one(documents, "ConfigMap", "duoserve-models")["metadata"].update(namespace="other")),
    # Labels and selectors.
    Mutation("selects-nothing", "a Service's selector", at(kind("Service"), f"selector|{LABEL}", "serving")),
    Mutation("selects-nothing", "the headless Service's selector", at(kind("Service", "duoserve-headless"), "selector|app.kubernetes.io/name", "duo")),
    Mutation("selects-nothing", "a budget's selector", at(kind("PodDisruptionBudget"), f"selector|matchLabels|{LABEL}", "servers")),
    Mutation("selects-all", "a budget for everything", at(kind("PodDisruptionBudget"), "selector", {})),
    Mutation("selects-nothing", "a policy's selector", at(kind("NetworkPolicy"), f"podSelector|matchLabels|{LABEL}", "servr")),
    Mutation("selects-nothing", "a monitor's selector", at(kind("PodMonitor"), f"selector|matchLabels|{LABEL}", "servr")),
    Mutation("selector-template", "a template's label", at(kind("Deployment"), f"template|metadata|labels|{LABEL}", "web")),
    Mutation("missing-port", "a Service's port name", at(kind("Service"), "ports|0|targetPort", "grcp")),
    Mutation("missing-port", "a Service's port number", at(kind("Service"), "ports|1|targetPort", 8080)),
    Mutation("missing-port", "a monitor's port name", at(kind("PodMonitor"), "podMetricsEndpoints|0|port", "metrics")),
    Mutation("missing-port", "a policy's port name", at(kind("NetworkPolicy"), "ingress|0|ports|0|port", "grpcs")),
    Mutation("service-mixes", "a Service for both tracks", at(kind("Service"), "selector|duoserve.dev/track", None), "gitops-canary"),
    Mutation("spread-selector", "a spread over other pods", at(pod, f"topologySpreadConstraints|0|labelSelector|matchLabels|{LABEL}", "web")),
    Mutation("caller-selector", "what includeSelectors makes of a policy", at(kind("NetworkPolicy"), f"ingress|0|from|0|podSelector|matchLabels|{LABEL}", "server")),
    Mutation("app-protocol", "HTTP/2 without a hint", at(kind("Service"), "ports|0|appProtocol", None)),
    Mutation("no-budget", "no budget", drop("PodDisruptionBudget")),
    # Probes.
    Mutation("probe-model", "a probe of another model", at(server, "readinessProbe|httpGet|path", PROBE.replace("emoji", "emojis"))),
    Mutation("probe-label", "a probe of another label", at(server, "startupProbe|httpGet|path", PROBE.replace("stable", "prod"))),
    Mutation("probe-status", "a probe of the status page", at(server, "readinessProbe|httpGet|path", "/v1/models/emoji")),
    Mutation("probe-version", "a probe of one version", at(server, "readinessProbe|httpGet|path", "/v1/models/emoji/versions/1/metadata")),
    Mutation("probe-port", "a probe's port name", at(server, "readinessProbe|httpGet|port", "http")),
    Mutation("probe-not-rest", "REST asked at the gRPC port", at(server, "readinessProbe|httpGet|port", "grpc")),
    Mutation("probe-not-grpc", "gRPC asked at the REST port", at(server, "livenessProbe|grpc|port", 8501)),
    Mutation("liveness-health", "a health probe without its flag", flag("--enable_grpc_healthcheck_service")),
    Mutation("liveness-service", "a health probe of a service", at(server, "livenessProbe|grpc|service", "emoji")),
    Mutation("liveness-model", "liveness that a rollout can fail", at(server, "livenessProbe", {"httpGet": {"path": PROBE, "port": "rest"}})),
    Mutation("liveness-tls", "a plain health probe under TLS", at(server, "livenessProbe", {"grpc": {"port": 8500}}), "component:mtls"),
    Mutation("readiness-blind", "readiness by the open port", at(server, "readinessProbe", {"tcpSocket": {"port": "grpc"}})),
    Mutation("no-readiness", "no readiness", at(server, "readinessProbe", None)),
    Mutation("no-startup", "no startup probe", at(server, "startupProbe", None)),
    Mutation("startup-short", "no time to load", at(server, "startupProbe|failureThreshold", 3)),
    # Shutdown.
    Mutation("grace-short", "preStop longer than the grace period", at(server, "lifecycle|preStop|sleep|seconds", 100)),
    Mutation("grace-short", "the default grace period", at(pod, "terminationGracePeriodSeconds", None)),
    Mutation("drain-short", "a drain shorter than a connection", at(server, "env|1|value", "20")),
    Mutation("no-connection-age", "connections that never end", flag("--grpc_channel_arguments")),
    Mutation("strategy-unavailable", "the default strategy", at(kind("Deployment"), "strategy", None)),
    Mutation("strategy-recreate", "Recreate", at(kind("Deployment"), "strategy", {"type": "Recreate"})),
    # Flags.
    Mutation("flag-unknown", "a typo in a flag", flag("--enable_model_warmup", "--enable_model_warmpu=true")),
    Mutation("flag-twice", "a flag twice", flag("--port", "--port=8500", "--port=8500")),
    Mutation("flag-type", "a word for a number", flag("--grpc_max_threads", "--grpc_max_threads=many")),
    Mutation("flag-type", "yes for true", flag("--enable_profiler", "--enable_profiler=no")),
    Mutation("flag-value", "a flag in two arguments", flag("--rest_api_port", "--rest_api_port", "8501")),
    Mutation("flag-dash", "one dash", flag("--enable_model_warmup", "-enable_model_warmup=true")),
    Mutation("flag-profiler", "the profiler on", flag("--enable_profiler")),
    Mutation("flag-labels", "labels without their flag", flag("--allow_version_labels")),
    Mutation("flag-config-poll", "a config read once", flag("--model_config_file_poll")),
    Mutation("flag-poll", "a store never looked at again", flag("--file_system_poll", "--file_system_poll_wait_seconds=0")),
    Mutation("flag-load-threads", "loads in a row", flag("--num_load_threads", "--num_load_threads=0")),
    Mutation("flag-retries", "retries for five minutes", flag("--load_retry_interval", "--load_retry_interval_micros=150000000")),
    Mutation("flag-port", "a port that nothing points to", flag("--port", "--port=9000")),
    Mutation("flag-file", "a config file that is nowhere", flag("--model_config_file=", "--model_config_file=/etc/duoserve/models.config")),
    Mutation("flag-file", "a ConfigMap's key", lambda documents: one(documents, "ConfigMap", "duoserve-models")["data"].update({"model.config": one(documents, "ConfigMap", "duoserve-models")["data"].pop("models.config")})),
    Mutation("flag-monitoring", "no metrics page", flag("--monitoring_config_file")),
    Mutation("flag-variable", "a variable of another name", at(server, "env|0|name", "CPUS")),
    Mutation("threads-many", "more threads than CPUs", flag("--tensorflow_intra", "--tensorflow_intra_op_parallelism=16")),
    Mutation("threads-unset", "threads of the node", flag("--tensorflow_inter", "--tensorflow_inter_op_parallelism=0")),
    Mutation("threads-grpc", "few threads for calls", flag("--grpc_max_threads", "--grpc_max_threads=4")),
    Mutation("subpath", "subPath on a hot-reloaded file", at(server, "volumeMounts|1", {"name": "models-config", "mountPath": "/etc/duoserve/models/models.config", "subPath": "models.config"})),
    Mutation("flag-batching-file", "batching without its file", flag("--batching_parameters_file"), "component:batching"),
    Mutation("flag-batching", "a file without batching", flag("--enable_batching"), "component:batching"),
    # Config files.
    Mutation("label-version", "a label of a version not loaded", text("models.config", 'key: "stable" value: 1', 'key: "stable" value: 2')),
    Mutation("labels-policy", "labels with the latest version", text("models.config", "specific {\n        versions: 1\n      }", "latest { num_versions: 1 }")),
    Mutation("models-syntax", "a brace too few", text("models.config", "model_config_list {", "model_config_list")),
    Mutation("models-path", "a relative path", text("models.config", '"/models/emoji"', '"models/emoji"')),
    Mutation("store-mount", "a store that is mounted elsewhere", text("models.config", '"/models/emoji"', '"/data/emoji"')),
    Mutation("store-mount", "a version without its image volume", text("models.config", "versions: 1", "versions: 1\n        versions: 2"), "component:image-volume"),
    Mutation("store-writable", "a store that servers can write", at(server, "volumeMounts|0|readOnly", None)),
    Mutation("monitoring", "metrics off", text("monitoring.config", "enable: true", "enable: false")),
    Mutation("monitoring-path", "another metrics path", at(kind("PodMonitor"), "podMetricsEndpoints|0|path", "/metrics")),
    Mutation("batching-sizes", "sizes beyond the largest", text("batching.config", "max_batch_size { value: 32 }", "max_batch_size { value: 16 }"), "component:batching"),
    Mutation("batching-warmup", "a size that is not warmed up", text("batching.config", "allowed_batch_sizes: 16", "allowed_batch_sizes: 24"), "component:batching"),
    Mutation("batching-threads", "more batches than CPUs", text("batching.config", "num_batch_threads { value: 2 }", "num_batch_threads { value: 8 }"), "component:batching"),
    Mutation("batching-timeout", "a second of waiting", text("batching.config", "batch_timeout_micros { value: 2000 }", "batch_timeout_micros { value: 1000000 }"), "component:batching"),
    Mutation("batching-padding", "padding with the first token", text("batching.config", "pad_variable_length_inputs: false", "pad_variable_length_inputs: true"), "component:batching"),
    Mutation("batching-field", "a field's name", text("batching.config", "max_enqueued_batches", "max_enqued_batches"), "component:batching"),
    # Security.
    Mutation("root", "root", at(pod, "securityContext|runAsNonRoot", None)),
    Mutation("root-user", "user 0", at(pod, "securityContext|runAsUser", 0)),
    Mutation("escalation", "privilege escalation", at(server, "securityContext|allowPrivilegeEscalation", None)),
    Mutation("capabilities", "a capability", at(server, "securityContext|capabilities", {"add": ["NET_ADMIN"], "drop": ["ALL"]})),
    Mutation("privileged", "privileged", at(server, "securityContext|privileged", True)),
    Mutation("seccomp", "no seccomp profile", at(pod, "securityContext|seccompProfile", None)),
    Mutation("root-filesystem", "a root filesystem to write", at(server, "securityContext|readOnlyRootFilesystem", None)),
    Mutation("host-namespace", "the node's network", at(pod, "hostNetwork", True)),
    Mutation("host-port", "a port of the node", at(server, "ports|0|hostPort", 8500)),
    Mutation("volume-type", "a folder of the node", at(pod, "volumes|0", {"name": "models", "hostPath": {"path": "/models"}})),
    Mutation("token", "a token in the pod", at(pod, "automountServiceAccountToken", None)),
    Mutation("image-tag", "latest", at(server, "image", "registry.example.com/duoserve-serving:latest")),
    Mutation("ingress-open", "gRPC for everybody", at(kind("NetworkPolicy"), "ingress|0|from", None)),
    Mutation("ingress-open", "gRPC for the namespace", at(kind("NetworkPolicy"), "ingress|0|from|0", {"podSelector": {}})),
    Mutation("egress-open", "calls to everywhere", at(kind("NetworkPolicy"), "egress", [{}])),
    Mutation("service-exposed", "gRPC on the internet", at(kind("Service"), "type", "LoadBalancer")),
    Mutation("namespace-level", "a namespace without Pod Security", at(lambda documents: one(documents, "Namespace"), "metadata|labels|pod-security.kubernetes.io/enforce", "baseline")),
    # Resources.
    Mutation("quantity", "half a byte of memory", at(server, "resources|limits|memory", "4000m")),
    Mutation("quantity", "a unit that is none", at(server, "resources|limits|memory", "4GB")),
    Mutation("quantity", "a claim's size", at(kind("PersistentVolumeClaim", "duoserve-models"), "resources|requests|storage", "20 Gi")),
    Mutation("request-over-limit", "a request over its limit", at(server, "resources|requests|cpu", "8")),
    Mutation("no-cpu-limit", "no CPU limit", at(server, "resources|limits|cpu", None)),
    Mutation("memory-volume", "memory without an end", at(pod, "volumes|3|emptyDir", {"medium": "Memory"})),
    Mutation("scaler-range", "a minimum over the maximum", at(kind("HorizontalPodAutoscaler"), "minReplicas", 20)),
    Mutation("scaler-utilization", "a target of 100 percent", at(kind("HorizontalPodAutoscaler"), "metrics|0|containerResource|target|averageUtilization", 100)),
    Mutation("budget-blocks", "a budget of nothing", at(kind("PodDisruptionBudget"), "maxUnavailable", 0)),
    Mutation("api-field", "a budget of two kinds", at(kind("PodDisruptionBudget"), "minAvailable", 3)),
    Mutation("budget-blocks", "a budget of all", lambda documents: spec(documents, "PodDisruptionBudget").update(minAvailable=3, maxUnavailable=None)),
    # Second look.
    Mutation("no-headless", "a headless Service with an address", at(kind("Service", "duoserve-headless"), "clusterIP", None)),
    Mutation("not-ready-addresses", "addresses that are not ready", at(kind("Service", "duoserve-headless"), "publishNotReadyAddresses", True)),
    Mutation("flag-port-same", "two APIs at one port", flag("--rest_api_port", "--rest_api_port=8500")),
    Mutation("flag-model", "no model at all", flag("--model_config_file=")),
    Mutation("models-hash", "a hash on the hot-reloaded file", lambda documents: (one(documents, "ConfigMap", "duoserve-models")["metadata"].update(name="duoserve-models-7d4t4chd96"), at(pod, "volumes|1|configMap|name", "duoserve-models-7d4t4chd96")(documents))),
    Mutation("config-hash", "no hash on the file that is read once", lambda documents: [d["metadata"].update(name="duoserve-server") for d in documents if d["metadata"]["name"].startswith("duoserve-server-")] and at(pod, "volumes|2|configMap|name", "duoserve-server")(documents)),
    Mutation("port-closed", "metrics that nobody may scrape", lambda documents: spec(documents, "NetworkPolicy")["ingress"].pop(2)),
    Mutation("port-closed", "gRPC that nobody may call", at(kind("NetworkPolicy"), "ingress", [])),
    Mutation("no-tmp", "nowhere to write", at(server, "volumeMounts|3|mountPath", "/scratch")),
    Mutation("claim-access", "a disk of one node", at(kind("PersistentVolumeClaim", "duoserve-models"), "accessModes", ["ReadWriteOnce"])),
    Mutation("schedule", "a schedule of four fields", at(kind("CronJob", "duoserve-export"), "schedule", "17 3 * *")),
    Mutation("exporter", "an exporter of another model", at(kind("Deployment", "duoserve-exporter"), "template|spec|containers|0|args|1", "--model=duo")),
    Mutation("exporter", "an exporter of no Service", at(kind("Deployment", "duoserve-exporter"), "template|spec|containers|0|args|0", "--target=duoserve-headles:8501")),
    Mutation("scaler-range", "KServe's minimum over its maximum", at(lambda documents: spec(documents, "InferenceService")["predictor"], "minReplicas", 9), "kserve"),
]  # fmt: skip
