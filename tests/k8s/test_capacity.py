"""The calculator: plans that carry the load, and a word when none can."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.capacity import Load, Measured, plan
from serving.check.manifests.files import ConfigFile, LocalFile
from serving.check.rules import batching
from tests.k8s.tools import ROOT

CURVE = {1: 3.7, 2: 5.0, 4: 8.0, 8: 14.0, 16: 27.0, 32: 53.0}


def test_the_page_and_the_calculator_agree() -> None:
    """1,000 calls a second at 74 each and 60 %: 23 replicas and one to spare."""
    made = plan(Measured(latency_ms=1000 / 74, cpus=2, model_mb=90), Load(rate=1000))
    assert made.replicas == 24
    assert made.flags["tensorflow_intra_op_parallelism"] == 2
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


def test_batching_is_planned_where_it_pays_and_fits_the_doctor() -> None:
    made = plan(Measured(3.7, 2, 20, CURVE), Load(2000, target_ms=200))
    assert made.batching["max_batch_size"] == 32
    text = ""
    for name, value in made.batching.items():
        text += (
            "".join(f"{name}: {size}\n" for size in value)
            if isinstance(value, list)
            else f"{name} {{ value: {value} }}\n"
        )
    file = ConfigFile("file", text, LocalFile("file"), "line")
    assert list(batching.check_file(file, batching.WARMED_UP, None, 2.0)) == []
    # A call waits for one run, for its batch to fill, and for its own run.
    assert 2 * CURVE[32] + made.batching["batch_timeout_micros"] / 1000 <= 200  # type: ignore[operator]


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
