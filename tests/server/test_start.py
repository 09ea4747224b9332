"""Any error at the start ends the server with one clear line."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import grpc
import pytest
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from serving.local import flags
from serving.local.errors import Code, ServingError
from serving.local.model.savedmodel import load
from serving.local.server import Server
from serving.local.settings import check_ports
from serving.local.testing import LocalServer, ServerDiedError, free_port
from tests.client.fake import wait_until
from tests.conformance.pair import predict_request

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "serving" / "local" / "tensorflow_model_server"
STOCK_FLAGS = [
    line.split()[0].lstrip("-").split("=", 1)
    for line in (ROOT / "tests/conformance/flags.txt").read_text(encoding="utf-8").splitlines()
]

Serve = Callable[..., LocalServer]


def died(serve: Serve, *flags: str, **options: object) -> ServerDiedError:
    with pytest.raises(ServerDiedError) as error:
        serve(*flags, **options)
    return error.value


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_every_stock_flag_is_known_with_its_default() -> None:
    defaults = flags.Flags()
    # The stock default depends on the cores; it was recorded on two.
    special = {"grpc_max_threads"}
    for name, default in STOCK_FLAGS:
        if name not in special:
            parsed = getattr(flags.parse([f"--{name}={default.strip(chr(34))}"]), name)
            assert parsed == getattr(defaults, name), name
    assert len(STOCK_FLAGS) == 48


def test_a_bool_may_stand_alone() -> None:
    assert flags.parse(["--enable_batching"]).enable_batching
    assert not flags.parse(["--enable_model_warmup=false"]).enable_model_warmup


def test_flags_without_effect_are_listed() -> None:
    changed = flags.parse(["--num_tflite_pools=3", "--enable_batching", "--skip_initialize_tpu"])
    assert flags.without_effect(changed) == ["num_tflite_pools", "skip_initialize_tpu"]


def test_help_names_every_flag_and_what_differs_from_the_stock_server() -> None:
    done = subprocess.run([LAUNCHER, "--help"], capture_output=True, text=True, check=True, cwd="/")
    for name, _ in STOCK_FLAGS:
        assert f"--{name}" in done.stdout
    assert "An unknown flag ends the start with an error" in done.stdout


def test_an_unknown_flag_ends_the_start() -> None:
    done = subprocess.run([LAUNCHER, "--enable_batchin"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unrecognized arguments: --enable_batchin" in done.stderr


def test_the_launcher_serves_from_any_folder(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "tensorflow_model_server"
    link.symlink_to(LAUNCHER)
    socket_path = tmp_path / "s.sock"
    with LocalServer(
        "--model_name=pair",
        f"--model_base_path={store}",
        f"--grpc_socket_path={socket_path}",
        "--enable_profiler=false",
        command=("env", "-C", "/", str(link)),
    ) as server:
        for address in (server.address, f"unix:{socket_path}"):
            with grpc.insecure_channel(address) as channel:
                method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
                assert method(predict_request().SerializeToString(), timeout=60)
        assert server.log.count("--enable_profiler has no effect") == 1
        with pytest.raises(ServingError, match="which is busy"):  # Two stock servers would share the port.
            check_ports(flags.parse([f"--port={server.port}"]))


def test_a_server_leaves_no_log_behind(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ServerDiedError, match="no such flag"):
        LocalServer(command=("sh", "-c", "echo no such flag; exit 1"))
    with pytest.raises(FileNotFoundError):
        LocalServer(command=("no-such-server",))
    LocalServer(command=("sleep", "60"), wait=False).stop()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_busy_port_is_refused_before_the_models_load(busy: int, flag: str) -> None:
    with pytest.raises(ServingError, match=f"Expected a free address. Received: 127.0.0.1:{busy}, which is busy"):
        check_ports(flags.parse([f"--port={free_port()}", f"--{flag}={busy}"]))


def test_a_missing_base_path_ends_the_start(serve: Serve, store: pathlib.Path) -> None:
    shutil.rmtree(store)
    error = died(serve)
    assert error.code == 255
    assert f"Could not find base path {store} for servable pair" in error.log
    assert "Traceback" not in error.log


def test_wait_for_base_path_serves_once_it_exists(serve: Serve, store: pathlib.Path, pair_models: pathlib.Path) -> None:
    shutil.rmtree(store)
    server = serve("--wait_for_base_path", wait=False)
    wait_until(lambda: "Could not find base path" in server.log, within=60)
    with pytest.raises(TimeoutError):
        server.timeout = 1.0
        server.wait_until_ready()
    shutil.copytree(pair_models / "1", store / "1")
    server.timeout = 30.0
    server.wait_until_ready()


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("model_config_file", "model_config_list {\n  confg {}\n}", "2:3 : "),
        ("model_config_file", "model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        ("batching_parameters_file", "max_batch: 3", "Error parsing text-format tensorflow.serving.BatchingParameters"),
        ("ssl_config_file", 'server_key: "x"', "Expected server_key and server_cert, in PEM"),
        ("monitoring_config_file", "prometheus {}", "Error parsing text-format tensorflow.serving.MonitoringConfig"),
        ("tensorflow_session_config_file", "nope: 1", "Invalid protobuf file"),
    ],
)
def test_an_invalid_file_is_reported(tmp_path: pathlib.Path, flag: str, text: str, message: str) -> None:
    path = tmp_path / "broken.config"
    path.write_text(text)
    batching = ("--enable_batching",) if flag == "batching_parameters_file" else ()
    with pytest.raises(ServingError) as error:
        Server(flags.parse(["--model_base_path=/models/pair", f"--{flag}={path}", *batching]))
    assert str(path) in error.value.message
    assert message in error.value.message


def test_a_model_that_cannot_be_loaded_ends_the_start(serve: Serve, store: pathlib.Path) -> None:
    (store / "1" / "saved_model.pb").unlink()
    error = died(serve)
    assert error.code == 255
    assert "1 servable(s) did not become available" in error.log
    assert "Could not find SavedModel .pb or .pbtxt" in error.log


def test_a_saved_model_that_is_corrupt_differs_from_one_that_is_cut_off(tmp_path: pathlib.Path) -> None:
    whole = saved_model_pb2.SavedModel(meta_graphs=[{"graph_def": {"node": [{"name": "n" * 99}]}}]).SerializeToString()
    for data, code in ((b"<html>" * 9, Code.DATA_LOSS), (whole[:-9], Code.OUT_OF_RANGE)):
        (tmp_path / "saved_model.pb").write_bytes(data)
        with pytest.raises(ServingError) as error:
            load(tmp_path, ["serve"], config_pb2.ConfigProto())
        assert error.value.code is code
    assert error.value.message == "Read less bytes than requested"


def test_it_listens_on_loopback_only(serve: Serve) -> None:
    import psutil

    server = serve(rest=True)
    listening = [each.laddr for each in psutil.Process(server.process.pid).net_connections() if not each.raddr]
    assert {each.port for each in listening} == {server.port, server.rest_port}
    # gRPC's socket is an IPv6 one that maps the address.
    assert {each.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}


def test_the_reference_config_files_are_good() -> None:
    config = ROOT / "serving" / "config"
    Server(
        flags.parse(
            [
                f"--model_config_file={config / 'models.config'}",
                "--enable_batching",
                f"--batching_parameters_file={config / 'batching.config'}",
                f"--monitoring_config_file={config / 'monitoring.config'}",
            ]
        )
    ).stop()


def test_tensor_content_is_refused_where_rest_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    flag = "--enable_serialization_as_tensor_content"
    assert flags.parse([flag]).enable_serialization_as_tensor_content
    with pytest.raises(SystemExit) as ended:
        flags.parse([flag, "--rest_api_port=8501"])
    assert ended.value.code == 2
    assert f"argument {flag}: expected --rest_api_port=0 with it, received 8501" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        flags.parse([f"--rest_api_port={port}"])
    assert ended.value.code == 2
    assert f"argument --rest_api_port: expected a port from 0 to 65535, received {port!r}" in capsys.readouterr().err


def test_the_version_is_printed() -> None:
    done = subprocess.run([LAUNCHER, "--version"], capture_output=True, text=True, check=True)
    assert "TensorFlow Library: 2." in done.stdout
