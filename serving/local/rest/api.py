"""The REST API without HTTP: method, path and body in, status and body out."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from google.protobuf import json_format, message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local.calls.service import METADATA_FIELD, Service
from serving.local.deadline import Deadline
from serving.local.errors import Code, invalid_argument, status_of
from serving.local.metrics import Metrics
from serving.local.model.servable import DEFAULT_SIGNATURE
from serving.local.rest import example_bodies, replies, tensor_bodies

# As in the stock server: the case of the folders does not matter, of what follows them it does; no query is
# expected, so that it becomes part of the name that it follows.
_MODEL = r"(?i:/v1/models)(?:/([^/:]+))?(?:(?i:/versions)/([0-9]+)|(?i:/labels)/([^/:]+))?"
_POST = re.compile(_MODEL + ":(classify|regress|predict)")
_GET = re.compile(_MODEL + "(?:/((?i:metadata)))?")
_HTTP: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


class Api:
    """Method, path and body in; status code and body out. Knows nothing of HTTP servers."""

    def __init__(self, service: Service, metrics: Metrics, timeout_seconds: float) -> None:
        self._service = service
        self._metrics = metrics
        self._timeout = timeout_seconds if timeout_seconds > 0 else None

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """Answer one request under /v1/."""
        started, name, api = time.monotonic(), "", ""
        try:
            name, api, call = self._route(method, path)
            answer, code = call(body), Code.OK
        except Exception as error:
            code, text = status_of(error)
            answer = replies.error_reply(text)
        self._metrics.request_count.add(name, code.name)
        if code is Code.OK and api:
            micros = (time.monotonic() - started) * 1e6
            self._metrics.request_latency.observe(name, api, "REST", value=micros)
        return _HTTP.get(code, 500), answer

    def _route(self, method: str, path: str) -> tuple[str, str, Callable[[bytes], str]]:
        if method == "POST" and (match := _POST.fullmatch(path)) and match[1]:
            spec, api = _spec(*match.groups()[:3]), match[4]
            calls = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
            return spec.name, api, lambda body: calls[api](spec, body)
        if method == "GET" and (match := _GET.fullmatch(path)):
            if not match[1]:
                raise invalid_argument("Missing model name in request.")
            spec = _spec(*match.groups()[:3])
            call = self._metadata if match[4] == "metadata" else self._status
            return spec.name, "", lambda _: call(spec)
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = predict_pb2.PredictRequest(model_spec=spec)

        def infos_of(name: str) -> tensor_bodies.Infos:
            with self._service.core.servable(spec) as found:
                signature = found.servable.signatures.get(name or DEFAULT_SIGNATURE)
                if signature is None:
                    raise invalid_argument(
                        f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
                    )
                return dict(signature.inputs)

        by_rows = tensor_bodies.fill(body, infos_of, request)
        response = self._service.predict(request, Deadline.after(self._timeout))
        return replies.predict_reply(response, by_rows=by_rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        example_bodies.fill(body, request)
        return replies.classify_reply(self._service.classify(request, Deadline.after(self._timeout)))

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        example_bodies.fill(body, request)
        return replies.regress_reply(self._service.regress(request, Deadline.after(self._timeout)))

    def _status(self, spec: model_pb2.ModelSpec) -> str:
        response = self._service.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return json.dumps(_as_dict(response), indent=1) + "\n"

    def _metadata(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[METADATA_FIELD])
        response = self._service.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[METADATA_FIELD].Unpack(signatures)
        body = {"model_spec": _as_dict(response.model_spec), "metadata": {METADATA_FIELD: _as_dict(signatures)}}
        return json.dumps(body, indent=1) + "\n"


def _as_dict(proto: message.Message) -> Any:
    return json_format.MessageToDict(proto, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _spec(name: str, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name, errors="replace"))
    if version:
        if int(version) >= 1 << 63:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = urllib.parse.unquote(label, errors="replace")
    return spec
