from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class SSLConfig(_message.Message):
    __slots__ = ("client_verify", "custom_ca", "server_cert", "server_key")
    SERVER_KEY_FIELD_NUMBER: _ClassVar[int]
    SERVER_CERT_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CA_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERIFY_FIELD_NUMBER: _ClassVar[int]
    server_key: str
    server_cert: str
    custom_ca: str
    client_verify: bool
    def __init__(
        self,
        server_key: str | None = ...,
        server_cert: str | None = ...,
        custom_ca: str | None = ...,
        client_verify: bool = ...,
    ) -> None: ...

class PrometheusConfig(_message.Message):
    __slots__ = ("enable", "path")
    ENABLE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    enable: bool
    path: str
    def __init__(self, enable: bool = ..., path: str | None = ...) -> None: ...

class MonitoringConfig(_message.Message):
    __slots__ = ("prometheus_config",)
    PROMETHEUS_CONFIG_FIELD_NUMBER: _ClassVar[int]
    prometheus_config: PrometheusConfig
    def __init__(self, prometheus_config: PrometheusConfig | _Mapping | None = ...) -> None: ...

class BatchingParameters(_message.Message):
    __slots__ = (
        "allowed_batch_sizes",
        "batch_timeout_micros",
        "enable_large_batch_splitting",
        "max_batch_size",
        "max_enqueued_batches",
        "max_execution_batch_size",
        "num_batch_threads",
        "pad_variable_length_inputs",
        "thread_pool_name",
    )
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    BATCH_TIMEOUT_MICROS_FIELD_NUMBER: _ClassVar[int]
    MAX_ENQUEUED_BATCHES_FIELD_NUMBER: _ClassVar[int]
    NUM_BATCH_THREADS_FIELD_NUMBER: _ClassVar[int]
    THREAD_POOL_NAME_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    PAD_VARIABLE_LENGTH_INPUTS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_LARGE_BATCH_SPLITTING_FIELD_NUMBER: _ClassVar[int]
    MAX_EXECUTION_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    max_batch_size: _wrappers_pb2.Int64Value
    batch_timeout_micros: _wrappers_pb2.Int64Value
    max_enqueued_batches: _wrappers_pb2.Int64Value
    num_batch_threads: _wrappers_pb2.Int64Value
    thread_pool_name: _wrappers_pb2.StringValue
    allowed_batch_sizes: _containers.RepeatedScalarFieldContainer[int]
    pad_variable_length_inputs: bool
    enable_large_batch_splitting: _wrappers_pb2.BoolValue
    max_execution_batch_size: _wrappers_pb2.Int64Value
    def __init__(
        self,
        max_batch_size: _wrappers_pb2.Int64Value | _Mapping | None = ...,
        batch_timeout_micros: _wrappers_pb2.Int64Value | _Mapping | None = ...,
        max_enqueued_batches: _wrappers_pb2.Int64Value | _Mapping | None = ...,
        num_batch_threads: _wrappers_pb2.Int64Value | _Mapping | None = ...,
        thread_pool_name: _wrappers_pb2.StringValue | _Mapping | None = ...,
        allowed_batch_sizes: _Iterable[int] | None = ...,
        pad_variable_length_inputs: bool = ...,
        enable_large_batch_splitting: _wrappers_pb2.BoolValue | _Mapping | None = ...,
        max_execution_batch_size: _wrappers_pb2.Int64Value | _Mapping | None = ...,
    ) -> None: ...
