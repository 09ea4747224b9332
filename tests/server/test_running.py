"""A running server drains, reloads, warms up, serves TLS, and swaps versions under load."""

from __future__ import annotations

import concurrent.futures
import datetime
import ipaddress
import json
import pathlib
import random
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2, prediction_service_pb2_grpc

from serving.local.metrics import MAX_CELLS, Metric
from serving.local.rpc.health import Health
from serving.local.testing import LocalServer, free_port
from tests.conformance.pair import predict_request, write_warmup

Serve = Callable[..., LocalServer]
Stub = Callable[[LocalServer], Any]

# One call waits this long for others, and costs no CPU meanwhile: a slow call.
SLOW_SECONDS = 1.5


@pytest.fixture
def slow_flags(tmp_path: pathlib.Path) -> list[str]:
    path = tmp_path / "slow.config"
    path.write_text(f"max_batch_size {{ value: 64 }} batch_timeout_micros {{ value: {int(SLOW_SECONDS * 1e6)} }}")
    return ["--enable_batching", f"--batching_parameters_file={path}", "--grpc_max_threads=32"]


def publish(models: pathlib.Path, store: pathlib.Path, version: int) -> None:
    shutil.copytree(models / str(version), store / f".{version}")
    (store / f".{version}").rename(store / str(version))


def until_answers(call: Callable[[], int], version: int) -> None:
    deadline = time.monotonic() + 20
    while call() != version:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_lets_calls_in_flight_finish(serve: Serve, stub: Stub, slow_flags: list[str]) -> None:
    server = serve(*slow_flags)
    predict = stub(server).Predict
    predict(predict_request(), timeout=60)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(predict, predict_request(), timeout=20) for _ in range(8)]
        time.sleep(SLOW_SECONDS / 3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(SLOW_SECONDS / 3)
        with pytest.raises(grpc.RpcError) as refused, grpc.insecure_channel(server.address) as fresh:
            prediction_service_pb2_grpc.PredictionServiceStub(fresh).Predict(predict_request(), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert all(call.result().model_spec.version.value == 1 for call in calls)
    assert server.process.wait(20) == 0


def test_the_drain_ends_when_its_time_is_up(serve: Serve, stub: Stub, slow_flags: list[str]) -> None:
    server = serve(*slow_flags, "--drain_seconds=0.2")
    predict = stub(server).Predict
    call = predict.future(predict_request(), timeout=20)
    time.sleep(0.3)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10
    assert call.exception() is not None


def test_a_call_ends_on_the_version_it_began_on(
    serve: Serve, stub: Stub, slow_flags: list[str], store: pathlib.Path, pair_models: pathlib.Path
) -> None:
    server = serve(*slow_flags)
    predict, models = stub(server).Predict, stub(server).models
    began = predict.future(predict_request(), timeout=20)
    publish(pair_models, store, 2)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "pair"

    def newest() -> int:
        statuses = models.GetModelStatus(request, timeout=60).model_version_status
        return max(each.version for each in statuses if each.state == 30)

    until_answers(newest, 2)
    assert began.result().model_spec.version.value == 1
    assert predict(predict_request(), timeout=20).model_spec.version.value == 2


def test_versions_swap_under_load_without_an_error(
    serve: Serve, stub: Stub, store: pathlib.Path, pair_models: pathlib.Path
) -> None:
    predict = stub(serve("--grpc_max_threads=16")).Predict
    stop, answers = threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            answers.append(predict(predict_request(), timeout=60).model_spec.version.value)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        for version in (2, 3):
            publish(pair_models, store, version)
            until_answers(lambda: answers[-1] if answers else 0, version)
        stop.set()
        for caller in callers:
            caller.result(10)
    assert set(answers) == {1, 2, 3}


def test_the_next_version_serves_when_the_folder_of_the_newest_is_deleted(
    serve: Serve, stub: Stub, store: pathlib.Path, pair_models: pathlib.Path
) -> None:
    publish(pair_models, store, 2)
    server = serve()
    predict = stub(server).Predict
    assert predict(predict_request(), timeout=60).model_spec.version.value == 2
    shutil.rmtree(store / "2")
    until_answers(lambda: predict(predict_request(), timeout=60).model_spec.version.value, 1)


def test_warmup_off_lets_a_bad_record_pass(serve: Serve, stub: Stub, store: pathlib.Path) -> None:
    write_warmup(store / "1", predict_request(length=1, token=10))
    predict = stub(serve("--enable_model_warmup=false")).Predict
    assert predict(predict_request(), timeout=60)


def test_a_broken_config_at_a_poll_changes_nothing(
    serve: Serve, stub: Stub, store: pathlib.Path, tmp_path: pathlib.Path, pair_models: pathlib.Path
) -> None:
    config = tmp_path / "models.config"

    def write(text: str) -> None:
        (tmp_path / ".new").write_text(text)
        (tmp_path / ".new").rename(config)

    def models(policy: str, labels: str = "") -> str:
        return (
            f'model_config_list {{ config {{ name: "pair" base_path: "{store}" model_platform: "tensorflow" '
            f"model_version_policy {{ {policy} }} {labels} }} }}"
        )

    write(models("specific { versions: 1 }"))
    server = serve(f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    predict = stub(server).Predict
    write("model_config_list { broken")
    deadline = time.monotonic() + 10
    while "Models and labels stay as they are" not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert predict(predict_request(version=1), timeout=60)
    publish(pair_models, store, 2)
    write(models("all { }", 'version_labels { key: "stable" value: 1 }'))
    until_answers(lambda: predict(predict_request(), timeout=60).model_spec.version.value, 2)
    assert predict(predict_request(label="stable"), timeout=60).model_spec.version.value == 1


def test_health_is_not_serving_during_the_drain(serve: Serve, stub: Stub, slow_flags: list[str]) -> None:
    server = serve(*slow_flags, "--enable_grpc_healthcheck_service")
    call = stub(server).Predict.future(predict_request(), timeout=20)
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert call.result()


def test_a_watcher_gets_one_message_at_a_time() -> None:
    """gRPC refuses a second message at a time, and the drain would then never end."""
    health, at_once, most, got = Health(), 0, 0, []
    first = threading.Event()

    def send(reply: bytes | None) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        first.set()
        time.sleep(0.2)
        got.append(reply and health_pb2.HealthCheckResponse.FromString(reply).status)
        at_once -= 1

    class Context:
        def add_callback(self, callback: object) -> bool:
            return True

    watching = threading.Thread(target=health._watch, args=(b"", Context(), send))
    watching.start()
    assert first.wait(5)
    health.drain()
    watching.join(5)
    kinds = health_pb2.HealthCheckResponse
    assert most == 1 and got == [kinds.SERVING, kinds.NOT_SERVING]


def test_watching_health_holds_no_thread(serve: Serve, stub: Stub) -> None:
    server = serve("--enable_grpc_healthcheck_service", "--grpc_max_threads=2")
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(50)]
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
        assert stub(server).Predict(predict_request(), timeout=60)
        for watch in watches:
            watch.cancel()


def test_invented_model_names_do_not_fill_the_metrics() -> None:
    metric = Metric("m", "counter", ("model_name",))
    for number in range(5000):
        metric.add(f"model {number}")
    assert len(metric.lines()) <= MAX_CELLS + 2
    assert 'm{model_name=""} 4000' in metric.lines()


def test_metrics_count_what_happened(serve: Serve, stub: Stub, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "monitoring.config"
    path.write_text("prometheus_config { enable: true }")
    server = serve(f"--monitoring_config_file={path}", rest=True)
    predict = stub(server).Predict
    for _ in range(3):
        predict(predict_request(), timeout=60)
    with pytest.raises(grpc.RpcError):
        predict(predict_request(version=9), timeout=60)
    body = json.dumps({"signature_name": "regress", "examples": [{"x": [1.0, 2.0, 3.0]}] * 2}).encode()
    urllib.request.urlopen(f"{server.rest_url}/v1/models/pair:regress", body, timeout=60).close()
    with urllib.request.urlopen(f"{server.rest_url}/monitoring/prometheus/metrics", timeout=60) as reply:
        page = reply.read().decode()
    for line in (
        ':tensorflow:serving:request_count{model_name="pair",status="OK"} 4',
        ':tensorflow:serving:request_count{model_name="pair",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_latency_count{model_name="pair",API="Predict",entrypoint="GRPC"} 3',
        ':tensorflow:serving:request_latency_count{model_name="pair",API="regress",entrypoint="REST"} 1',
        ':tensorflow:serving:request_example_count_total{model="pair"} 2',
    ):
        assert line in page.splitlines()


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.pem = self._sign(self._name, self._key.public_key(), authority=True)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> str:
        now = datetime.datetime.now(datetime.timezone.utc)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(names, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def pair(self, common_name: str) -> tuple[str, str]:
        """A key and its certificate, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private.decode(), self._sign(name, key.public_key(), authority=False)


@pytest.mark.parametrize("verify", [False, True])
def test_tls_with_and_without_client_certificates(serve: Serve, tmp_path: pathlib.Path, verify: bool) -> None:
    authority = Authority()
    key, certificate = authority.pair("server")
    config = tmp_path / "ssl.config"
    config.write_text(
        f"server_key: {json.dumps(key)} server_cert: {json.dumps(certificate)} "
        f"custom_ca: {json.dumps(authority.pem)} client_verify: {str(verify).lower()}"
    )
    server = serve(f"--ssl_config_file={config}")
    client_key, client_certificate = authority.pair("client")
    known = grpc.ssl_channel_credentials(authority.pem.encode(), client_key.encode(), client_certificate.encode())
    unknown = grpc.ssl_channel_credentials(authority.pem.encode())

    def call(channel: grpc.Channel) -> None:
        with channel:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request(), timeout=60)

    call(grpc.secure_channel(server.address, known))
    refused = [grpc.insecure_channel(server.address)]
    if verify:
        refused.append(grpc.secure_channel(server.address, unknown))
    else:
        call(grpc.secure_channel(server.address, unknown))
    for channel in refused:
        with pytest.raises(grpc.RpcError) as error:
            call(channel)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_more_calls_than_threads_are_refused_at_once(serve: Serve, stub: Stub, slow_flags: list[str]) -> None:
    predict = stub(serve(*slow_flags[:2], "--grpc_max_threads=5")).Predict
    calls = [predict.future(predict_request(), timeout=20) for _ in range(10)]
    codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.OK) == 4
    refused = [call.details() for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert refused == ["Server Threadpool Exhausted"] * 6


def test_a_deadline_that_passes_during_the_run_ends_the_call(serve: Serve, stub: Stub, slow_flags: list[str]) -> None:
    predict = stub(serve(*slow_flags)).Predict
    with pytest.raises(grpc.RpcError) as error:
        predict(predict_request(), timeout=0.3)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert predict(predict_request(), timeout=20)


def test_two_test_runs_of_one_seed_are_given_different_ports() -> None:
    """Hypothesis seeds every worker alike: two workers must not draw the same port."""
    state, found = random.getstate(), []
    for _ in range(2):
        random.seed(0)
        found.append([free_port() for _ in range(3)])
    random.setstate(state)
    assert found[0] != found[1]
