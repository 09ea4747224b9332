"""The REST front: /v1/models/... and, when the monitoring config asks for it, Prometheus metrics."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import re
import socket
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Any, Final

import tornado.httpserver
import tornado.netutil
import tornado.web
from google.protobuf import json_format, message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local import _json_replies, _json_requests
from serving.local._deadline import Deadline
from serving.local._errors import Code, invalid_argument, told
from serving.local._metrics import Metrics
from serving.local._servable import DEFAULT_SIGNATURE
from serving.local._service import METADATA_FIELD, Service

_LOG = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 1 << 31
MAX_UNZIPPED_BYTES: Final = 1 << 28
DEFAULT_METRICS_PATH: Final = "/monitoring/prometheus/metrics"
_WHERE = r"(?i:/v1/models)/([^/:]+)(?:(?i:/versions)/(\d+)|(?i:/labels)/([^/:]+))?"
_POST = re.compile(_WHERE + r":(?i:(classify|regress|predict))")
_GET = re.compile(r"(?i:/v1/models)(?:/([^/:]+))?(?:(?i:/versions)/(\d+)|(?i:/labels)/([^/:]+))?(?:/(?i:(metadata)))?")
_NOT_FOUND_PAGE = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
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
            code, text = told(error)
            answer = _json_replies.error_reply(text)
        self._metrics.request_count.add(name, code.name)
        if code is Code.OK and api:
            micros = (time.monotonic() - started) * 1e6
            self._metrics.request_latency.observe(name, api, "REST", value=micros)
        return _HTTP.get(code, 500), answer

    def _route(self, method: str, path: str) -> tuple[str, str, Callable[[bytes], str]]:
        if method == "POST" and (match := _POST.fullmatch(path)):
            spec, api = _spec(*match.groups()[:3]), match[4].lower()
            calls = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
            return spec.name, api, lambda body: calls[api](spec, body)
        if method == "GET" and (match := _GET.fullmatch(path)):
            if not match[1]:
                raise invalid_argument("Missing model name in request.")
            spec = _spec(*match.groups()[:3])
            call = self._metadata if match[4] else self._status
            return spec.name, "", lambda _: call(spec)
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = predict_pb2.PredictRequest(model_spec=spec)

        def infos_of(name: str) -> _json_requests.Infos:
            with self._service.core.servable(spec) as found:
                signature = found.servable.signatures.get(name or DEFAULT_SIGNATURE)
                if signature is None:
                    raise invalid_argument(
                        f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
                    )
                return dict(signature.inputs)

        by_rows = _json_requests.fill_predict(body, infos_of, request)
        response = self._service.predict(request, Deadline.after(self._timeout))
        return _json_replies.predict_reply(response, by_rows=by_rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        _json_requests.fill_examples(body, request)
        return _json_replies.classify_reply(self._service.classify(request, Deadline.after(self._timeout)))

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        _json_requests.fill_examples(body, request)
        return _json_replies.regress_reply(self._service.regress(request, Deadline.after(self._timeout)))

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
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if version:
        if int(version) >= 1 << 63:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label:
        spec.version_label = urllib.parse.unquote(label)
    return spec


def _unzip(body: bytes) -> bytes:
    """A gzip body unpacked, as the stock server does; not by Tornado, which would unpack a bomb whole."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    data = unpacker.decompress(body, MAX_UNZIPPED_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"one of more than {MAX_UNZIPPED_BYTES} bytes")
    if not unpacker.eof:
        raise ValueError("one that is cut off")
    return data


# Streamed, because Tornado would read whole bodies as forms, which is what curl says they are.
@tornado.web.stream_request_body
class _Handler(tornado.web.RequestHandler):
    """Hands a request to a thread, so that one call does not hold up the others."""

    def initialize(self, front: RestFront) -> None:
        self._front = front
        self._chunks: list[bytes] = []

    def data_received(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    async def _answer(self) -> None:
        front = self._front
        path = self.request.path
        if front.metrics_path and path == front.metrics_path:
            self.set_header("Content-Type", "text/plain")
            self.finish(front.metrics.page())
            return
        if not path.lower().startswith("/v1/"):
            self.set_status(404)
            self.set_header("Content-Type", "text/html")
            self.finish(_NOT_FOUND_PAGE)
            return
        if front.cors:
            self.set_header("Access-Control-Allow-Origin", "*")
            self.set_header("Access-Control-Allow-Methods", "POST, GET")
            self.set_header("Access-Control-Allow-Headers", "Content-Type")
            if self.request.method == "OPTIONS":
                self.finish()
                return
        loop = asyncio.get_running_loop()
        status, body = await loop.run_in_executor(front.pool, self._handle)
        self.set_status(status, reason=None if status != 499 else "Client Closed Request")
        self.set_header("Content-Type", "application/json")
        self.finish(body.encode("utf-8", "replace"))

    def _handle(self) -> tuple[int, str]:
        """In a thread of the pool."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        if self.request.headers.get("Content-Encoding", "").lower() == "gzip":
            try:
                body = _unzip(body)
            except (zlib.error, ValueError) as error:
                return 400, _json_replies.error_reply(f"Expected a gzip body. Received {error}")
        return self._front.api.handle(self.request.method or "", self.request.path, body)

    get = post = put = delete = head = patch = options = _answer


class RestFront:
    """A Tornado server in a thread of its own."""

    def __init__(
        self,
        api: Api,
        metrics: Metrics,
        *,
        threads: int,
        metrics_path: str = "",
        cors: bool = False,
    ) -> None:
        self.api = api
        self.metrics = metrics
        self.metrics_path = metrics_path
        self.cors = cors
        self.pool = concurrent.futures.ThreadPoolExecutor(max(1, threads), "rest")
        self._loop = asyncio.new_event_loop()
        self._server: tornado.httpserver.HTTPServer | None = None
        self._thread = threading.Thread(target=self._run, name="rest-front", daemon=True)
        self._sockets: list[socket.socket] = []

    def bind(self, host: str, port: int) -> None:
        """Take the port.

        Raises:
            OSError: It is busy.
        """
        self._sockets = tornado.netutil.bind_sockets(port, host, reuse_port=False)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _listen(self) -> None:
        application = tornado.web.Application([(r".*", _Handler, {"front": self})], log_function=lambda _: None)
        self._server = tornado.httpserver.HTTPServer(
            application,
            max_body_size=MAX_BODY_BYTES,
            max_buffer_size=MAX_BODY_BYTES,
            idle_connection_timeout=600.0,
        )
        self._server.add_sockets(self._sockets)

    def stop(self, drain_seconds: float) -> None:
        """Take no more connections, wait for the calls in flight, end."""
        if not self._thread.is_alive():
            for each in self._sockets:
                each.close()
            return
        closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            closing.result(drain_seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.stop()
            await asyncio.get_running_loop().run_in_executor(None, self.pool.shutdown)
            await self._server.close_all_connections()
