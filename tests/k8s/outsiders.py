"""More mistakes, thought of by an outsider who had not read the doctor; each was a miss once, or is its near neighbour."""

# ruff: noqa: E501 -- a table: one row a mistake

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.k8s import renders
from tests.k8s.mutations import Documents, Mutation, at, drop, flag, kind, one, pod, server, spec, text

PROBE = "/v1/models/emoji/labels/stable/metadata"
NP, HPA, SVC = kind("NetworkPolicy"), kind("HorizontalPodAutoscaler"), kind("Service")
DEP, PDB = kind("Deployment"), kind("PodDisruptionBudget")


def cont(name: str) -> Callable[[Documents], dict[str, Any]]:
    """The container of another Deployment."""
    return lambda documents: spec(documents, "Deployment", name)["template"]["spec"]["containers"][0]


def cm(name: str) -> Callable[[Documents], dict[str, Any]]:
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


MUTATIONS = [
    # The rollout in the cluster.
    Mutation("rollout-rights", "no right to patch", lambda d: ROLE(d)[0].update(verbs=["get"]), "component:rollout"),
    Mutation("rollout-rights", "rights on another ConfigMap", lambda d: ROLE(d)[0].update(resourceNames=["duoserve-model"]), "component:rollout"),
    Mutation("rollout-rights", "no lock", lambda d: ROLE(d)[1].update(apiGroups=[""]), "component:rollout"),
    Mutation("rollout-rights", "no list of pods", lambda d: ROLE(d).pop(), "component:rollout"),
    Mutation("rights-wide", "all verbs", lambda d: ROLE(d)[0].update(verbs=["*"]), "component:rollout"),
    Mutation("rights-wide", "secrets", lambda d: ROLE(d)[4].update(resources=["pods", "secrets"]), "component:rollout"),
    Mutation("binding-role", "a binding of no Role", lambda d: BINDING(d)["roleRef"].update(name="duoserve-rolout"), "component:rollout"),
    Mutation("binding-subject", "a binding for nobody", lambda d: BINDING(d)["subjects"][0].update(name="rollout"), "component:rollout"),
    Mutation("binding-subject", "a binding into another namespace", lambda d: BINDING(d)["subjects"][0].update(namespace="default"), "component:rollout"),
    Mutation("rollout-token", "no token", lambda d: job(d)["spec"]["containers"][0]["volumeMounts"].pop(2), "component:rollout"),
    Mutation("rollout-owner", "a config that the next apply puts back", config_again, "component:rollout"),
    Mutation("rollout-config", "the config of another namespace", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(2, "--config=configmap:default/duoserve-models"), "component:rollout"),
    Mutation("rollout-replicas", "a selector of no replica", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(3, "--replica=pods:duoserve/app=duoserve:8500"), "component:rollout"),
    Mutation("rollout-replicas", "replicas at the REST port", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(3, "--replica=pods:duoserve/app.kubernetes.io/component=server:8501"), "component:rollout"),
    Mutation("blocked-ingress", "a rollout without the callers' label", lambda d: job(d)["metadata"]["labels"].pop("duoserve.dev/client"), "component:rollout"),
    Mutation("blocked-egress", "a rollout that may not call the replicas", lambda d: kind("NetworkPolicy", "duoserve-rollout")(d)["egress"].pop(0), "component:rollout"),
    Mutation("blocked-api", "a rollout that may not call the API server", lambda d: kind("NetworkPolicy", "duoserve-rollout")(d)["egress"].pop(1), "component:rollout"),
    # Everything else.
    Mutation("missing-port", "a headless Service's port name", at(kind("Service", "duoserve-headless"), "ports|1|targetPort", "rset")),
    Mutation("app-protocol", "a Service's ports swapped", lambda d: (at(SVC, "ports|0|targetPort", "rest")(d), at(SVC, "ports|1|targetPort", "grpc")(d))),
    Mutation("app-protocol", "gRPC that leads to REST", at(kind("Service", "duoserve-headless"), "ports|0|targetPort", 8501)),
    Mutation("port-protocol", "a Service over UDP", at(SVC, "ports|0|protocol", "UDP")),
    Mutation("service-exposed", "a Service with an external address", at(SVC, "externalIPs", ["1.2.3.4"])),
    Mutation("api-twice", "a Service's port twice", lambda d: SVC(d)["ports"].append(dict(SVC(d)["ports"][0]))),
    Mutation("scaler-target", "an autoscaler of another kind", at(HPA, "scaleTargetRef|kind", "StatefulSet")),
    Mutation("scaler-target", "an autoscaler of another apiVersion", at(HPA, "scaleTargetRef|apiVersion", "apps/v1beta1")),
    Mutation("scaler-range", "an autoscaler without a maximum", at(HPA, "maxReplicas", None)),
    Mutation("scaler-memory", "an autoscaler by memory", at(HPA, "metrics|0|containerResource|name", "memory")),
    Mutation("scaler-twice", "two autoscalers", lambda d: d.append((lambda x: (x["metadata"].update(name="other"), x)[1])(copy.deepcopy(one(d, "HorizontalPodAutoscaler"))))),
    Mutation("budget-blocks", "a budget of 99 %", lambda d: (PDB(d).pop("maxUnavailable"), PDB(d).update(minAvailable="99%"))),
    Mutation("budget-blocks", "one replica, and one that has to stay", lambda d: (drop("HorizontalPodAutoscaler")(d), DEP(d).update(replicas=1), PDB(d).pop("maxUnavailable"), PDB(d).update(minAvailable=1))),
    Mutation("replicas-none", "no size at all", drop("HorizontalPodAutoscaler")),
    Mutation("budget-open", "a budget that protects nothing", at(PDB, "maxUnavailable", "100%")),
    Mutation("budget-mixes", "a budget for jobs too", at(PDB, "selector|matchLabels", {"app.kubernetes.io/name": "duoserve"})),
    Mutation("no-limit", "no resources", at(server, "resources", None)),
    Mutation("no-limit", "a job without a memory limit", at(lambda d: spec(d, "Job", "duoserve-export-first")["template"]["spec"]["containers"][0], "resources|limits|memory", None)),
    Mutation("quantity", "1gb", at(server, "resources|limits|memory", "1gb")),
    Mutation("limit-small", "memory for no server", lambda d: (at(server, "resources|limits|memory", "64Mi")(d), at(server, "resources|requests|memory", "64Mi")(d))),
    Mutation("limit-small", "a hundredth of a CPU", lambda d: (at(server, "resources|limits|cpu", "10m")(d), at(server, "resources|requests|cpu", "10m")(d))),
    Mutation("no-limit", "memroy", at(server, "resources|limits", {"cpu": "4", "memroy": "4Gi"})),
    Mutation("memory-volume", "a memory volume over the limit", at(pod, "volumes|3|emptyDir|sizeLimit", "64Gi")),
    Mutation("api-twice", "a volume twice", lambda d: pod(d)["volumes"].append({"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}})),
    Mutation("volume-undeclared", "an init container's mount of no volume", lambda d: pod(d).update(initContainers=[dict(copy.deepcopy(server(d)), name="init", volumeMounts=[{"name": "x", "mountPath": "/x"}])])),
    Mutation("missing-key", "a key of another name", at(pod, "volumes|1|configMap|items", [{"key": "model.config", "path": "models.config"}])),
    Mutation("flag-file", "a key under another path", at(pod, "volumes|1|configMap|items", [{"key": "models.config", "path": "model.config"}])),
    Mutation("models-immutable", "an immutable models.config", lambda d: one(d, "ConfigMap", "duoserve-models").update(immutable=True)),
    Mutation("volume-mode", "files that nobody may read", at(pod, "volumes|1|configMap|defaultMode", 0)),
    Mutation("liveness-model", "liveness = readiness", lambda d: server(d).update(livenessProbe=copy.deepcopy(server(d)["readinessProbe"]))),
    Mutation("probe-strict", "liveness failureThreshold 1, timeout 1", at(server, "livenessProbe", {"grpc": {"port": 8500}, "periodSeconds": 5, "timeoutSeconds": 1, "failureThreshold": 1})),
    Mutation("probe-program", "liveness exec curl", at(server, "livenessProbe", {"exec": {"command": ["curl", "-f", "http://localhost:8501"]}})),
    Mutation("probe-scheme", "probe scheme HTTPS", at(server, "readinessProbe|httpGet|scheme", "HTTPS")),
    Mutation("probe-host", "probe host set", at(server, "readinessProbe|httpGet|host", "127.0.0.1")),
    Mutation("api-field", "probe two handlers", at(server, "readinessProbe|tcpSocket", {"port": 8500})),
    Mutation("probe-late", "readiness every five minutes", at(server, "readinessProbe|periodSeconds", 300)),
    Mutation("probe-late", "readiness failureThreshold huge", at(server, "readinessProbe|failureThreshold", 100)),
    Mutation("progress-short", "progressDeadline < startup", at(DEP, "progressDeadlineSeconds", 60)),
    Mutation("schema", "drain number not string", at(server, "env|1|value", 75)),
    Mutation("env-unknown", "a variable nobody reads", lambda d: server(d)["env"].append({"name": "DUOSERVE_CPU", "value": "2"})),
    Mutation("env-unknown", "a misspelt variable", lambda d: server(d)["env"].append({"name": "DUOSERVE_TLS_FOLDER", "value": "/x"})),
    Mutation("api-twice", "a variable twice", lambda d: server(d)["env"].append({"name": "CPU_LIMIT", "value": "64"})),
    Mutation("threads-many", "64 OpenMP threads", lambda d: server(d)["env"].append({"name": "OMP_NUM_THREADS", "value": "64"})),
    Mutation("tls-folder", "a TLS folder that is not mounted", lambda d: server(d)["env"].append({"name": "DUOSERVE_TLS_DIR", "value": "/etc/duoserve/tls"})),
    Mutation("threads-many", "CPUs counted in thousandths", at(server, "env|0|valueFrom|resourceFieldRef|divisor", "1m")),
    Mutation("subpath", "subPathExpr on a hot-reloaded file", lambda d: server(d)["volumeMounts"][1].update(subPathExpr="models.config", mountPath="/etc/duoserve/models/models.config")),
    Mutation("capabilities", "a capability of the exporter", at(cont("duoserve-exporter"), "securityContext|capabilities", {"add": ["SYS_PTRACE"], "drop": ["ALL"]})),
    Mutation("capabilities", "capabilities in lower case", at(server, "securityContext|capabilities|drop", ["all"])),
    Mutation("root", "runAsNonRoot false in container", at(server, "securityContext|runAsNonRoot", False)),
    Mutation("seccomp", "seccomp Unconfined in container", at(server, "securityContext|seccompProfile", {"type": "Unconfined"})),
    Mutation("apparmor", "apparmor unconfined", at(server, "securityContext|appArmorProfile", {"type": "Unconfined"})),
    Mutation("selinux", "selinux", at(pod, "securityContext|seLinuxOptions", {"type": "spc_t"})),
    Mutation("host-process", "windows hostProcess", at(pod, "securityContext|windowsOptions", {"hostProcess": True})),
    Mutation("service-links", "service links", at(pod, "enableServiceLinks", None)),
    Mutation("batching-sizes", "max_batch_size not last", text("batching.config", "allowed_batch_sizes: 32\n", ""), "component:batching"),
    Mutation("batching-sizes", "allowed unsorted", text("batching.config", "allowed_batch_sizes: 1\nallowed_batch_sizes: 2", "allowed_batch_sizes: 2\nallowed_batch_sizes: 1"), "component:batching"),
    Mutation("batching-sizes", "a batch size twice", text("batching.config", "allowed_batch_sizes: 16", "allowed_batch_sizes: 8"), "component:batching"),
    Mutation("batching-warmup", "no batch sizes", lambda d: cm("duoserve-server")(d)["data"].update({"batching.config": "\n".join(line for line in cm("duoserve-server")(d)["data"]["batching.config"].splitlines() if not line.startswith("allowed"))}), "component:batching"),
    Mutation("batching-syntax", "max_batch_size plain number", text("batching.config", "max_batch_size { value: 32 }", "max_batch_size: 32"), "component:batching"),
    Mutation("batching-value", "max_batch negative", text("batching.config", "max_batch_size { value: 32 }", "max_batch_size { value: -32 }"), "component:batching"),
    Mutation("batching-value", "enqueued 0", text("batching.config", "max_enqueued_batches { value: 64 }", "max_enqueued_batches { value: 0 }"), "component:batching"),
    Mutation("batching-queue", "enqueued huge", text("batching.config", "max_enqueued_batches { value: 64 }", "max_enqueued_batches { value: 1000000 }"), "component:batching"),
    Mutation("batching-syntax", "batch timeout string", text("batching.config", "batch_timeout_micros { value: 2000 }", 'batch_timeout_micros { value: "2ms" }'), "component:batching"),
    Mutation("flag-type", "enable_batching=1", lambda d: server(d)["args"].append("--enable_batching=1")),
    Mutation("label-twice", "label twice", text("models.config", 'version_labels { key: "stable" value: 1 }', 'version_labels { key: "stable" value: 1 }\n    version_labels { key: "stable" value: 1 }')),
    Mutation("probe-label", "no labels", text("models.config", 'version_labels { key: "stable" value: 1 }', "")),
    Mutation("label-name", "label empty", text("models.config", 'version_labels { key: "stable" value: 1 }', 'version_labels { key: "stable" value: 1 }\n version_labels { key: "" value: 1 }')),
    Mutation("models-name", "duplicate models", lambda d: one(d, "ConfigMap", "duoserve-models")["data"].update({"models.config": (lambda t: t.rstrip()[:-1] + t[t.index("  config {") :])(one(d, "ConfigMap", "duoserve-models")["data"]["models.config"])})),
    Mutation("models-path-version", "base_path of a version", text("models.config", '"/models/emoji"', '"/models/emoji/1"')),
    Mutation("models-platform", "platform pytorch", text("models.config", 'model_platform: "tensorflow"', 'model_platform: "pytorch"')),
    Mutation("models-platform", "platform absent", text("models.config", '    model_platform: "tensorflow"\n', "")),
    Mutation("models-syntax", "field typo", text("models.config", "model_version_policy", "model_version_polcy")),
    Mutation("models-syntax", "field in models root", text("models.config", "model_config_list", "model_configs_list")),
    Mutation("versions", "version 0", text("models.config", "versions: 1", "versions: 0")),
    Mutation("flag-unknown", "dashes in a flag", flag("--rest_api_port", "--rest-api-port=8501")),
    Mutation("flag-type", "flag True", flag("--enable_model_warmup", "--enable_model_warmup=True")),
    Mutation("flag-type", "flag empty", flag("--grpc_max_threads", "--grpc_max_threads=")),
    Mutation("flag-type", "flag space", flag("--grpc_max_threads", "--grpc_max_threads= 64")),
    Mutation("flag-argument", "two flags in one argument", flag("--port", "--port=8500 --rest_api_port=8501")),
    Mutation("flag-argument", "positional", lambda d: server(d)["args"].append("serve")),
    Mutation("no-connection-age", "channel args typo", flag("--grpc_channel_arguments", "--grpc_channel_arguments=grpc.max_conection_age_ms=30000,grpc.max_connection_age_grace_ms=10000")),
    Mutation("connection-age-short", "channel args seconds", flag("--grpc_channel_arguments", "--grpc_channel_arguments=grpc.max_connection_age_ms=30,grpc.max_connection_age_grace_ms=10")),
    Mutation("no-age-grace", "channel args space", flag("--grpc_channel_arguments", "--grpc_channel_arguments=grpc.max_connection_age_ms=30000, grpc.max_connection_age_grace_ms=10000")),
    Mutation("no-connection-age", "channel args word", flag("--grpc_channel_arguments", "--grpc_channel_arguments=grpc.max_connection_age_ms=30s,grpc.max_connection_age_grace_ms=10s")),
    Mutation("flag-ignored", "model_name beside config", lambda d: server(d)["args"].append("--model_name=emoji")),
    Mutation("flag-port-low", "port 80 privileged", lambda d: (flag("--port", "--port=80")(d), at(server, "ports|0|containerPort", 80)(d), at(server, "livenessProbe|grpc|port", 80)(d))),
    Mutation("api-twice", "container port name duplicate", at(server, "ports|1|name", "grpc")),
    Mutation("api-name", "container port name too long", at(server, "ports|0|name", "grpc-serving-port-name")),
    Mutation("port-protocol", "container port udp", at(server, "ports|0|protocol", "UDP")),
    Mutation("monitoring-path", "monitoring path in config", text("monitoring.config", "/monitoring/prometheus/metrics", "/metrics")),
    Mutation("monitoring", "monitoring typo", text("monitoring.config", "prometheus_config", "prometheus_conf")),
    Mutation("monitoring", "monitoring enable typo", text("monitoring.config", "enable: true", "enabled: true")),
    Mutation("monitoring-path", "PodMonitor exporter path", at(kind("PodMonitor", "duoserve-exporter"), "podMetricsEndpoints|0|path", "/monitoring")),
    Mutation("monitor-timeout", "PodMonitor timeout > interval", at(kind("PodMonitor"), "podMetricsEndpoints|0|scrapeTimeout", "30s")),
    Mutation("selects-nothing", "PodMonitor other namespace selector", at(kind("PodMonitor"), "namespaceSelector", {"matchNames": ["other"]})),
    Mutation("monitor-empty", "PodMonitor empty endpoints", at(kind("PodMonitor"), "podMetricsEndpoints", [])),
    Mutation(
        "missing-port",
        "ServiceMonitor port name",
        lambda d: d.append({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x", "namespace": "duoserve"}, "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "duoserve"}}, "endpoints": [{"port": "http", "path": "/monitoring/prometheus/metrics"}]}}),
    ),
    Mutation(
        "monitoring-path",
        "ServiceMonitor path",
        lambda d: d.append({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x", "namespace": "duoserve"}, "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "duoserve"}}, "endpoints": [{"port": "rest", "path": "/metrics"}]}}),
    ),
    Mutation("rule-metric", "PrometheusRule metric of another name", lambda d: [r.update(expr=r["expr"].replace("duoserve_label_version", "duoserve_labels_version")) for g in one(d, "PrometheusRule")["spec"]["groups"] for r in g["rules"]]),
    Mutation("rule-metric", "metric without its colons", lambda d: one(d, "PrometheusRule")["spec"]["groups"][0]["rules"][0].update(expr="sum(rate(tensorflow_serving_request_count[5m]))")),
    Mutation("rule-metric", "metric that the server lacks", lambda d: one(d, "PrometheusRule")["spec"]["groups"][0]["rules"][0].update(expr='sum(rate(:tensorflow:serving:requests_count{status="OK"}[5m]))')),
    Mutation("device-limit", "GPU requested, not limited", lambda d: server(d)["resources"]["requests"].update({"nvidia.com/gpu": "1"})),
    Mutation("api-field", "liveness that has to pass twice", at(server, "livenessProbe|successThreshold", 2)),
    Mutation("api-number", "spread without a skew", at(pod, "topologySpreadConstraints|0|maxSkew", 0)),
    Mutation("api-word", "dnsPolicy typo", at(pod, "dnsPolicy", "Clusterfirst")),
    Mutation("api-word", "toleration of no operator", at(pod, "tolerations", [{"key": "gpu", "operator": "Exist"}])),
    Mutation("api-label", "label with a blank in its name", lambda d: pod(d) and one(d, "Deployment")["metadata"]["labels"].update({"a team": "ml"})),
    Mutation("route-weights", "GRPCRoute weights zero", lambda d: [b.update(weight=0) for b in kind("GRPCRoute")(d)["rules"][0]["backendRefs"]], "gitops-canary"),
    Mutation("route-weights", "GRPCRoute negative weight", at(kind("GRPCRoute"), "rules|0|backendRefs|1|weight", -10), "gitops-canary"),
    Mutation("route-protocol", "GRPCRoute rest port", at(kind("GRPCRoute"), "rules|0|backendRefs|0|port", 8501), "gitops-canary"),
    Mutation("route-same-pods", "GRPCRoute same backend twice", at(kind("GRPCRoute"), "rules|0|backendRefs|1|name", "duoserve"), "gitops-canary"),
    Mutation("route-empty", "GRPCRoute no rules", at(kind("GRPCRoute"), "rules", []), "gitops-canary"),
    Mutation("route-reload", "GRPCRoute open to reload", at(kind("GRPCRoute"), "rules|0|matches", None), "gitops-canary"),
    Mutation("route-reload", "GRPCRoute ModelService all", at(kind("GRPCRoute"), "rules|0|matches|1|method", {"service": "tensorflow.serving.ModelService"}), "gitops-canary"),
    Mutation("route-method", "GRPCRoute service typo", at(kind("GRPCRoute"), "rules|0|matches|0|method|service", "tensorflow.serving.PredictService"), "gitops-canary"),
    Mutation("route-listener", "Gateway listener port/protocol TCP", at(kind("Gateway"), "listeners|0|protocol", "TCP"), "gitops-canary"),
    Mutation("route-blocked", "gateway policy port", at(kind("NetworkPolicy", "duoserve-from-gateway"), "ingress|0|ports|0|port", "rest"), "gitops-canary"),
    Mutation("route-blocked", "gateway policy removed", drop("NetworkPolicy", "duoserve-from-gateway"), "gitops-canary"),
    Mutation("route-same-pods", "canary service selects stable", at(kind("Service", "duoserve-canary"), "selector|duoserve.dev/track", "stable"), "gitops-canary"),
    Mutation("configmap-unused", "canary without own config", lambda d: spec(d, "Deployment", "duoserve-canary")["template"]["spec"]["volumes"][1]["configMap"].update(name="duoserve-models"), "gitops-canary"),
    Mutation("probe-model", "canary other model", lambda d: one(d, "ConfigMap", "duoserve-models-canary")["data"].update({"models.config": one(d, "ConfigMap", "duoserve-models-canary")["data"]["models.config"].replace('"emoji"', '"emoji2"')}), "gitops-canary"),
    Mutation("blocked-names", "NP exporter blocks dns", lambda d: kind("NetworkPolicy", "duoserve-exporter")(d)["egress"].pop(1)),
    Mutation("blocked-egress", "NP exporter egress port", at(kind("NetworkPolicy", "duoserve-exporter"), "egress|0|ports|0|port", "grpc")),
    Mutation("blocked-names", "NP exporter egress dropped", at(kind("NetworkPolicy", "duoserve-exporter"), "egress", [])),
    Mutation("blocked-names", "NP exporter DNS only udp 54", lambda d: [p.update(port=54) for p in kind("NetworkPolicy", "duoserve-exporter")(d)["egress"][1]["ports"]]),
    Mutation("blocked-ingress", "NP server drops exporter", lambda d: NP(d)["ingress"][2]["from"].pop(1)),
    Mutation("selector-template", "NP exporter label changed", at(lambda d: one(d, "Deployment", "duoserve-exporter"), "spec|template|metadata|labels|app.kubernetes.io/component", "exporters")),
    Mutation("port-closed", "NP UDP grpc", lambda d: [r["ports"][0].update(protocol="UDP") for r in NP(d)["ingress"]]),
    Mutation("ingress-open", "NP AND/OR: caller ns+pod split", lambda d: NP(d)["ingress"][1].update({"from": [{"namespaceSelector": {}}, {"podSelector": {"matchLabels": {"duoserve.dev/client": "true"}}}]})),
    Mutation("ingress-open", "NP ns selector all", at(NP, "ingress|2|from|0", {"namespaceSelector": {}})),
    Mutation("policy-types", "NP policyTypes no Ingress", at(NP, "policyTypes", ["Egress"])),
    Mutation("api-word", "NP policyTypes typo", at(NP, "policyTypes", ["ingress", "egress"])),
    Mutation("api-field", "NP endPort below", at(NP, "ingress|0|ports|0", {"port": 8500, "endPort": 8400})),
    Mutation("schema", "client label bool unquoted", at(NP, "ingress|0|from|0|podSelector|matchLabels|duoserve.dev/client", True)),
    Mutation("selects-nothing", "namespace mismatch service", lambda d: one(d, "Service", "duoserve-headless")["metadata"].update(namespace="default")),
    Mutation("missing-serviceaccount", "namespace mismatch SA", lambda d: one(d, "ServiceAccount")["metadata"].pop("namespace")),
    Mutation("missing-claim", "namespace mismatch Deployment", lambda d: one(d, "Deployment")["metadata"].update(namespace="duo")),
    Mutation("namespace", "namespace object other name", lambda d: one(d, "Namespace")["metadata"].update(name="duosrve")),
    Mutation("image-tag", "image tag only", at(server, "image", "registry.example.com/duoserve-serving:1")),
    Mutation("image-name", "image digest short", at(server, "image", "registry.example.com/duoserve-serving@sha256:1234")),
    Mutation("image-name", "image upper", at(server, "image", "Registry/Duoserve:1")),
    Mutation("image-name", "image empty", at(server, "image", "")),
    Mutation("image-pull", "imagePullPolicy Never", at(server, "imagePullPolicy", "Never")),
    Mutation("api-word", "imagePullPolicy typo", at(server, "imagePullPolicy", "ifNotPresent")),
    Mutation("claim-access", "PVC RWOP", at(kind("PersistentVolumeClaim", "duoserve-models"), "accessModes", ["ReadWriteOncePod"])),
    Mutation("api-word", "PVC mode typo", at(kind("PersistentVolumeClaim", "duoserve-models"), "accessModes", ["RWX"])),
    Mutation("claim-writer", "PVC ReadOnlyMany but export writes", at(kind("PersistentVolumeClaim", "duoserve-models"), "accessModes", ["ReadOnlyMany"])),
    Mutation("quantity", "PVC size 20GB", at(kind("PersistentVolumeClaim", "duoserve-models"), "resources|requests|storage", "20GB")),
    Mutation("store-writable", "server pvc volume RW", lambda d: (pod(d)["volumes"][0]["persistentVolumeClaim"].pop("readOnly"), server(d)["volumeMounts"][0].pop("readOnly"))),
    Mutation("api-field", "mount path relative", at(server, "volumeMounts|0|mountPath", "models")),
    Mutation("strategy-surge", "rolling both 0", lambda d: DEP(d)["strategy"]["rollingUpdate"].update(maxSurge=0)),
    Mutation("strategy-recreate", "strategy typo", at(DEP, "strategy|type", "Rolling")),
    Mutation("paused", "paused", at(DEP, "paused", True)),
    Mutation("progress-short", "minReadySeconds > progress", at(DEP, "minReadySeconds", 10000)),
    Mutation("no-history", "revisionHistory 0", at(DEP, "revisionHistoryLimit", 0)),
    Mutation("no-spread", "spread removed", at(pod, "topologySpreadConstraints", None)),
    Mutation("node-label", "spread topologyKey typo", at(pod, "topologySpreadConstraints|0|topologyKey", "kubernetes.io/zone")),
    Mutation("node-arch", "nodeSelector arm64", at(pod, "nodeSelector", {"kubernetes.io/arch": "arm64"})),
    Mutation("api-field", "restartPolicy Never on deployment", at(pod, "restartPolicy", "Never")),
    Mutation("api-field", "job restartPolicy Always", at(lambda d: spec(d, "Job", "duoserve-export-first")["template"]["spec"], "restartPolicy", "Always")),
    Mutation("schedule", "cron bad field", at(kind("CronJob", "duoserve-export"), "schedule", "77 3 * * 1")),
    Mutation("schedule", "cron six fields", at(kind("CronJob", "duoserve-export"), "schedule", "0 17 3 * * 1")),
    Mutation("schedule", "cron tz typo", at(kind("CronJob", "duoserve-export"), "timeZone", "Europe/Berln")),
    Mutation("api-label", "label invalid value", lambda d: spec(d, "Deployment")["template"]["metadata"]["labels"].update({"app.kubernetes.io/version": "v1 beta"})),
    Mutation("api-name", "name invalid", lambda d: one(d, "ServiceAccount").__getitem__("metadata").update(name="Duoserve_SA")),
    Mutation("command", "command typo in exporter", at(cont("duoserve-exporter"), "command", ["python", "-m", "serving.exportr"])),
    Mutation("exporter", "exporter port", at(cont("duoserve-exporter"), "args|4", "--port=9109")),
    Mutation("exporter-options", "exporter flag typo", at(cont("duoserve-exporter"), "args|2", "--labels=stable")),
    Mutation("exporter", "exporter target cluster ip service", at(cont("duoserve-exporter"), "args|0", "--target=duoserve:8501")),
    Mutation("exporter", "exporter target grpc port", at(cont("duoserve-exporter"), "args|0", "--target=duoserve-headless:8500")),
    Mutation("env-unknown", "server command overrides entrypoint with drain env", at(server, "command", ["/usr/bin/tensorflow_model_server"])),
    Mutation("command", "server command typo", at(server, "command", ["/usr/bin/tensorflow_model_sever"])),
    Mutation("api-twice", "dup container names", lambda d: pod(d)["containers"].append(copy.deepcopy(server(d)))),
    Mutation("no-server", "args missing", at(server, "args", [])),
    Mutation("unknown-kind", "kind typo", lambda d: one(d, "PodDisruptionBudget").update(kind="PodDisruptionBudgt")),
    Mutation("unknown-kind", "apiVersion old", lambda d: one(d, "HorizontalPodAutoscaler").update(apiVersion="autoscaling/v2beta2")),
    Mutation("tls-config", "ssl flag without TLS dir/mount", lambda d: server(d)["args"].append("--ssl_config_file=/etc/tls/ssl.config")),
    Mutation("tls-config", "mtls env removed", lambda d: server(d).update(env=[e for e in server(d)["env"] if e["name"] != "DUOSERVE_TLS_DIR"]), "component:mtls"),
    Mutation("tls-folder", "mtls mount path", lambda d: [m.update(mountPath="/etc/tls") for m in server(d)["volumeMounts"] if m["name"] == "tls"], "component:mtls"),
    Mutation(
        "scaler-twice",
        "keda and HPA",
        lambda d: d.append(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "h", "namespace": "duoserve"},
                "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "duoserve"}, "minReplicas": 2, "maxReplicas": 4, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}]},
            }
        ),
        "component:autoscale-queue",
    ),
    Mutation("scaler-range", "keda min 0", at(kind("ScaledObject"), "minReplicaCount", 0), "component:autoscale-queue"),
    Mutation("device", "gpu request w/o limit", at(server, "resources|limits|nvidia.com/gpu", None), "component:gpu"),
    Mutation("quantity", "gpu fraction", at(server, "resources|limits|nvidia.com/gpu", "0.5"), "component:gpu"),
    Mutation("grace-short", "kserve grace", at(lambda d: spec(d, "InferenceService")["predictor"], "terminationGracePeriodSeconds", None), "kserve"),
    Mutation("kserve-port", "kserve rest port first", lambda d: spec(d, "InferenceService")["predictor"]["containers"][0]["ports"].reverse(), "kserve"),
    Mutation("store-mount", "image volume zero mount path", lambda d: [m.update(mountPath="/models/emoij/1") for m in server(d)["volumeMounts"] if m["name"] == "model-1"], "component:image-volume"),
    Mutation("image-tag", "image volume tag latest", lambda d: [v["image"].update(reference="registry.example.com/emoji:latest") for v in pod(d)["volumes"] if "image" in v], "component:image-volume"),
]  # fmt: skip
