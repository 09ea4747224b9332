"""The doctor on manifests by others: it detects how the server is started, and reports nothing false.

Their structures are those of public manifests, rewritten.
"""

from __future__ import annotations

from typing import Any

import pytest

from duoserve.artifact.releases import SERVER_VERSION
from serving.check import Manifests, check
from serving.check.manifests.servers import Server, servers

IMAGE = f"tensorflow/serving:{SERVER_VERSION}"
PORTS = [{"containerPort": 8500}, {"containerPort": 8501}]
CONFIG = {
    "kind": "ConfigMap",
    "apiVersion": "v1",
    "metadata": {"name": "settings"},
    "data": {"MODEL_NAME": "cats", "MODEL_PATH": "gs://bucket/cats"},
}
KEY = {"name": "settings", "key": "MODEL_NAME"}
REST_AND_NAME = "--rest_api_port=9001 --model_name=cats"


def shape(service: dict[str, Any] | None = None, replicas: int = 2, **container: Any) -> list[dict[str, Any]]:
    """A Deployment of one container, and its Service."""
    labels = {"app": "cats"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "model", "image": IMAGE, "ports": PORTS, **container}]},
    }
    ports = {"ports": [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}], **(service or {})}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "cats"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cats"}, "spec": {"selector": labels, **ports}},
        CONFIG,
    ]


def read(documents: list[dict[str, Any]]) -> tuple[Server, set[str]]:
    """The server, and the rules that it breaks."""
    manifests = Manifests(documents)
    (server,) = servers(manifests)
    return server, {finding.rule for finding in check(manifests)}


@pytest.mark.parametrize(
    ("container", "grpc", "rest", "names"),
    [
        ({"args": ["--model_name=cats", "--model_base_path=/models/cats"]}, 8500, 8501, {"cats"}),
        ({"env": [{"name": "MODEL_NAME", "value": "cats"}]}, 8500, 8501, {"cats"}),
        ({"image": "me/cats:1", "env": [{"name": "MODEL_NAME", "value": "cats"}]}, 8500, 8501, {"cats"}),
        ({"image": "me/cats-tf-serving:1"}, 8500, 8501, set()),
        ({"args": ["/usr/bin/tensorflow_model_server", "--port=9000", "--model_name=cats"]}, 9000, 8501, {"cats"}),
        ({"command": ["tensorflow_model_server"], "args": ["--port=9000", "--model_name=cats"]}, 9000, 0, {"cats"}),
        (
            {"command": ["/bin/sh", "-c"], "args": [f"exec tensorflow_model_server --port=9000 \\\n {REST_AND_NAME}"]},
            9000, 9001, {"cats"},
        ),
        (
            {"command": ["sh", "-c", 'NAME=cats; cd / && tf_serving_entrypoint.sh --model_name="$NAME" "$@"']},
            8500, 8501, {"cats"},
        ),
        (
            {"args": ["--model_name=$(MODEL_NAME)"], "envFrom": [{"configMapRef": {"name": "settings"}}]},
            8500, 8501, {"cats"},
        ),
        (
            {"args": ["--model_name=$(WHICH)"], "env": [{"name": "WHICH", "valueFrom": {"configMapKeyRef": KEY}}]},
            8500, 8501, {"cats"},
        ),
        ({"args": ["--model_name=$(WHICH)"], "envFrom": [{"secretRef": {"name": "s"}}]}, 8500, 8501, set()),
    ],
)  # fmt: skip
def test_a_server_is_read_however_it_is_started(
    container: dict[str, Any], grpc: int, rest: int, names: set[str]
) -> None:
    server, found = read(shape(**container))
    assert (server.grpc_port, server.rest_port, server.names()) == (grpc, rest, names)
    assert not found & {"flag-variable", "flag-unknown", "flag-twice", "no-server", "command-form"}


def test_ports_need_neither_a_name_nor_a_declaration() -> None:
    for ports in (PORTS, [{"containerPort": 8501}], []):
        _, found = read(shape(ports=ports))
        assert not found & {"missing-port", "flag-port", "probe-port"}
    _, found = read(shape({"ports": [{"port": 80, "targetPort": 8080}]}))
    assert "missing-port" in found


@pytest.mark.parametrize(
    "how",
    [{}, {"command": ["tensorflow_model_server"], "args": ["--rest_api_port=8501", "--model_base_path=/models/a"]}],
)
def test_tensor_content_is_refused_wherever_rest_is_open(how: dict[str, Any]) -> None:
    flag = "--enable_serialization_as_tensor_content=true"
    container = {**how, "args": [*how.get("args", []), flag]}
    assert "flag-tensor-content" in read(shape(**container))[1]
    closed = {"command": ["tensorflow_model_server"], "args": [flag, "--model_base_path=/models/a"]}
    assert "flag-tensor-content" not in read(shape(**closed))[1]


def test_a_store_in_a_bucket_needs_no_mount_and_a_way_out() -> None:
    _, found = read(shape(args=["--model_name=cats", "--model_base_path=gs://bucket/cats"]))
    assert not found & {"store-mount", "egress-open", "models-path"}
    _, found = read(shape(args=["--model_name=cats", "--model_base_path=/models/cats"]))
    assert "store-mount" in found


def test_a_config_file_of_a_volume_that_is_not_here_is_not_judged() -> None:
    mount = {"volumeMounts": [{"name": "store", "mountPath": "/models"}]}
    documents = shape(args=["--model_config_file=/models/models.config"], **mount)
    documents[0]["spec"]["template"]["spec"]["volumes"] = [{"name": "store", "hostPath": {"path": "/srv"}}]
    assert not read(documents)[1] & {"flag-file", "models-syntax", "flag-model"}
    assert "flag-file" in read(shape(args=["--model_config_file=/models/models.config"]))[1]


def test_rest_behind_a_load_balancer_is_not_called_grpc() -> None:
    rest = {"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": 8501}]}
    _, found = read(shape(rest))
    assert "service-exposed-rest" in found and not found & {"service-exposed", "no-headless", "app-protocol"}


def test_shares_of_few_replicas_round_down() -> None:
    assert "strategy-unavailable" not in read(shape(replicas=3))[1]
    assert "strategy-unavailable" in read(shape(replicas=4))[1]


def test_one_replica_needs_no_budget_and_no_spread() -> None:
    assert not read(shape(replicas=1))[1] & {"no-budget", "no-spread"}
    assert read(shape(replicas=2))[1] >= {"no-budget", "no-spread"}


@pytest.mark.parametrize(
    "script", ["while pgrep tensorflow_model_server; do sleep 1; done", "echo tf_serving_entrypoint.sh"]
)
def test_a_sidecar_that_looks_for_the_server_is_not_a_server(script: str) -> None:
    documents = shape()
    sidecar = {"name": "watch", "image": "busybox:1.36", "command": ["sh", "-c", script]}
    documents[0]["spec"]["template"]["spec"]["containers"].append(sidecar)
    server, found = read(documents)
    assert server.data["name"] == "model" and "command-form" not in found


def test_a_form_that_is_not_understood_is_named() -> None:
    documents = shape(command=["/run.sh"])
    (found,) = [f for f in check(Manifests(documents)) if f.rule == "command-form"]
    assert found.object == "Deployment/cats" and "/run.sh" in found.received
