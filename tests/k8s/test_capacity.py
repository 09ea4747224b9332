"""The plan: measured on a running server or from numbers, it carries the load, or an error says why none can."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serving.capacity import Load, Measured, plan
from serving.capacity.__main__ import main
from serving.capacity.patches import batching_config
from serving.local.testing import LocalServer
from tests.k8s.tools import ROOT, tool

CURVE = {1: 3.7, 2: 5.0, 4: 8.0, 8: 14.0, 16: 27.0, 32: 53.0}


def test_the_plan_agrees_with_the_page() -> None:
    """1,000 calls a second at 99 each and 60 %: 17 replicas and one to spare; and so the page's own example."""
    assert plan(Measured(latency_ms=20, cpus=2, model_mb=90, throughput=99), Load(rate=1000)).replicas == 18
    page = (ROOT / "k8s/CAPACITY.md").read_text(encoding="utf-8")
    example = re.search(r"need (\d+) / \((\d+) × (0\.\d)\) = (\d+) replicas of 2 CPUs, plus one spare", page)
    assert example
    rate, throughput, utilization, replicas = map(float, example.groups())
    assert utilization == Load(rate=rate).utilization
    made = plan(Measured(latency_ms=20, cpus=2, model_mb=90, throughput=throughput), Load(rate=rate))
    assert made.replicas == replicas + 1
    assert made.flags["tensorflow_intra_op_parallelism"] == 1
    assert made.flags["tensorflow_inter_op_parallelism"] == 2
    assert made.flags["grpc_max_threads"] >= 64
    assert not made.batching


@given(
    latency=st.floats(0.1, 100),
    cpus=st.integers(1, 32),
    rate=st.floats(0.1, 1e5),
    utilization=st.floats(0.1, 0.9),
    spare=st.integers(0, 5),
)
def test_without_its_spare_replicas_a_plan_still_carries_the_peak(
    latency: float, cpus: int, rate: float, utilization: float, spare: int
) -> None:
    made = plan(Measured(latency, cpus, 100), Load(rate, utilization=utilization, spare=spare, target_ms=1000))
    assert made.busy <= utilization + 0.01
    assert 2 <= made.minimum <= made.replicas <= made.maximum


def test_memory_has_room_for_two_versions() -> None:
    small, large = (plan(Measured(10, 2, size), Load(50)).memory_mb for size in (100, 1100))
    assert large - small >= 2 * 1000
    assert small % 256 == 0


def test_batching_is_planned_where_it_pays() -> None:
    made = plan(Measured(3.7, 2, 20, CURVE), Load(2000, target_ms=200))
    assert made.batching["max_batch_size"] == 16  # 32 rows would bring 2 % more, and take twice as long
    # Batches run on each CPU, and the last that may wait ends within the target.
    assert made.batching["num_batch_threads"] == 2
    assert (made.batching["max_enqueued_batches"] / 2 + 1) * CURVE[16] <= 200  # type: ignore[operator]
    # A call waits for one run, for its batch to fill, and for its own run.
    assert 2 * CURVE[16] + made.batching["batch_timeout_micros"] / 1000 <= 200  # type: ignore[operator]


def test_batching_saves_no_more_than_the_run_of_the_graph() -> None:
    """A call costs 1 ms beside it: with 48 ms for 2 x 16 rows, a replica answers 1000 / (1 + 1.5) a second."""
    made = plan(Measured(3.0, 2, 20, {1: 4.0, 16: 48.0}, overhead_ms=1.0), Load(1000))
    assert made.per_replica == 400
    assert not plan(Measured(3.0, 2, 20, {1: 4.0, 16: 48.0}, throughput=380, overhead_ms=1.0), Load(1000)).batching


def test_without_a_rate_the_plan_is_for_what_one_replica_carries() -> None:
    made = plan(Measured(10, 2, throughput=200), Load())
    assert (made.rate, made.replicas, made.busy, made.memory_mb) == (120, 2, 0.6, None)


def test_batching_is_left_off_where_it_does_not_pay_or_is_too_slow() -> None:
    assert not plan(Measured(10, 2, 20, {1: 10, 8: 79}), Load(100)).batching
    assert plan(Measured(3.7, 2, 20, CURVE), Load(2000, target_ms=40)).batching["max_batch_size"] == 8
    assert not plan(Measured(3.7, 2, 20, {32: 53.0}), Load(2000, target_ms=40)).batching


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--latency-ms", "300"], "at most target_ms, 200 ms"),
        (["--latency-ms", "0"], "latency_ms above 0"),
        (["--latency-ms", "10", "--utilization", "1"], "utilization between 0.1 and 0.9"),
        (["--latency-ms", "10", "--quiet-rate", "500"], "quiet_rate between 0 and rate"),
        (["--latency-ms", "10", "--curve", "a"], "Expected ROWS:MS"),
        (
            ["--latency-ms", "10", "--curve", "1:4,8:10,8:11"],
            "Expected each number of rows once. Received: '1:4,8:10,8:11'",
        ),
        (["--latency-ms", "10", "--curve", "8:10,1:4"], "Expected rows of the curve to increase. Received: 1 after 8"),
        (["--latency-ms", "10", "--curve", "1:4,8:3"], "Expected the time of 8 rows to be at least that of 1, 4 ms"),
        (["--latency-ms", "10", "--row-mb", "1e9"], "Expected row_mb of at most 1024"),
    ],
)
def test_numbers_that_no_plan_fits_are_refused(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.capacity", "--rate", "400", "--cpus", "2", "--model-mb", "90", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_the_command_prints_text_or_json() -> None:
    done = run("--latency-ms", "13.5")
    assert done.returncode == 0 and "minReplicas" in done.stdout and "--grpc_max_threads=64" in done.stdout
    assert json.loads(run("--latency-ms", "13.5", "--json").stdout)["replicas"] == 10


def test_options_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "emoji" / "7-old").mkdir(parents=True)
    numbers = ["--rate", "400", "--cpus", "2", "--latency-ms", "10", "--store", str(tmp_path)]
    for arguments, says in (
        (numbers, "Expected --model, for the size of its newest version in --store. Received: nothing"),
        ([*numbers, "--model", "emoji"], f"Expected versions in {tmp_path / 'emoji'}. Received: none"),
        (["--server", "LOCALHOST:1", "--model", "emoji", "--seconds", "1"], "Expected --seconds between"),  # not --cpus
        ([*numbers, "--model", "other"], f"Expected versions in {tmp_path / 'other'}. Received: none"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert says in capsys.readouterr().err
    measuring = ["--server", "127.0.0.1:1", "--model", "emoji", "--key", str(tmp_path / "key.pem")]
    assert main(measuring) == 1  # not in plain text, either
    assert "cert and key" in capsys.readouterr().err


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[LocalServer]:
    """A server that refuses batches of more than 8."""
    config = store / "batching.config"
    config.write_text(batching_config({"max_batch_size": 8, "batch_timeout_micros": 0, "num_batch_threads": 1}))
    flags = ("--model_name=emoji", f"--model_base_path={store}/emoji", "--enable_batching=true")
    with LocalServer(*flags, f"--batching_parameters_file={config}") as running:
        yield running


def capacity(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.capacity", "--model=emoji", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240)


def test_a_running_server_is_measured_and_planned_for(server: LocalServer, store: Path) -> None:
    done = capacity(f"--server={server.address}", f"--store={store}", "--cpus=2", "--seconds=3", "--rate=100", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    levels = made["measured"]["levels"]
    assert [level["callers"] for level in levels[:3]] == [1, 2, 4]
    assert all(level["calls"] and not level["errors"] and level["p50"] <= level["p99"] for level in levels)
    curve = made["measured"]["curve"]
    assert list(curve) == ["1", "2", "4", "8"] and list(curve.values()) == sorted(curve.values())
    assert made["rate"] == 100 and made["replicas"] >= 2
    assert made["memory_mb"] in (512, 768)  # a model of less than a megabyte, with or without batching


def test_the_measurement_is_printed_when_no_plan_fits(server: LocalServer) -> None:
    done = capacity(f"--server={server.address}", "--cpus=2", "--seconds=2", "--target-ms=0.01")
    assert done.returncode == 2 and "at most target_ms, 0.01 ms" in done.stderr
    assert "rows in a request (2 at once)" in done.stdout and "replicas" not in done.stdout


def test_the_patches_fit_the_manifests_and_the_doctor(server: LocalServer, store: Path, tmp_path: Path) -> None:
    for folder in ("k8s", "serving/config"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    numbers = [
        "--rate=4000",
        "--latency-ms=3.7",
        "--cpus=4",
        "--model-mb=900",
        "--curve=1:3.7,8:8,16:15",
        "--throughput=500",
    ]
    done = capacity(*numbers, "--target-ms=100", f"--patches={tmp_path}/k8s/components/capacity")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "k8s/overlays/local/kustomization.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "components": [*content["components"], "../../components/capacity"]}))
    # The overlay's own patches come last, and would win.
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "patches": []}))
    made = subprocess.run([tool("kubectl"), "kustomize", str(path.parent)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    documents = [document for document in yaml.safe_load_all(made.stdout) if document]
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["cpu"] == "4" == container["resources"]["requests"]["cpu"]
    assert "--enable_batching=true" in container["args"]
    config = next(document for document in documents if document["metadata"]["name"].startswith("duoserve-server-"))
    assert "max_batch_size { value: 16 }" in config["data"]["batching.config"]
    assert "monitoring.config" in config["data"]
    autoscaler = next(document for document in documents if document["kind"] == "HorizontalPodAutoscaler")
    assert (
        f"minReplicas {autoscaler['spec']['minReplicas']}, maxReplicas {autoscaler['spec']['maxReplicas']}"
        in done.stdout
    )
    found = subprocess.run(
        [sys.executable, "-m", "serving.check", "-"],
        input=made.stdout,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert not [line for line in found.stdout.splitlines() if "batching" in line], found.stdout


def test_settings_are_tried_and_plotted(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "tune.png"
    options = ("--tune", f"--store={store}", "--cpus=1", "--seconds=4", "--target-ms=5000", f"--out={plot}")
    code = main(["--model=emoji", *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out.count("batch threads 1") == 2 and "no batching" in said.out
    assert said.out.count("<- best") == 1 and "replicas at the peak" in said.out
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--server=127.0.0.1:1", "--seconds=2"], 1, "error: "),
        (["--server=models.example:8500"], 2, "Expected --cpus"),
        (["--server=127.0.0.1:1", "--tune"], 2, "Received: both"),
        (["--tune", "--store=nowhere"], 2, "Expected versions in nowhere/emoji. Received: none"),
        (["--tune"], 2, "Expected --store"),
        (["--server=127.0.0.1:1", "--patches=/dev/null/no"], 1, "Not a directory"),
        (["--server=127.0.0.1:1", "--seconds=1"], 2, "Expected --seconds between 2 and 3600"),
    ],
)
def test_a_failed_measurement_is_an_error(arguments: list[str], code: int, says: str) -> None:
    done = capacity(*arguments)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr
