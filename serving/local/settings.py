"""Turns the flags, and the files that they name, into values for the parts of the server."""

import ctypes
import dataclasses
import logging
import os
import pathlib
import socket
from typing import TypeVar

import grpc
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.local.configs_pb2 import BatchingParameters, MonitoringConfig, SSLConfig
from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.flags import Flags
from serving.local.model.batching_parameters import Batching
from serving.local.rest.front import DEFAULT_METRICS_PATH
from serving.models_config import protos

_LOG = logging.getLogger(__name__)

BFLOAT16 = "bfloat16"

M = TypeVar("M", bound=message.Message)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(path: str | pathlib.Path, into: M) -> M:
    try:
        return protos.read_text_proto(path, into)
    except protos.ConfigError as error:
        raise invalid_argument(str(error)) from error


def session_config(flags: Flags) -> config_pb2.ConfigProto:
    """The Session's options: of the file, under those of the other flags."""
    config = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        _read(flags.tensorflow_session_config_file, config)
    intra, inter = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
    both = flags.tensorflow_session_parallelism
    if intra > 0 and inter > 0 and both > 0:
        raise invalid_argument(
            "Expected --tensorflow_session_parallelism, or the intra-op and inter-op ones. Received: all"
        )
    separate = intra > 0 or inter > 0
    config.intra_op_parallelism_threads = intra if separate else both
    config.inter_op_parallelism_threads = inter if separate else both
    config.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    if flags.mixed_precision == BFLOAT16:
        rewriting = config.graph_options.rewrite_options
        rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    elif flags.mixed_precision:
        _LOG.warning("Expected --mixed_precision=%s. Received: %s, without effect", BFLOAT16, flags.mixed_precision)
    return config


def allow_xla(allowed: bool) -> None:
    """Lets this process compile functions that request XLA (`jit_compile=True`), or makes each of them fail.

    The stock server calls the same functions of TensorFlow, which Python has no name for.
    """
    library = ctypes.CDLL(str(pathlib.Path(tf.__file__).with_name("libtensorflow_cc.so.2")))
    name = "_ZN10tensorflow20EnableXlaCompilationEv" if allowed else "_ZN10tensorflow21DisableXlaCompilationEv"
    getattr(library, name)()


def model_config(flags: Flags) -> model_server_config_pb2.ModelServerConfig:
    """The list of models: from the config file, or the one model of the flags."""
    if flags.model_config_file:
        return _read(flags.model_config_file, model_server_config_pb2.ModelServerConfig())
    if not flags.model_base_path:
        raise invalid_argument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    return protos.single_model(flags.model_name, flags.model_base_path)


def batching(flags: Flags) -> Batching | None:
    """The batching of all models; None without batching."""
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise invalid_argument("Expected --enable_batching with --batching_parameters_file. Received: false")
        return None
    if flags.batching_parameters_file:
        parameters = _read(flags.batching_parameters_file, BatchingParameters())
    else:
        parameters = BatchingParameters(thread_pool_name={"value": "model_server_batch_threads"})
    return Batching.from_proto(parameters, cores())


def batching_of(flags: Flags, shared: Batching | None, export_dir: pathlib.Path) -> Batching | None:
    """The batching of one version: that of all models, or by its own file and none without one."""
    if shared is None or not flags.enable_per_model_batching_parameters:
        return shared
    path = export_dir / "batching_params.pbtxt"
    if not path.exists():
        return None
    # All versions share the threads: those of the file are ignored, as by the stock server.
    return dataclasses.replace(
        Batching.from_proto(_read(path, BatchingParameters()), cores()),
        num_batch_threads=shared.num_batch_threads,
        thread_pool_name=shared.thread_pool_name,
    )


def metrics_path(flags: Flags) -> str:
    """Path of the Prometheus page; empty without one."""
    if not flags.monitoring_config_file:
        return ""
    prometheus = _read(flags.monitoring_config_file, MonitoringConfig()).prometheus_config
    return (prometheus.path or DEFAULT_METRICS_PATH) if prometheus.enable else ""


def check_ports(flags: Flags) -> None:
    """Fails at once, with UNAVAILABLE, if a port is busy: it is bound only after the models have loaded."""
    for port in filter(None, (flags.port, flags.rest_api_port)):
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(flags.host, port, type=socket.SOCK_STREAM):
                with socket.socket(family, kind, protocol) as probe:
                    # A port whose last server has just ended counts as free, as for the server itself.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
        except OSError as error:
            raise busy(f"{flags.host}:{port}") from error


def busy(address: str) -> ServingError:
    return ServingError(Code.UNAVAILABLE, f"Expected a free address. Received: {address}, which is busy")


def channel_arguments(flags: Flags) -> list[tuple[str, int | str]]:
    """Options of the gRPC server."""
    options: list[tuple[str, int | str]] = [
        (f"grpc.max_{way}_message_length", 2**31 - 1) for way in ("receive", "send")
    ]
    for part in filter(None, flags.grpc_channel_arguments.split(",")):
        key, separator, value = part.partition("=")
        if not separator:
            raise invalid_argument(f"Expected key=value in --grpc_channel_arguments. Received: {part!r}")
        options.append((key, int(value) if value.lstrip("-").isdigit() else value))
    # Two servers on one port would share its connections without a warning.
    return [*options, ("grpc.so_reuseport", 0)]


def credentials(flags: Flags) -> grpc.ServerCredentials:
    """TLS from the SSL config file; plain text without one."""
    if not flags.ssl_config_file:
        return grpc.insecure_server_credentials()
    ssl = _read(flags.ssl_config_file, SSLConfig())
    if not ssl.server_key or not ssl.server_cert:
        raise invalid_argument(f"Expected server_key and server_cert, in PEM, in {flags.ssl_config_file}")
    if ssl.client_verify and not ssl.custom_ca:
        raise invalid_argument(f"Expected custom_ca, in PEM, to verify clients with, in {flags.ssl_config_file}")
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )
