"""The gateway canary: a real Envoy with the weights of the route, called by our client."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duoserve import Client, PreprocessingSpec, Preprocessor
from serving.local.testing import free_port
from tests.client.conftest import jpeg, spec1, spec3, tokenizers
from tests.client.fake import FakeServer, Version
from tests.k8s import renders
from tests.k8s.tools import listens, tool

__all__ = ["jpeg", "spec1", "spec3", "tokenizers"]


def envoy_config(port: int, route: dict[str, Any], addresses: dict[str, str]) -> dict[str, Any]:
    """A GRPCRoute as Envoy takes it: what a Gateway API controller makes of it."""

    def address(where: str) -> dict[str, Any]:
        host, _, number = where.rpartition(":")
        return {"socket_address": {"address": host, "port_value": int(number)}}

    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            },
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(where)}}]}],
            },
        }
        for name, where in addresses.items()
    ]
    routes = []
    for rule in route["spec"]["rules"]:
        weights = [{"name": ref["name"], "weight": ref["weight"]} for ref in rule["backendRefs"]]
        for match in rule["matches"]:
            method, service = match["method"].get("method"), match["method"]["service"]
            path = {"path": f"/{service}/{method}"} if method else {"prefix": f"/{service}/"}
            routes.append({"match": {**path, "grpc": {}}, "route": {"weighted_clusters": {"clusters": weights}}})
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{filters}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "grpc",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@contextlib.contextmanager
def envoy(config: dict[str, Any], port: int, folder: Path) -> Iterator[None]:
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    log = (folder / "envoy.log").open("w")
    command = [tool("envoy"), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not listens("127.0.0.1", port):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "envoy.log").read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_the_weights_of_the_route_hold(
    tmp_path: Path, spec1: PreprocessingSpec, spec3: PreprocessingSpec, jpeg: bytes
) -> None:
    route = next(d for d in renders.documents("gitops-canary") if d["kind"] == "GRPCRoute")
    port, calls = free_port(), 2000
    with FakeServer(Version(spec1), labels={"stable": 1}) as stable, FakeServer(Version(spec3)) as canary:
        config = envoy_config(port, route, {"duoserve": stable.address, "duoserve-canary": canary.address})
        with envoy(config, port, tmp_path), Client(f"127.0.0.1:{port}", model="pairs", version=1) as client:
            # Both tracks prepare alike here; who answered is counted where it was answered.
            canary.versions[1] = Version(spec1)
            prepared = Preprocessor(spec1)
            tensors = {"image": prepared.image(jpeg)[None], "tokens": prepared.tokens("red heart")[None]}
            for _ in range(calls):
                client.run("serving_default", tensors)
        answered = Counter(stable=len(stable.predictions()), canary=len(canary.predictions()))
    weights = [ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]]
    share = weights[1] / sum(weights)
    total = answered.total()
    sigma = (total * share * (1 - share)) ** 0.5
    assert total >= calls
    assert abs(answered["canary"] - total * share) <= 3 * sigma, answered


def test_the_route_blocks_config_reloads(tmp_path: Path, spec1: PreprocessingSpec) -> None:
    """HandleReloadConfigRequest needs no password: the gateway must not know it."""
    import grpc

    route = next(d for d in renders.documents("gitops-canary") if d["kind"] == "GRPCRoute")
    port = free_port()
    with FakeServer(Version(spec1)) as server:
        config = envoy_config(port, route, {"duoserve": server.address, "duoserve-canary": server.address})
        with envoy(config, port, tmp_path), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            reload = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
            with pytest.raises(grpc.RpcError) as refused:
                reload(b"", timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
