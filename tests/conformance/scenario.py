"""Plays a recorded scenario against a server and finds where its answers differ from the recorded ones."""

from __future__ import annotations

import http.client
import json
import math
import pathlib
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf import json_format, message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.local.tensors import to_array
from serving.local.testing import LocalServer, ServerDiedError
from tests.conformance.pair import predict_request, write_warmup

CASES = pathlib.Path(__file__).with_name("cases")
CALL_SECONDS = 30.0
# Longer than two polls of the config file: enough to see that nothing changes.
SETTLE_SECONDS = 2.5

_REQUESTS: dict[str, Any] = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}

Server = Callable[[pathlib.Path, list[str], bool], LocalServer]
"""Starts a server, given the folder that $ROOT stands for, its flags and whether REST is open; does not wait for it."""


def load(name: str) -> dict[str, Any]:
    return json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.json"))


class Player:
    """One run of one scenario."""

    def __init__(self, scenario: dict[str, Any], root: pathlib.Path, models: pathlib.Path, start: Server) -> None:
        self._scenario = scenario
        self._root = root
        self._models = models
        self._pair = root / "models" / "pair"
        self._pair.mkdir(parents=True)
        for version in scenario["versions"]:
            self._copy(version, str(version))
        for name, text in scenario["files"].items():
            self._write(name, text)
        rest = any(step["step"] == "http" for step in scenario["steps"])
        self.server = start(root, [self._rooted(flag) for flag in scenario["flags"]], rest)
        self._channel = grpc.insecure_channel(self.server.address, [("grpc.max_reconnect_backoff_ms", 200)])

    def close(self) -> None:
        self._channel.close()
        self.server.stop(kill=True)

    def play(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """Each step with the answer that it got, to the first one that ends the server; None where none is recorded."""
        steps = self._scenario["steps"]
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            answer = self._step(step)
            yield step, answer
            if step["step"] == "open" and not answer["port_open"]:
                return
            if step["step"] == "write" and following and following["step"] == "rpc":
                time.sleep(SETTLE_SECONDS)

    def _rooted(self, value: Any) -> Any:
        return json.loads(json.dumps(value).replace("$ROOT", str(self._root)))

    def _copy(self, version: int, name: str) -> None:
        shutil.copytree(self._models / str(version), self._pair / name)

    def _publish(self, version: int, change: Callable[[pathlib.Path], Any]) -> None:
        hidden = self._pair / ".next"
        shutil.copytree(self._models / str(version), hidden)
        change(hidden)
        hidden.rename(self._pair / str(version))

    def _write(self, name: str, text: str) -> None:
        temporary = self._root / f".{name}"
        temporary.write_text(self._rooted(text), encoding="utf-8")
        temporary.rename(self._root / name)

    def _step(self, step: dict[str, Any]) -> Any:
        kind = step["step"]
        if kind == "open":
            return self._open()
        if kind == "rpc":
            return self._rpc(step)
        if kind == "until":
            return self._until(step)
        if kind == "health":
            return self._health(step)
        if kind == "http":
            return self._http(step)
        if kind == "signal":
            self.server.process.send_signal(signal.Signals[step["signal"]])
            return {"exit": self._ended()}
        if kind == "write":
            return self._write(step["file"], step["text"])
        return self._do(step["what"])

    def _open(self) -> dict[str, Any]:
        try:
            self.server.wait_until_ready()
        except ServerDiedError as died:
            return {"port_open": False, "exit": died.code}
        return {"port_open": True, "exit": None}

    def _ended(self) -> int:
        """Wait for a server that was terminated or crashes; its exit code, negative for a signal."""
        code = self.server.process.wait(CALL_SECONDS)
        # A shell or container runtime reports a signal as 128 plus its number.
        return 128 - code if code > 128 else code

    def _do(self, what: str) -> None:
        actions: dict[str, Callable[[], Any]] = {
            "version 2 without variables/": lambda: self._publish(2, lambda d: shutil.rmtree(d / "variables")),
            "version 3 with a truncated saved_model.pb": lambda: self._publish(3, _truncate),
            "copy version 2 to the name .tmp-2": lambda: self._copy(2, ".tmp-2"),
            "and to the name v2": lambda: self._copy(2, "v2"),
            "rename .tmp-2 to 2": lambda: (self._pair / ".tmp-2").rename(self._pair / "2"),
            "remove version 2 from disk": lambda: shutil.rmtree(self._pair / "2"),
            "version 2 with a good warmup record": lambda: self._publish(
                2, lambda d: write_warmup(d, predict_request())
            ),
            "version 3 with a warmup record whose token is out of the vocabulary": lambda: self._publish(
                3, lambda d: write_warmup(d, predict_request(length=1, token=10))
            ),
        }
        actions[what]()

    def _rpc(self, step: dict[str, Any]) -> dict[str, Any]:
        name = step["rpc"]
        request = json_format.ParseDict(self._rooted(step["request"]), _REQUESTS[name]())
        model = name in ("GetModelStatus", "HandleReloadConfigRequest")
        stub = (
            model_service_pb2_grpc.ModelServiceStub if model else prediction_service_pb2_grpc.PredictionServiceStub
        )(self._channel)
        return _answer(lambda: getattr(stub, name)(request, timeout=CALL_SECONDS, wait_for_ready=True))

    def _health(self, step: dict[str, Any]) -> dict[str, Any]:
        stub = health_pb2_grpc.HealthStub(self._channel)
        request = health_pb2.HealthCheckRequest(service=step["service"])
        return _answer(lambda: stub.Check(request, timeout=CALL_SECONDS))

    def _until(self, step: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + step["within_s"]
        while True:
            answer = self._rpc(step)
            if time.monotonic() > deadline or not differences(step["result"], answer):
                return answer
            time.sleep(0.1)

    def _http(self, step: dict[str, Any]) -> dict[str, Any]:
        body = step["body"]
        encoding = "latin-1" if step.get("body_is") == "latin-1 bytes" else "utf-8"
        data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode(encoding)
        request = urllib.request.Request(self.server.rest_url + step["path"], data, method=step["method"])
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        except http.client.RemoteDisconnected:
            return {"status": 0, "error": "RemoteDisconnected", "server_died": self._ended()}
        try:
            return {"status": status, "json": json.loads(text)}
        except ValueError:
            return {"status": status, "text": text}


def _truncate(folder: pathlib.Path) -> None:
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _answer(call: Callable[[], message.Message]) -> dict[str, Any]:
    try:
        response = call()
    except grpc.RpcError as error:
        return {"code": error.code().name, "message": error.details()}
    return {"code": "OK", "response": json_format.MessageToDict(response, preserving_proto_field_name=True)}


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def differences(expected: Any, received: Any, path: str = "") -> list[str]:
    """Where an answer differs: codes exactly, messages to their first line break, floats by more than 1e-3."""
    if isinstance(expected, dict) and isinstance(received, dict):
        if "dtype" in expected and ("float_val" in expected or "tensor_content" in expected):
            return _tensor_differences(expected, received, path)
        found = [
            f"{path}.{key}: expected none. Received: {received[key]!r}" for key in received.keys() - expected.keys()
        ]
        for key, value in expected.items():
            if key not in received:
                found.append(f"{path}.{key}: expected {value!r}. Received: none")
            elif key in ("message", "error_message"):
                if _first_line(value) != _first_line(received[key]):
                    found.append(f"{path}.{key}: expected {value!r}. Received: {received[key]!r}")
            else:
                found += differences(value, received[key], f"{path}.{key}")
        return found
    if isinstance(expected, list) and isinstance(received, list) and len(expected) == len(received):
        pairs = enumerate(zip(expected, received, strict=True))
        return [each for index, (left, right) in pairs for each in differences(left, right, f"{path}[{index}]")]
    if isinstance(expected, float) and isinstance(received, (int, float)):
        close = math.isclose(expected, received, abs_tol=1e-3)
        return [] if close else [f"{path}: expected {expected}. Received: {received}"]
    return [] if expected == received else [f"{path}: expected {expected!r}. Received: {received!r}"]


def _tensor_differences(expected: dict[str, Any], received: dict[str, Any], path: str) -> list[str]:
    """Tensors: the same fields are used, and the values are the same within rounding."""
    if expected.keys() != received.keys():
        return [f"{path}: expected fields {sorted(expected)}. Received: {sorted(received)}"]
    tensors = [
        to_array(json_format.ParseDict(each, predict_pb2.PredictRequest().inputs["x"])) for each in (expected, received)
    ]
    if tensors[0].shape != tensors[1].shape or tensors[0].dtype != tensors[1].dtype:
        return [f"{path}: expected {tensors[0]!r}. Received: {tensors[1]!r}"]
    if tensors[0].dtype == object:
        return [] if tensors[0].tolist() == tensors[1].tolist() else [f"{path}: {tensors[0]} != {tensors[1]}"]
    pairs = zip(tensors[0].ravel().tolist(), tensors[1].ravel().tolist(), strict=True)
    same = all((math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-3) for a, b in pairs)
    return [] if same else [f"{path}: expected {tensors[0]!r}. Received: {tensors[1]!r}"]
