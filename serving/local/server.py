"""Puts the server together from its flags, runs it, drains it."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import os
import pathlib
import threading

import grpc
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.local import _grpc, _savedmodel, _textproto, _warmup
from serving.local._configs_pb2 import SSLConfig
from serving.local._core import ServerCore, single_model
from serving.local._errors import Code, ServingError, invalid_argument
from serving.local._flags import Flags, without_effect
from serving.local._manager import Manager, Retry
from serving.local._servable import Servable
from serving.local._service import Service
from serving.local._source import StoragePathSource
from serving.local._states import ServableId, StateBus

_LOG = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 2**31 - 1


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def session_config(flags: Flags) -> config_pb2.ConfigProto:
    """The Session's options from the flags."""
    config = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        return _textproto.read(flags.tensorflow_session_config_file, config)
    config.intra_op_parallelism_threads = flags.tensorflow_intra_op_parallelism or flags.tensorflow_session_parallelism
    config.inter_op_parallelism_threads = flags.tensorflow_inter_op_parallelism or flags.tensorflow_session_parallelism
    config.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    config.allow_soft_placement = True
    if flags.xla_cpu_compilation_enabled:
        config.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.ON_1
    return config


def model_config(flags: Flags) -> model_server_config_pb2.ModelServerConfig:
    """The first list of models: from the config file, or the one model of the flags."""
    if flags.model_config_file:
        return _textproto.read(flags.model_config_file, model_server_config_pb2.ModelServerConfig())
    if not flags.model_base_path:
        raise invalid_argument("Expected --model_base_path or --model_config_file. Received neither")
    return single_model(flags.model_name, flags.model_base_path)


class Server:
    """The embedded server. `start` blocks until the models serve and the ports are open."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._stopping = threading.Event()
        self._bus = StateBus()
        self._tags = flags.saved_model_tags.split(",")
        self._session_config = session_config(flags)
        self._manager: Manager[Servable] = Manager(
            self._load,
            self._bus,
            load_threads=flags.num_load_threads,
            initial_load_threads=4 * cores(),
            retry=Retry(flags.max_num_load_retries, flags.load_retry_interval_micros / 1e6),
        )
        self._source = StoragePathSource(self._manager.aspire, flags.file_system_poll_wait_seconds)
        self.core = ServerCore(
            self._manager,
            self._source,
            self._bus,
            labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        )
        self.service = Service(
            self.core,
            as_content=flags.enable_serialization_as_tensor_content,
            check_method=flags.enable_signature_method_name_check,
        )
        self._health = _grpc.Health()
        self._grpc: grpc.Server | None = None
        self._poller: threading.Thread | None = None

    def _load(self, servable_id: ServableId, path: pathlib.Path) -> Servable:
        servable = Servable(_savedmodel.load(path, self._tags, self._session_config))
        try:
            if self._flags.enable_model_warmup:
                _warmup.warm_up(servable, servable_id, path, iterations=self._flags.num_request_iterations_for_warmup)
        except BaseException:
            servable.close()
            raise
        return servable

    def start(self) -> None:
        """Load the models, then open the ports.

        Raises:
            ServingError: Anything that keeps the server from starting.
        """
        for name in without_effect(self._flags):
            _LOG.warning("--%s has no effect on the embedded server", name)
        if self._flags.use_alts_credentials:
            raise ServingError(Code.UNIMPLEMENTED, "Expected --use_alts_credentials=false: ALTS is not supported here")
        config = model_config(self._flags)
        front = self._build_grpc()
        self.core.start(config, self._stopping.is_set, wait=self._flags.wait_for_base_path)
        if self._stopping.is_set():
            return
        self._bind(front)
        # What lives now lives long: garbage collections after each unload need not look at it.
        gc.collect()
        gc.freeze()
        front.start()
        self._grpc = front
        if self._flags.model_config_file and self._flags.model_config_file_poll_wait_seconds > 0:
            self._poller = threading.Thread(target=self._poll_config, name="config-poller", daemon=True)
            self._poller.start()

    def _build_grpc(self) -> grpc.Server:
        flags = self._flags
        threads = flags.grpc_max_threads if flags.grpc_max_threads > 0 else 4 * cores()
        # One thread of the stock server always waits for the next call, so it answers one call less.
        gate = _grpc.Gate(max(1, threads - 1))
        handlers = _grpc.handlers(self.service, gate)
        if flags.enable_grpc_healthcheck_service:
            handlers.append(self._health.handler(gate))
        return grpc.server(
            # A few threads more, so that a call too many is refused at once.
            concurrent.futures.ThreadPoolExecutor(threads + 4, "grpc"),
            handlers=handlers,
            options=[*self._channel_arguments(), ("grpc.so_reuseport", 0)],
        )

    def _channel_arguments(self) -> list[tuple[str, int | str]]:
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        for part in filter(None, self._flags.grpc_channel_arguments.split(",")):
            key, separator, value = part.partition("=")
            if not separator:
                raise invalid_argument(f"Expected key=value in --grpc_channel_arguments. Received {part!r}")
            options.append((key, int(value) if value.lstrip("-").isdigit() else value))
        return options

    def _bind(self, front: grpc.Server) -> None:
        credentials = self._credentials()
        if self._flags.port:
            _listen(front, f"{self._flags.host}:{self._flags.port}", credentials)
        if self._flags.grpc_socket_path:
            # Over a Unix socket the stock server speaks in the clear.
            _listen(front, f"unix:{self._flags.grpc_socket_path}", None)

    def _credentials(self) -> grpc.ServerCredentials | None:
        if not self._flags.ssl_config_file:
            return None
        ssl = _textproto.read(self._flags.ssl_config_file, SSLConfig())
        if not ssl.server_key or not ssl.server_cert:
            raise invalid_argument(f"Expected server_key and server_cert, in PEM, in {self._flags.ssl_config_file}")
        return grpc.ssl_server_credentials(
            [(ssl.server_key.encode(), ssl.server_cert.encode())],
            root_certificates=ssl.custom_ca.encode() or None,
            require_client_auth=ssl.client_verify,
        )

    def _poll_config(self) -> None:
        while not self._stopping.wait(self._flags.model_config_file_poll_wait_seconds):
            try:
                self.core.reload(model_config(self._flags), self._stopping.is_set)
            except ServingError as error:
                _LOG.error("Models and labels stay as they are, %s: %s", self._flags.model_config_file, error)

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Take no more calls, let those in flight finish for at most `drain_seconds`, unload everything."""
        self._stopping.set()
        self._health.drain()
        if self._grpc is not None:
            self._grpc.stop(drain_seconds).wait()
        self.core.stop()


def _listen(front: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    try:
        bound = front.add_secure_port(address, credentials) if credentials else front.add_insecure_port(address)
    except RuntimeError as error:
        raise ServingError(Code.UNAVAILABLE, f"Expected a free address. Received {address}, which is busy") from error
    if not bound and not address.startswith("unix:"):
        raise ServingError(Code.UNAVAILABLE, f"Expected a free address. Received {address}, which is busy")
