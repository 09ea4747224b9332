"""Puts the server together from its flags, runs it, drains it."""

import concurrent.futures
import gc
import logging
import pathlib
import threading
import time

import grpc

from serving.local import settings
from serving.local.calls import warmup
from serving.local.calls.service import Service
from serving.local.errors import Code, ServingError
from serving.local.flags import Flags, without_effect
from serving.local.metrics import Metrics
from serving.local.model import savedmodel
from serving.local.model.servable import Servable
from serving.local.rest.api import Api
from serving.local.rest.front import RestFront
from serving.local.rpc.direct import DirectMethod
from serving.local.rpc.handlers import CallLimiter, UnknownMethods, handlers, predict
from serving.local.rpc.health import Health
from serving.local.versions.core import ServerCore
from serving.local.versions.manager import Manager, Retry
from serving.local.versions.source import StoragePathSource
from serving.local.versions.states import ServableId, StateMonitor

_LOG = logging.getLogger(__name__)


class Server:
    """The embedded server. `start` blocks until the models serve and the ports are open.

    Args:
        flags: The command line.
        stopping: Set, it ends the wait for models.

    Raises:
        ServingError: A file that the flags name can't be used.
    """

    def __init__(self, flags: Flags, stopping: threading.Event | None = None) -> None:
        self._flags = flags
        self._stopping = stopping or threading.Event()
        self._tags = flags.saved_model_tags.split(",")
        self._session_config = settings.session_config(flags)
        self._batching = settings.batching(flags)
        self._credentials = settings.credentials(flags)
        self._first_config = settings.model_config(flags)
        self.metrics = Metrics()
        states = StateMonitor()
        manager: Manager[Servable] = Manager(
            self._load,
            states,
            load_threads=flags.num_load_threads,
            initial_load_threads=4 * settings.cores(),
            retry=Retry(flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6),
        )
        self._core = ServerCore(
            manager,
            StoragePathSource(manager.aspire, flags.file_system_poll_wait_seconds),
            states,
            labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        )
        self.service = Service(
            self._core,
            self.metrics,
            as_content=flags.enable_serialization_as_tensor_content,
            check_method=flags.enable_signature_method_name_check,
        )
        self._health = Health()
        self._grpc, self._predict = self._build_grpc()
        self._rest = self._build_rest()
        self._started = False

    def _build_grpc(self) -> tuple[grpc.Server, DirectMethod]:
        threads = self._flags.grpc_max_threads if self._flags.grpc_max_threads > 0 else 4 * settings.cores()
        # One thread of the stock server always waits for the next call, so it answers one call fewer.
        limiter = CallLimiter(max(1, threads - 1))
        offered = handlers(self.service, limiter)
        if self._flags.enable_grpc_healthcheck_service:
            offered.append(self._health.handler(limiter))
        offered.append(UnknownMethods())
        # A few more threads, so that an excess call is refused at once.
        threads += 4
        pool = concurrent.futures.ThreadPoolExecutor(threads, "grpc")
        server = grpc.server(pool, handlers=offered, options=settings.channel_arguments(self._flags))
        return server, predict(server, self.service, limiter, threads)

    def _build_rest(self) -> RestFront | None:
        flags, metrics_path = self._flags, settings.metrics_path(self._flags)
        if not flags.rest_api_port:
            return None
        return RestFront(
            Api(self.service, flags.rest_api_timeout_in_ms / 1000),
            threads=flags.rest_api_num_threads,
            metrics_path=metrics_path,
            cors=flags.rest_api_enable_cors_support,
        )

    def _load(self, servable_id: ServableId, path: pathlib.Path) -> Servable:
        servable = Servable(*savedmodel.load(path, self._tags, self._session_config))
        try:
            batching = settings.batching_of(self._flags, self._batching, path)
            if batching is not None:
                servable.batch(batching, servable_id.name, self.metrics)
            if self._flags.enable_model_warmup:
                iterations = self._flags.num_request_iterations_for_warmup
                warmup.warm_up(servable, servable_id, path, self.metrics, iterations=iterations)
        except BaseException:
            servable.close()
            raise
        return servable

    def start(self) -> None:
        """Takes the addresses, loads the models, then answers.

        Raises:
            ServingError: Anything that keeps the server from starting.
        """
        flags = self._flags
        for name in without_effect(flags):
            _LOG.warning("--%s has no effect on the embedded server", name)
        if flags.use_alts_credentials:
            raise ServingError(Code.UNIMPLEMENTED, "Expected --use_alts_credentials=false: ALTS is not supported here")
        settings.check_ports(flags)
        settings.allow_xla(flags.xla_cpu_compilation_enabled or flags.xla_gpu_compilation_enabled)
        self._core.start(self._first_config, self._stopping.is_set, wait=flags.wait_for_base_path)
        if self._stopping.is_set():
            return
        if flags.port:
            self._listen(f"{flags.host}:{flags.port}")
        if flags.grpc_socket_path:
            self._listen(f"unix:{flags.grpc_socket_path}")
        if self._rest is not None:
            try:
                self._rest.bind(flags.host, flags.rest_api_port)
            except OSError as error:
                raise settings.busy(f"{flags.host}:{flags.rest_api_port}") from error
        # Existing objects are long-lived: exclude them from garbage collection after each unload.
        gc.collect()
        gc.freeze()
        self._grpc.start()
        self._predict.start()
        if self._rest is not None:
            self._rest.start()
        self._started = True
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._poll_config, name="config-poller", daemon=True).start()

    def _listen(self, address: str) -> None:
        """Takes an address for gRPC."""
        try:
            self._grpc.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise settings.busy(address) from error

    def _poll_config(self) -> None:
        while not self._stopping.wait(self._flags.model_config_file_poll_wait_seconds):
            try:
                self._core.reload(settings.model_config(self._flags), self._stopping.is_set)
            except ServingError as error:
                _LOG.error("Models and labels stay as they are, %s: %s", self._flags.model_config_file, error)

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Takes no more calls, lets those in flight finish for at most `drain_seconds`, unloads everything."""
        self._stopping.set()
        self._health.drain()
        deadline = time.monotonic() + drain_seconds
        if self._started:
            stopped = self._grpc.stop(drain_seconds)
            if self._rest is not None:
                self._rest.stop(drain_seconds)
            stopped.wait(max(0.0, deadline - time.monotonic()) + 1.0)
        self._core.stop(max(0.0, deadline - time.monotonic()) + 1.0)
