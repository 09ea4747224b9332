"""Mistakes in the rollout, its rights, monitoring and alerts."""

# ruff: noqa: E501 -- a table: one row a mistake

from __future__ import annotations

from tests.k8s.mutations.edits import (
    AUTOSCALER,
    BINDING,
    ROLE,
    Mutation,
    at,
    config_again,
    expression,
    job,
    kind,
    made,
    one,
    rollout_settings,
    text,
)

MUTATIONS = [
    # Rollout.
    Mutation("rollout-rights", "no right to patch", lambda d: ROLE(d)[0].update(verbs=["get"]), "component:rollout"),
    Mutation("rollout-rights", "rights on another ConfigMap", lambda d: ROLE(d)[0].update(resourceNames=["duoserve-model"]), "component:rollout"),
    Mutation("rollout-rights", "no lock", lambda d: ROLE(d)[1].update(apiGroups=[""]), "component:rollout"),
    Mutation("rollout-rights", "no list of pods", lambda d: ROLE(d).pop(), "component:rollout"),
    Mutation("rollout-token", "no token", lambda d: job(d)["spec"]["containers"][0]["volumeMounts"].pop(2), "component:rollout"),
    Mutation("rollout-owner", "a config that the next apply puts back", config_again, "component:rollout"),
    Mutation("rollout-config", "the config of another namespace", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(2, "--config=configmap:default/duoserve-models"), "component:rollout"),
    Mutation("rollout-config", "the same as two words", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(slice(2, 3), ["--config", "configmap:default/duoserve-models"]), "component:rollout"),
    Mutation("rollout-replicas", "a selector of no replica", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(3, "--replica=pods:duoserve/app=duoserve:8500"), "component:rollout"),
    Mutation("rollout-replicas", "replicas at the REST port", lambda d: job(d)["spec"]["containers"][0]["args"].__setitem__(3, "--replica=pods:duoserve/app.kubernetes.io/component=server:8501"), "component:rollout"),
    Mutation("blocked-api", "a rollout that may not call the API server", lambda d: kind("NetworkPolicy", "duoserve-rollout")(d)["egress"].pop(1), "component:rollout"),
    Mutation("rollout-size", "more replicas than there are", at(AUTOSCALER, "minReplicas", 1), "component:rollout"),
    Mutation("rollout-settings", "a rollout of another model", lambda d: (config_again(d), rollout_settings(d).update({"rollout.toml": 'model = "emojis"'})), "component:rollout"),
    Mutation("rollout-settings", "settings that are not TOML", lambda d: rollout_settings(d).update({"rollout.toml": "model = emoji"}), "component:rollout"),
    # Rights.
    Mutation("rights-wide", "all verbs", lambda d: ROLE(d)[0].update(verbs=["*"]), "component:rollout"),
    Mutation("rights-wide", "secrets", lambda d: ROLE(d)[4].update(resources=["pods", "secrets"]), "component:rollout"),
    Mutation("binding-role", "a binding of no Role", lambda d: BINDING(d)["roleRef"].update(name="duoserve-rolout"), "component:rollout"),
    Mutation("binding-subject", "a binding for nobody", lambda d: BINDING(d)["subjects"][0].update(name="rollout"), "component:rollout"),
    Mutation("binding-subject", "a binding into another namespace", lambda d: BINDING(d)["subjects"][0].update(namespace="default"), "component:rollout"),
    # Monitoring.
    Mutation("monitoring", "metrics off", text("monitoring.config", "enable: true", "enable: false")),
    Mutation("monitoring", "monitoring typo", text("monitoring.config", "prometheus_config", "prometheus_conf")),
    Mutation("monitoring", "monitoring enable typo", text("monitoring.config", "enable: true", "enabled: true")),
    Mutation("monitoring-path", "another metrics path", at(kind("PodMonitor"), "podMetricsEndpoints|0|path", "/metrics")),
    Mutation("monitoring-path", "monitoring path in config", text("monitoring.config", "/monitoring/prometheus/metrics", "/metrics")),
    Mutation("monitoring-path", "PodMonitor exporter path", at(kind("PodMonitor", "duoserve-exporter"), "podMetricsEndpoints|0|path", "/monitoring")),
    Mutation(
        "monitoring-path",
        "ServiceMonitor path",
        lambda d: d.append({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x", "namespace": "duoserve"}, "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "duoserve"}}, "endpoints": [{"port": "rest", "path": "/metrics"}]}}),
    ),
    Mutation("monitor-timeout", "PodMonitor timeout > interval", at(kind("PodMonitor"), "podMetricsEndpoints|0|scrapeTimeout", "30s")),
    Mutation("monitor-empty", "PodMonitor empty endpoints", at(kind("PodMonitor"), "podMetricsEndpoints", [])),
    # Alerts.
    Mutation("rule-metric", "PrometheusRule metric of another name", lambda d: [r.update(expr=r["expr"].replace("duoserve_label_version", "duoserve_labels_version")) for g in one(d, "PrometheusRule")["spec"]["groups"] for r in g["rules"]]),
    Mutation("rule-metric", "metric without its colons", lambda d: one(d, "PrometheusRule")["spec"]["groups"][0]["rules"][0].update(expr="sum(rate(tensorflow_serving_request_count[5m]))")),
    Mutation("rule-metric", "metric that the server lacks", lambda d: one(d, "PrometheusRule")["spec"]["groups"][0]["rules"][0].update(expr='sum(rate(:tensorflow:serving:requests_count{status="OK"}[5m]))')),
    Mutation("rule-value", "alerts on a label that nobody has", expression('label="stable"', 'label="prod"')),
    Mutation("rule-value", "alerts on a model that nobody serves", expression("request_latency_count{", 'request_latency_count{model_name="emojis",')),
    Mutation("rule-syntax", "a bracket too few", expression("[5m]))", "[5m])")),
    Mutation("rule-syntax", "a quote too few", expression('label="stable"', 'label="stable')),
    Mutation("rule-syntax", "brackets crossed", expression("[5m]))", "[5m)])")),
    # Contents.
    Mutation("content", "a dashboard cut off", made("ConfigMap", data={"dashboard.json": '{"panels": ['})),
    Mutation("content", "a file of rules that is no YAML", made("ConfigMap", data={"rules.yaml": "a: [1"})),
]  # fmt: skip
