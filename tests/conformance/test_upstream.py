"""The checks of TensorFlow Serving's own end-to-end suite (tensorflow_model_server_test.py).

Its checks, against the launcher with the binary's name: started by its flags, models of the
kinds that suite has, the same Unix socket for every server.
"""

from __future__ import annotations

import json
import pathlib
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.local.testing import LocalServer
from tests.conformance.half_plus_model import write as write_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = str(ROOT / "serving" / "local" / "tensorflow_model_server")
VERSION = 123
SECONDS = 60.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("half-plus")
    for name, plus in (("half_plus_two", 2.0), ("half_plus_three", 3.0)):
        write_model(str(out / name / "00000123"), plus)
    return out


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("socket") / "tf-serving.sock"


Run = Callable[..., LocalServer]


@pytest.fixture(scope="module")
def run(socket_path: pathlib.Path) -> Iterator[Run]:
    """Starts servers as the suite does; all live until the end, as there."""
    servers: list[LocalServer] = []

    def start(*flags: str, **options: Any) -> LocalServer:
        added = ("--rest_api_timeout_in_ms=5000", f"--grpc_socket_path={socket_path}")
        servers.append(LocalServer(*flags, *added, rest=True, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop(kill=True)


@pytest.fixture(scope="module")
def server(run: Run, models: pathlib.Path) -> LocalServer:
    """The binary itself."""
    return run("--model_name=default", f"--model_base_path={models / 'half_plus_two'}", command=(BINARY,))


def verify_predict(address: str, expected: float, model: str = "default", *, filtered: bool = True) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(2.0)
    request.inputs["x"].tensor_shape.dim.add().size = 1
    if filtered:
        request.output_filter.append("y")
    with grpc.insecure_channel(address) as channel:
        result = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, SECONDS)
    assert result.outputs["y"].float_val[:] == [expected]
    assert result.model_spec.name == model
    assert result.model_spec.signature_name == "serving_default"
    assert result.model_spec.version.value == VERSION


def rest(server: LocalServer, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"http://localhost:{server.rest_port}{path}", data, timeout=SECONDS) as reply:
        return json.loads(reply.read())


def example(request: Any) -> Any:
    added = request.input.example_list.examples.add()
    added.features.feature["x"].float_list.value.append(2.0)
    return request


def test_predict(server: LocalServer) -> None:
    for filtered in (True, False):
        verify_predict(f"localhost:{server.port}", 3.0, filtered=filtered)


def test_predict_over_the_unix_socket(server: LocalServer, socket_path: pathlib.Path) -> None:
    verify_predict(f"unix:{socket_path}", 3.0)


def test_a_missing_model_is_reported_as_a_servable(server: LocalServer) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "intentionally_missing_model"
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as error:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, SECONDS)
    assert "Servable" in error.value.details()


def test_status_classify_regress_and_multi_inference(server: LocalServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "default"
        versions = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, SECONDS).model_version_status
        assert [(each.version, each.status.error_code) for each in versions] == [(VERSION, 0)]
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        spec = {"name": "default", "signature_name": "classify_x_to_y"}
        classified = stub.Classify(example(classification_pb2.ClassificationRequest(model_spec=spec)), SECONDS)
        assert [each.score for each in classified.result.classifications[0].classes] == [3.0]
        assert classified.model_spec.version.value == VERSION
        spec = {"name": "default", "signature_name": "regress_x_to_y"}
        regressed = stub.Regress(example(regression_pb2.RegressionRequest(model_spec=spec)), SECONDS)
        assert [each.value for each in regressed.result.regressions] == [3.0]
        request = inference_pb2.MultiInferenceRequest()
        for kind in ("regress", "classify"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{kind}")
            task.model_spec.name, task.model_spec.signature_name = "default", f"{kind}_x_to_y"
        many = stub.MultiInference(example(request), SECONDS)
        assert many.results[0].regression_result.regressions[0].value == 3.0
        assert many.results[1].classification_result.classifications[0].classes[0].score == 3.0
        assert {each.model_spec.version.value for each in many.results} == {VERSION}


def test_rest(server: LocalServer) -> None:
    path = "/v1/models/default"
    assert rest(server, f"{path}:predict", {"instances": [2.0, 3.0, 4.0]}) == {"predictions": [3.0, 3.5, 4.0]}
    assert rest(server, f"{path}:predict", {"inputs": [2.0, 3.0, 4.0]}) == {"outputs": [3.0, 3.5, 4.0]}
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]}
    assert rest(server, f"{path}:classify", body) == {"results": [[["", 3.0]]]}
    body["signature_name"] = "regress_x_to_y"
    assert rest(server, f"{path}:regress", body) == {"results": [3.0]}
    available = {
        "version": str(VERSION),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert rest(server, path) == {"model_version_status": [available]}
    metadata = rest(server, f"{path}/metadata")
    assert metadata["model_spec"] == {"name": "default", "signature_name": "", "version": str(VERSION)}
    x = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]
    assert x == {"dtype": "DT_FLOAT", "name": "x:0", "tensor_shape": x["tensor_shape"]}


def test_predict_with_batching(run: Run, models: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "batching_config.txt"
    path.write_text(
        """max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""
    )
    server = run(
        "--model_name=default",
        f"--model_base_path={models / 'half_plus_two'}",
        "--enable_batching",
        f"--batching_parameters_file={path}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb",
    )
    for filtered in (True, False):
        verify_predict(server.address, 3.0, filtered=filtered)


def test_the_config_file_is_polled(run: Run, models: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model_config.txt"

    def write(name: str) -> None:
        path.write_text(
            f'model_config_list: {{ config: {{ name: "{name}", base_path: "{models / name}", '
            'model_platform: "tensorflow" } }'
        )

    write("half_plus_two")
    polling = run(f"--model_config_file={path}", "--model_config_file_poll_wait_seconds=1")
    still = run(f"--model_config_file={path}", "--model_config_file_poll_wait_seconds=0")
    for server in (polling, still):
        verify_predict(server.address, 3.0, "half_plus_two")
    write("half_plus_three")
    time.sleep(3)
    verify_predict(polling.address, 4.0, "half_plus_three")
    verify_predict(still.address, 3.0, "half_plus_two")


def test_a_bad_config_file_is_reported_on_stderr(run: Run, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bad_model_config.txt"
    path.write_text("improperly formatted file")
    server = run(f"--model_config_file={path}", wait=False)
    assert server.process.wait(60) == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in server.log
