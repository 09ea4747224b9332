"""Fixtures of the embedded server's tests."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.local.testing import LocalServer
from tests.conformance.pair import pair_models

__all__ = ["pair_models", "serve", "store", "stub"]

Serve = Callable[..., LocalServer]


@pytest.fixture
def store(tmp_path: pathlib.Path, pair_models: pathlib.Path) -> pathlib.Path:
    """A base path with version 1 of the pair model, to change at will."""
    base = tmp_path / "models" / "pair"
    base.mkdir(parents=True)
    shutil.copytree(pair_models / "1", base / "1")
    return base


@pytest.fixture
def serve(store: pathlib.Path) -> Iterator[Serve]:
    """Starts servers of the store; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str, rest: bool = False, **options: object) -> LocalServer:
            model = () if any("model_config_file" in flag for flag in flags) else (f"--model_base_path={store}",)
            server = LocalServer("--model_name=pair", *model, "--max_num_load_retries=0", *flags, rest=rest, **options)
            return stack.enter_context(server)

        yield start


@pytest.fixture
def stub() -> Iterator[Callable[[LocalServer], prediction_service_pb2_grpc.PredictionServiceStub]]:
    """A PredictionService stub for a server."""
    with contextlib.ExitStack() as stack:

        def connect(server: LocalServer) -> prediction_service_pb2_grpc.PredictionServiceStub:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            made = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            made.models = model_service_pb2_grpc.ModelServiceStub(channel)
            return made

        yield connect
