"""The REST front: /v1/models/... and, when the monitoring config asks for it, Prometheus metrics."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import logging
import socket
import threading
import time
import zlib
from typing import Any, Final

import tornado.httpserver
import tornado.netutil
import tornado.web

from serving.local.rest import replies
from serving.local.rest.api import Api

_LOG = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 1 << 31
MAX_UNZIPPED_BYTES: Final = 1 << 28
ERROR_SECONDS: Final = 5.0  # between two log lines about connections
DEFAULT_METRICS_PATH: Final = "/monitoring/prometheus/metrics"
_NOT_FOUND: Final = "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"


def _unzip(body: bytes) -> bytes:
    """Unpacks a gzip body like the stock server. Tornado is not used, as it has no limit on the unpacked size."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    data = unpacker.decompress(body, MAX_UNZIPPED_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"one of more than {MAX_UNZIPPED_BYTES} bytes")
    if not unpacker.eof:
        raise ValueError("one that is cut off")
    return data


# Streamed, because Tornado would parse whole bodies as forms, which is the type that curl sends.
@tornado.web.stream_request_body
class _Handler(tornado.web.RequestHandler):
    """Answers each request in a thread of the pool, so that one call does not delay the others."""

    def initialize(self, front: RestFront) -> None:
        self._front = front
        self._chunks: list[bytes] = []

    def data_received(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    async def _answer(self) -> None:
        front, uri = self._front, self.request.uri or ""
        if front.metrics_path and uri == front.metrics_path:
            self._finish(200, "text/plain", front.api.metrics.page())
            return
        if not uri.lower().startswith("/v1/"):
            self._finish(404, "text/html", _NOT_FOUND)
            return
        if front.cors:
            self.set_header("Access-Control-Allow-Origin", "*")
            self.set_header("Access-Control-Allow-Methods", "POST, GET")
            self.set_header("Access-Control-Allow-Headers", "Content-Type")
        if self.request.method == "OPTIONS":
            origin = self.request.headers.get("Origin", "")
            self.set_status(200 if origin.startswith(("http://", "https://")) else 400)
            self.finish()
            return
        status, body = await asyncio.get_running_loop().run_in_executor(front.pool, self._handle)
        self._finish(status, "application/json", body)

    def _finish(self, status: int, kind: str, body: str) -> None:
        self.set_status(status, reason="Client Closed Request" if status == 499 else None)
        self.set_header("Content-Type", kind)
        self.finish(body.encode("utf-8", "surrogateescape"))

    def _handle(self) -> tuple[int, str]:
        """In a thread of the pool."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        if self.request.headers.get("Content-Encoding", "").lower() == "gzip":
            try:
                body = _unzip(body)
            except (zlib.error, ValueError) as error:
                return 400, replies.error_reply(f"Expected a gzip body. Received: {error}")
        return self._front.api.handle(self.request.method or "", self.request.uri or "", body)

    get = post = put = delete = head = patch = options = _answer


class RestFront:
    """A Tornado server in a background thread."""

    def __init__(self, api: Api, *, threads: int, metrics_path: str = "", cors: bool = False) -> None:
        self.api = api
        self.metrics_path = metrics_path
        self.cors = cors
        self.pool = concurrent.futures.ThreadPoolExecutor(max(1, threads), "rest")
        self._loop = asyncio.new_event_loop()
        self._server: tornado.httpserver.HTTPServer | None = None
        self._thread = threading.Thread(target=self._run, name="rest-front", daemon=True)
        self._sockets: list[socket.socket] = []
        self._last_error = -ERROR_SECONDS

    def bind(self, host: str, port: int) -> None:
        """Takes the port; OSError when it is busy."""
        self._sockets = tornado.netutil.bind_sockets(port, host, reuse_port=False)

    def start(self) -> None:
        self._thread.start()

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs errors of the loop, but not thousands a second."""
        error, now = context.get("exception"), time.monotonic()
        if now - self._last_error > ERROR_SECONDS:
            self._last_error = now
            _LOG.error("REST connections: %s: %s", context.get("message", ""), error)
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            # No file descriptor is free, so the next attempt would fail too: leave the CPU to others.
            time.sleep(0.05)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._on_error)
        application = tornado.web.Application([(r".*", _Handler, {"front": self})], log_function=lambda _: None)
        self._server = tornado.httpserver.HTTPServer(
            application, max_body_size=MAX_BODY_BYTES, max_buffer_size=MAX_BODY_BYTES, idle_connection_timeout=600.0
        )
        self._server.add_sockets(self._sockets)
        self._loop.run_forever()
        self._loop.close()

    def stop(self, drain_seconds: float) -> None:
        """Takes no more connections, waits for the calls in flight, ends."""
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
