"""`duoserve` from a shell: its output, as text and as JSON, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duoserve import BadReply, PreprocessingSpec
from duoserve._bench import percentiles
from duoserve.cli import main
from tests.client.fake import FakeServer, Version


@pytest.fixture
def image(tmp_path: Path, jpeg: bytes) -> str:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    return str(path)


def where(server: FakeServer, label: str = "stable") -> list[str]:
    return [f"--server={server.address}", "--model=pairs", f"--label={label}"]


def test_predict(server: FakeServer, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *where(server), "--image", image, "--text", "red heart", "--top=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("version 1, sent as tensors")
    assert main(["predict", *where(server), "--image", image, "--text", "red heart", "--json", "--send=bytes"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["label"] == record["top"][0]["label"] == lines[0].split()[0]
    assert record["version"] == 1 and record["target"] == "stable" and record["sent"] == "bytes"


def test_describe(server: FakeServer, spec2: PreprocessingSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *where(server, "canary")]) == 0
    text = capsys.readouterr().out
    assert "24 x 20 pixels" in text and "dog, bee, cat, elk" in text
    assert "uint8 array of shape (batch, 24, 20, 3)" in text and "does not follow the contract" not in text
    assert main(["describe", *where(server, "canary"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["digest"] == spec2.digest and record["follows_contract"] is True and record["version"] == 2


def test_status(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *where(server)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [[str(n), "AVAILABLE"] for n in (3, 2, 1)]
    assert main(["status", *where(server), "--json"]) == 0
    assert [item["version"] for item in json.loads(capsys.readouterr().out)["versions"]] == [3, 2, 1]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (BadReply("Expected more"), 1)])
def test_an_error_while_lines_are_made_has_its_exit_code(
    server: FakeServer, image: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def lines(answer: object, k: int) -> Iterator[str]:
        yield "first"
        raise error

    monkeypatch.setattr("duoserve._printed.prediction_lines", lines)
    assert main(["predict", *where(server), "--image", image, "--text", "x"]) == code


@pytest.mark.parametrize("load", [["--concurrency=3"], ["--rate=200"], ["--concurrency=2", "--prepared"]])
def test_bench(server: FakeServer, image: str, load: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--duration=0.4", "--warmup=0.1"]
    assert main(["bench", *where(server), *short, *load, "--image", image, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["calls"] > 5 and record["versions"] == {"1": record["calls"]} and not record["errors"]
    latencies = [record["milliseconds"][name] for name in ("p50", "p90", "p95", "p99", "max")]
    assert latencies == sorted(latencies) and latencies[0] > 0
    assert main(["bench", *where(server), *short, *load]) == 0
    assert "p99" in capsys.readouterr().out


def test_percentiles_are_ranks() -> None:
    assert percentiles([i / 1000 for i in range(1, 101)]) == pytest.approx(
        {"mean": 50.5, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    )
    assert percentiles([]) == {}


def test_failures_have_exit_codes_and_a_line(
    server: FakeServer, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *where(server, "nope"), "--image", image, "--text", "x"]) == 1
    assert "ModelNotFound" in capsys.readouterr().err
    assert main(["predict", *where(server), "--image", "missing.jpg", "--text", "x", "--json"]) == 2
    output = capsys.readouterr()
    assert json.loads(output.out)["error"] == "InvalidInput" and "missing.jpg" in output.err
    assert main(["status", "--server=nonsense", "--model=pairs"]) == 2
    assert main(["predict", *where(server)]) == 2  # neither an image nor a text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["predict", "--text=x"], "--model"),
        (["predict", "--model=m", "--image=a", "--audio=b"], "--audio"),
        (["predict", "--model=m", "--text=x", "--top=0"], "--top"),
        (["predict", "--model=m", "--text=x", "--top=-2"], "--top"),
        (["bench", "--model=m", "--concurrency=0"], "--concurrency"),
        (["bench", "--model=m", "--concurrency=2.5"], "--concurrency"),
        (["bench", "--model=m", "--rate=0"], "rate"),
        (["bench", "--model=m", "--duration=0"], "duration"),
        (["bench", "--model=m", "--warmup=-1"], "warmup"),
    ],
)
def test_wrong_usage_names_the_option(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [[], ["predict"], ["describe"], ["status"], ["bench"]])
def test_help_explains(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0 and "Exit codes" in capsys.readouterr().out


COMMANDS: list[list[str]] = [
    ["status"],
    ["status", "--json"],
    ["describe"],
    ["predict", "--text=x", "--image"],
    ["predict", "--text=x", "--json", "--image=missing.jpg"],
    ["bench", "--duration=0.1", "--warmup=0"],
    ["--help"],
]


def run(
    server: FakeServer, image: str, command: list[str], *more: tuple[str, str], **streams: Any
) -> subprocess.CompletedProcess[str]:
    arguments = command if command == ["--help"] else [*command, *([image] if command[-1] == "--image" else [])]
    place = [] if command == ["--help"] else where(server)
    # Unbuffered, argparse itself hides that --help could not be written.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | dict(more)
    whole = [sys.executable, "-m", "duoserve", *arguments, *place]
    return subprocess.run(whole, text=True, timeout=60, check=False, env=env, **streams)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_stdout_ends_it_quietly(server: FakeServer, image: str, command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(server, image, command, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert "missing.jpg" in done.stderr if "missing" in command[-1] else not done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_output_that_is_full_is_an_error(server: FakeServer, image: str, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(server, image, command, stdout=full, stderr=subprocess.PIPE)
        last = done.stderr.splitlines()[-1]
        assert (
            last
            == "duoserve: error: Expected to write to standard output. Received: [Errno 28] No space left on device"
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert run(server, image, command, stdout=full, stderr=full).returncode == 1


def test_an_output_that_can_not_spell_it_is_an_error(spec1: PreprocessingSpec, image: str) -> None:
    spec = dataclasses.replace(spec1, labels=("cat", "døg", "öwl"))
    with FakeServer(Version(spec), labels={"stable": 1}) as server:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = run(server, image, ["describe"], ("PYTHONIOENCODING", "ascii"), **streams)
    assert done.returncode == 1 and "Expected to write to standard output. Received: 'ascii'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_is_installed(server: FakeServer) -> None:
    command = Path(sys.executable).with_name("duoserve")
    done = subprocess.run([command, "status", *where(server)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "AVAILABLE" in done.stdout
