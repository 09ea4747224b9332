"""A small scripted TensorFlow Serving: versions, labels and faults as a test wants them. No TensorFlow."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from duoserve._wire import wire_pb2 as wire
from duoserve._wire.tensors import decode_tensor
from duoserve.contract import SERVING_DEFAULT, PreprocessingSpec, signatures
from duoserve.preprocessing.preprocessor import Preprocessor

NUMBERS = {"float32": 1, "int32": 3, "uint8": 4, "string": 7}


class Abort(Exception):  # noqa: N818 -- named after grpc's context.abort
    """Raised by a hook to end a call with a status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@dataclasses.dataclass
class Version:
    """A served version: its spec, and how it answers."""

    spec: PreprocessingSpec
    tensor_content: bool = False

    def probabilities(self, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """A function of every pixel and token, so that input for another version shows."""
        n, c = len(image), len(self.spec.labels)
        seed = image.reshape(n, -1).astype(np.int64).sum(axis=1) + 7 * tokens.astype(np.int64).sum(axis=1)
        logits = np.stack([(seed * (k + 1)) % 17 for k in range(c)], axis=1) / 4.0
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)

    def embedding(self, image: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Vectors of length 1."""
        numbers = np.arange(1, self.spec.embedding_length + 1)
        seed = image.reshape(len(image), -1).astype(np.int64).sum(axis=1) + 7 * tokens.astype(np.int64).sum(axis=1)
        found = 1 + np.outer(seed, numbers) % 13
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    def explanation(self, image: np.ndarray, tokens: np.ndarray, class_id: np.ndarray) -> dict[str, np.ndarray]:
        """Relevances that show whose they are: a patch has its place's number, a token its id, in thousandths."""
        assert self.spec.explain_grid is not None
        probabilities = self.probabilities(image, tokens)
        chosen = np.where(class_id < 0, probabilities.argmax(axis=1), class_id).astype(np.int32)
        patches = np.arange(np.prod(self.spec.explain_grid)).reshape(self.spec.explain_grid) - 3
        return {
            "class_id": chosen,
            self.spec.answer.value: np.take_along_axis(probabilities, chosen[:, None], 1)[:, 0],
            "image_relevance": np.stack([patches] * len(image)).astype(np.float32) / 1000,
            "token_relevance": tokens.astype(np.float32) / 1000,
            "input_relevance": np.array([[0.3, 0.1]] * len(image), np.float32),
        }


class FakeServer:
    """Serves `versions` under the name "pairs" on a free port of 127.0.0.1."""

    def __init__(
        self,
        *versions: Version,
        labels: dict[str, int] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 16,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.versions = {version.spec.version: version for version in versions}
        self.labels = dict(labels or {})
        self.calls: list[tuple[str, Any]] = []
        self.on_predict: Callable[[wire.PredictRequest, grpc.ServicerContext], None] = lambda request, context: None
        self.host = host
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
        )
        predict = grpc.unary_unary_rpc_method_handler(self._predict)
        metadata = grpc.unary_unary_rpc_method_handler(self._metadata)
        status = grpc.unary_unary_rpc_method_handler(self._status)
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "tensorflow.serving.PredictionService", {"Predict": predict, "GetModelMetadata": metadata}
                ),
                grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", {"GetModelStatus": status}),
            ]
        )
        where = f"{host}:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, credentials)
        self._server.start()

    @property
    def address(self) -> str:
        """host:port"""
        return f"{self.host}:{self.port}"

    def predictions(self, signature: str | None = None) -> list[Any]:
        """The Predict requests so far for a signature, `serving_default` unless another is named."""
        wanted = signature or SERVING_DEFAULT
        return [
            request for name, request in self.calls if name == "Predict" and request.model_spec.signature_name == wanted
        ]

    def stop(self, grace: float | None = None) -> None:
        """Ends; cuts what is under way after `grace`."""
        self._server.stop(grace).wait(5)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _resolve(self, spec: Any) -> Version:
        if spec.name != "pairs":
            raise Abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        choice = spec.WhichOneof("version_choice")
        with self._lock:
            if choice == "version_label":
                if spec.version_label not in self.labels:
                    raise Abort(
                        grpc.StatusCode.INVALID_ARGUMENT,
                        f"Unrecognized servable version label: {spec.version_label}",
                    )
                number = self.labels[spec.version_label]
            else:
                number = spec.version.value if choice == "version" else max(self.versions, default=0)
            if number not in self.versions:
                raise Abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific(pairs, {number})")
            return self.versions[number]

    def _predict(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = wire.PredictRequest.FromString(data)
        self.calls.append(("Predict", request))
        try:
            self.on_predict(request, context)
            version = self._resolve(request.model_spec)
            reply = self._answer(request, version)
        except Abort as abort:
            context.abort(abort.code, abort.details)
        return reply

    def _answer(self, request: Any, version: Version) -> bytes:
        signature = request.model_spec.signature_name or "serving_default"
        reply = wire.PredictResponse()
        reply.model_spec.name = "pairs"
        reply.model_spec.version.value = version.spec.version
        reply.model_spec.signature_name = signature
        inputs = {name: decode_tensor(tensor.SerializeToString()) for name, tensor in request.inputs.items()}
        if signature == "count":  # how many predictions this process has answered
            put(reply, "calls", np.array(len(self.predictions()), np.float32))
            return reply.SerializeToString()
        if signature == "describe":
            rows = [version.spec.to_json().encode()] * len(inputs["key"])
            put(reply, "spec", np.array(rows, object))
            return reply.SerializeToString()
        if signature not in signatures(version.spec):
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        if signature != "serving_bytes":
            image, tokens = inputs["image"], inputs["tokens"]
        else:
            preprocessor = Preprocessor(version.spec)
            try:
                image = np.stack([preprocessor.decoded(item or None) for item in inputs[version.spec.bytes_input]])
            except KeyError as error:
                raise Abort(grpc.StatusCode.INVALID_ARGUMENT, f"inputs do not match the signature: {error}") from error
            except ValueError as error:
                raise Abort(grpc.StatusCode.INVALID_ARGUMENT, f"jpeg::Uncompress failed. {error}") from error
            tokens = np.stack([preprocessor.tokens(item.decode()) for item in inputs["text"]])
        size = (version.spec.image_height, version.spec.image_width, 3)
        if image.shape[1:] != size:
            raise Abort(grpc.StatusCode.INVALID_ARGUMENT, f"Incompatible shapes: {list(image.shape)} vs. {list(size)}")
        if signature == "embed":
            put(reply, "embedding", version.embedding(image, tokens), version.tensor_content)
            return reply.SerializeToString()
        if signature == "explain":
            for name, array in version.explanation(image, tokens, inputs["class_id"]).items():
                put(reply, name, array, version.tensor_content)
            return reply.SerializeToString()
        probabilities, answer = version.probabilities(image, tokens), version.spec.answer
        put(reply, answer.output, probabilities, version.tensor_content)
        if signature == "serving_bytes" and answer.decided is not None:
            texts = [answer.decision(row, version.spec.labels).encode() for row in probabilities]
            put(reply, answer.decided, np.array(texts, object))
        return reply.SerializeToString()

    def _status(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = wire.GetModelStatusRequest.FromString(data)
        self.calls.append(("GetModelStatus", request))
        reply = wire.GetModelStatusResponse()
        for number in self.versions:
            reply.model_version_status.add(version=number, state=30)
        return reply.SerializeToString()

    def _metadata(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = wire.GetModelMetadataRequest.FromString(data)
        self.calls.append(("GetModelMetadata", request))
        try:
            version = self._resolve(request.model_spec)
        except Abort as abort:
            context.abort(abort.code, abort.details)
        found = wire.SignatureDefMap()
        for name, signature in signatures(version.spec).items():
            for where, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
                for spec in specs:
                    info = getattr(found.signature_def[name], where)[spec.name]
                    info.dtype = NUMBERS[spec.dtype]
                    for size in spec.shape:
                        info.tensor_shape.dim.add(size=-1 if size is None else size)
        reply = wire.GetModelMetadataResponse()
        reply.model_spec.name = "pairs"
        reply.model_spec.version.value = version.spec.version
        reply.metadata["signature_def"].value = found.SerializeToString()
        return reply.SerializeToString()


class Hold:
    """A hook that keeps calls waiting until `release` is set, and says when one has `arrived`."""

    def __init__(self) -> None:
        self.arrived, self.release = threading.Event(), threading.Event()

    def __call__(self, request: Any, context: Any) -> None:
        self.arrived.set()
        self.release.wait(10)


class Restless:
    """A hook for a rollout that outruns one call: "stable" names no loaded version until its last round, then 3."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.refused = 0

    def __call__(self, request: Any, context: Any) -> None:
        if request.model_spec.signature_name == SERVING_DEFAULT:
            if self.refused < 7:
                self.refused += 1
                raise Abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(pairs, 9)")
            self.server.labels["stable"] = 3


def texts(request: Any) -> list[bytes]:
    """The texts of a `serving_bytes` request, none of another's."""
    return list(request.inputs["text"].string_val) if "text" in request.inputs else []


def put(reply: Any, name: str, array: np.ndarray, content: bool = False) -> None:
    """Adds an output in the form that the stock server uses."""
    tensor = reply.outputs[name]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        tensor.dtype = 7
        tensor.string_val.extend(array.ravel().tolist())
    elif array.dtype == np.int32:
        tensor.dtype = 3
        tensor.int_val.extend(array.ravel().tolist())
    elif content:
        tensor.dtype = 1
        tensor.tensor_content = array.astype("<f4").tobytes()
    else:
        tensor.dtype = 1
        tensor.float_val.extend(array.ravel().tolist())


def wait_until(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Returns as soon as the condition holds; fails when it does not in time."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} s"
        time.sleep(0.01)
