"""The REST API without HTTP: method, path and body in, status and body out."""

import functools
import json
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from google.protobuf import json_format, message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from serving.local.calls.service import INFERENCE, METADATA_FIELD, Service
from serving.local.errors import Code, invalid_argument, status_of
from serving.local.model.servable import DEFAULT_SIGNATURE
from serving.local.rest import bodies, replies

# As in the stock server: the case of the folders does not matter, of what follows them it does; no query is
# expected, so that it becomes part of the name that it follows.
_NAME = r"((?:[A-Za-z0-9\-._~!$&'()*+,;=@?#]|%[0-9A-Fa-f]{2})+)"
_MODEL = rf"(?i:/v1/models)(?:/{_NAME})?(?:(?i:/versions)/([0-9]+)|(?i:/labels)/{_NAME})?"
_POST = re.compile(_MODEL + ":(classify|regress|predict)")
_GET = re.compile(_MODEL + "(?:/((?i:metadata)))?")
_HTTP: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}


class Api:
    """Method, path and body in; status code and body out. Knows nothing of HTTP servers."""

    def __init__(self, service: Service, timeout_seconds: float) -> None:
        self.metrics = service.metrics
        self._service = service
        self._timeout = timeout_seconds if timeout_seconds > 0 else None

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """Answers one request under /v1/."""
        started, name, api = time.monotonic(), "", ""
        try:
            name, api, call = self._route(method, path)
            answer, code = call(body), Code.OK
        except Exception as error:
            code, text = status_of(error)
            answer = replies.error_reply(text)
        self.metrics.count_call(name, api, "REST", code.name, started)
        return _HTTP.get(code, 500), answer

    def _route(self, method: str, path: str) -> tuple[str, str, Callable[[bytes], str]]:
        """The model's name, the API for the metrics, and what answers a body."""
        if method == "POST" and (match := _POST.fullmatch(path)) and match[1]:
            spec, api = _spec(*match.groups()[:3]), match[4]
            call = self._predict if api == "predict" else functools.partial(self._examples, api)
            return spec.name, api, functools.partial(call, spec)
        if method == "GET" and (match := _GET.fullmatch(path)):
            if not match[1]:
                raise invalid_argument("Missing model name in request.")
            spec = _spec(*match.groups()[:3])
            about = self._metadata if match[4] == "metadata" else self._status
            return spec.name, "", lambda _: json.dumps(about(spec), indent=1) + "\n"
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = predict_pb2.PredictRequest(model_spec=spec)

        def infos_of(name: str) -> bodies.Infos:
            name = name or DEFAULT_SIGNATURE
            with self._service.core.servable(spec) as (_, servable):
                if name not in servable.signatures:
                    raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
                return dict(servable.signatures[name].inputs)

        by_rows = bodies.fill_predict(body, infos_of, request)
        response = self._service.infer("Predict", request, self._timeout)
        return replies.predict_reply(response, by_rows=by_rows)

    def _examples(self, api: str, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = INFERENCE[api.capitalize()][0](model_spec=spec)
        bodies.fill_examples(body, request)
        response = self._service.infer(api.capitalize(), request, self._timeout)
        return (replies.classify_reply if api == "classify" else replies.regress_reply)(response)

    def _status(self, spec: model_pb2.ModelSpec) -> Any:
        return _as_dict(self._service.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))

    def _metadata(self, spec: model_pb2.ModelSpec) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[METADATA_FIELD])
        response = self._service.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[METADATA_FIELD].Unpack(signatures)
        return {"model_spec": _as_dict(response.model_spec), "metadata": {METADATA_FIELD: _as_dict(signatures)}}


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
