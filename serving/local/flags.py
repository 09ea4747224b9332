"""The command line: every flag of `tensorflow_model_server`, and the embedded server's own.

`Flags` is the table: a field's name is the flag's name, its default the stock default,
its metadata the help text and whether the flag changes anything here.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from duoserve.arguments import port

T = TypeVar("T")

_EPILOG = """\
Flags are written --name=value; a bool may stand alone (--enable_batching).

Differences from the stock server, on purpose:
  * An unknown flag ends the start with an error. The stock server ignores it, so a
    misspelt --enable_batchin serves unbatched without a warning.
  * A busy port ends the start with an error. The stock server shares it silently.
  * It listens on 127.0.0.1 by default (--host); the stock server on 0.0.0.0.
  * A missing base path ends the start; --wait_for_base_path waits for it, as stock does.
    Both wait, with closed ports, for the first version of an existing base path.
  * SIGTERM lets the calls in flight finish; --stock_sigterm ends at once, as stock does.
  * A batching server refuses a request without rows; the stock server hangs on it.
  * --enable_serialization_as_tensor_content with a REST port ends the start; the stock
    server starts, and its first REST reply with strings kills it.

Exit codes: 0 after SIGINT or a drained SIGTERM, 2 for a bad command line, 255 when the
start fails (the stock server's code), 1 for a fault while serving.
"""


def _flag(default: T, text: str, *, effect: bool = True, own: bool = False, choices: Sequence[str] | None = None) -> T:
    metadata = {"help": text, "effect": effect, "own": own, "choices": choices}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


def _inert(default: T, text: str) -> T:
    return _flag(default, text, effect=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Flags:
    """One parsed command line. Every field is a flag."""

    port: int = _flag(8500, "TCP port of the gRPC API; 0 turns it off (a Unix socket may take its place)")
    grpc_socket_path: str = _flag("", "path of a Unix socket that serves the gRPC API too")
    rest_api_port: int = _flag(0, "TCP port of the REST API; 0 turns it off")
    rest_api_num_threads: int = _flag(8, "threads that answer REST calls")
    rest_api_timeout_in_ms: int = _flag(30000, "longest time a REST call may take, in milliseconds")
    rest_api_enable_cors_support: bool = _flag(False, "answer cross-origin requests of browsers")
    enable_batching: bool = _flag(False, "join concurrent requests into batches")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "let a new label point to a version that is not loaded yet (needed for labels in the first config)"
    )
    batching_parameters_file: str = _flag("", "text proto of BatchingParameters; needs --enable_batching")
    enable_per_model_batching_parameters: bool = _flag(
        False,
        "batch each version as its batching_params.pbtxt specifies, versions without one not at all; "
        "--batching_parameters_file then sets the threads only",
    )
    model_config_file: str = _flag("", "text proto of ModelServerConfig: several models, policies, labels")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "seconds between two reads of --model_config_file; 0 reads it once"
    )
    model_name: str = _flag("default", "name of the model; ignored with --model_config_file")
    model_base_path: str = _flag("", "folder whose numbered sub-folders are versions; ignored with --model_config_file")
    num_load_threads: int = _flag(0, "threads that load versions; 0 loads in the manager's own thread")
    num_unload_threads: int = _inert(0, "threads that unload versions; 0 unloads in the manager's own thread")
    max_num_load_retries: int = _flag(5, "how often a failed load is retried; below 0 never")
    load_retry_interval_micros: int = _flag(60_000_000, "microseconds between two attempts; below 0 none")
    file_system_poll_wait_seconds: int = _flag(
        1, "seconds between two scans for new versions; 0 scans once, below 0 never"
    )
    flush_filesystem_caches: bool = _inert(True, "flush file-system caches after the first load")
    tensorflow_session_parallelism: int = _flag(0, "threads of a session, intra-op and inter-op alike; 0 for automatic")
    tensorflow_session_config_file: str = _flag("", "text proto of tensorflow.ConfigProto")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads inside one operation; 0 for automatic")
    tensorflow_inter_op_parallelism: int = _flag(0, "operations that run at once; 0 for automatic")
    use_alts_credentials: bool = _inert(False, "Google ALTS; not supported, the start fails when true")
    ssl_config_file: str = _flag("", "text proto of SSLConfig with PEM contents: serve gRPC over TLS")
    platform_config_file: str = _inert("", "text proto of PlatformConfigMap")
    per_process_gpu_memory_fraction: float = _flag(0.0, "share of the GPU's memory to take, 0.0 to 1.0")
    saved_model_tags: str = _flag("serve", "comma-separated tags of the meta graph to load")
    grpc_channel_arguments: str = _flag("", "comma-separated key=value arguments of the gRPC server")
    grpc_max_threads: int = _flag(
        0, "one more than the gRPC calls at once (default 4 times the cores, as stock); others are RESOURCE_EXHAUSTED"
    )
    enable_model_warmup: bool = _flag(True, "replay assets.extra/tf_serving_warmup_requests before a version serves")
    num_request_iterations_for_warmup: int = _flag(0, "how often each warmup record is replayed; below 1 once")
    version: bool = _flag(False, "print the version and exit")
    monitoring_config_file: str = _flag("", "text proto of MonitoringConfig: Prometheus metrics at the REST port")
    remove_unused_fields_from_bundle_metagraph: bool = _inert(True, "drop what serving does not need from the graph")
    prefer_tflite_model: bool = _inert(False, "serve model.tflite when there; not supported")
    num_tflite_pools: int = _inert(2, "pools of TFLite interpreters")
    num_tflite_interpreters_per_pool: int = _inert(1, "TFLite interpreters in a pool")
    enable_signature_method_name_check: bool = _flag(False, "check a signature's method_name before it is used")
    xla_cpu_compilation_enabled: bool = _flag(
        False, "compile the functions of a model that ask for XLA (jit_compile); off, each call of them fails"
    )
    xla_gpu_compilation_enabled: bool = _flag(False, "as --xla_cpu_compilation_enabled, on the GPU too")
    enable_profiler: bool = _inert(True, "offer the profiler service")
    thread_pool_factory_config_file: str = _inert("", "text proto of ThreadPoolConfig")
    mixed_precision: str = _flag(
        "", "bfloat16: compute in it what can be, on processors that have it; anything else has no effect"
    )
    skip_initialize_tpu: bool = _inert(False, "leave the TPU alone")
    enable_grpc_healthcheck_service: bool = _flag(False, "offer grpc.health.v1.Health")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "reply with tensor_content instead of *_val fields; refused where REST is open"
    )

    host: str = _flag("127.0.0.1", "address to listen on; 0.0.0.0 for all interfaces", own=True)
    drain_seconds: float = _flag(30.0, "longest time SIGTERM waits for calls in flight, in seconds", own=True)
    stock_sigterm: bool = _flag(False, "end at SIGTERM at once, as the stock server does", own=True)
    wait_for_base_path: bool = _flag(
        False, "wait, with closed ports, for a base path that does not exist yet, as the stock server does", own=True
    )
    log_level: str = _flag("info", "lowest level to log", own=True, choices=("debug", "info", "warning", "error"))


_FIELDS: Final = dataclasses.fields(Flags)
STOCK_FLAGS: Final[Mapping[str, Any]] = {field.name: field.default for field in _FIELDS if not field.metadata["own"]}
"""Every flag of the stock server with its default, whose type is the flag's."""


def _bool(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise argparse.ArgumentTypeError(f"Expected true or false. Received: {text!r}")


def _options(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """What argparse wants to know about a flag."""
    kind, default, choices = type(field.default), field.default, field.metadata["choices"]
    metavar = None if choices else kind.__name__.upper()
    options = {"default": default, "type": kind, "choices": choices, "metavar": metavar}
    if kind is bool:
        default = str(default).lower()
        options |= {"nargs": "?", "const": True, "type": _bool}
    if field.name in ("port", "rest_api_port"):  # gRPC would take it modulo 65536
        options["type"] = port
    inert = "" if field.metadata["effect"] else " [accepted, no effect here]"
    shown = '""' if default == "" else default
    return options | {"help": f"{field.metadata['help']} (default {shown}){inert}".replace("%", "%%")}


def parse(arguments: Sequence[str]) -> Flags:
    """The flags of a command line; ends the process with code 2 and a message when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.local",
        description="An embedded TensorFlow Serving: the stock server's flags, protocol and answers, in Python.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    stock = parser.add_argument_group("flags of tensorflow_model_server")
    own = parser.add_argument_group("flags of the embedded server only")
    for field in _FIELDS:
        (own if field.metadata["own"] else stock).add_argument(f"--{field.name}", **_options(field))
    flags = Flags(**vars(parser.parse_args(arguments)))
    if flags.rest_api_port and flags.enable_serialization_as_tensor_content:
        parser.error(
            "argument --enable_serialization_as_tensor_content: expected --rest_api_port=0 with it, received "
            f"{flags.rest_api_port}: the stock server's REST API crashes on replies with strings and garbles numbers"
        )
    return flags


def without_effect(flags: Flags) -> list[str]:
    """Names of the flags that were changed from their default and do nothing here."""
    inert = (field for field in _FIELDS if not field.metadata["effect"])
    return [field.name for field in inert if getattr(flags, field.name) != field.default]
