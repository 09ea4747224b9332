"""The container's entrypoint, run for real as PID 1 of a PID namespace: signals, codes, children, threads, TLS."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.client.net import Authority
from tests.k8s.tools import ROOT

ENTRYPOINT = ROOT / "serving/container/entrypoint.sh"
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
QUICK = Path(__file__).with_name("quick.sh")
CAN_UNSHARE = subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


class Container:
    """The entrypoint around the stand-in; as PID 1 where this machine allows namespaces to its user.

    Without arguments its server serves: the port of its command line is open, though this process holds it.
    """

    def __init__(self, folder: Path, *arguments: str, pid1: bool = True, **env: str) -> None:
        self._listener: socket.socket | None = None
        if not arguments:
            self._listener = socket.create_server(("127.0.0.1", 0))
            arguments = (f"--port={self._listener.getsockname()[1]}",)
        server = folder / "tensorflow_model_server"
        server.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("standin.py")} "$@"\n')
        server.chmod(0o755)
        # A shell can't trap what was ignored when it began, as SIGINT is under a job in the background.
        command = ["env", "--default-signal=INT", str(ENTRYPOINT), *arguments]
        self.pid1 = pid1 and CAN_UNSHARE
        self.process = subprocess.Popen(
            [*NAMESPACE, *command] if self.pid1 else command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env={"PATH": os.environ["PATH"], "DUOSERVE_SERVER": str(server), "DUOSERVE_DRAIN_SECONDS": "1", **env},
        )
        self.lines: list[str] = []
        self._coming: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._coming.put(line.strip())
        self._coming.put(None)

    def read_until(self, text: str | None, within: float = 30.0) -> None:
        """Reads up to the line with this text; None reads to the end."""
        deadline = time.monotonic() + within
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                tree = [(child.pid, child.status(), child.cmdline()) for child in self.tree()]
                self.kill()
                raise AssertionError(f"{text!r} did not come in {within} s: {self.lines}; processes {tree}") from None
            if line is None:
                assert text is None, f"{text!r} never came: {self.lines}"
                return
            self.lines.append(line)
            if text is not None and text in line:
                return

    def tree(self) -> list[psutil.Process]:
        outer = psutil.Process(self.process.pid)
        return [outer, *outer.children(recursive=True)]

    def kill(self) -> None:
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):  # those inside a namespace end with its first one
                process.kill()

    @property
    def server(self) -> psutil.Process:
        return next(child for child in self.entrypoint.children() if "standin.py" in " ".join(child.cmdline()))

    @property
    def entrypoint(self) -> psutil.Process:
        outer = psutil.Process(self.process.pid)
        return outer.children()[0] if self.pid1 else outer

    def signal(self, number: int) -> float:
        os.kill(self.entrypoint.pid, number)
        return time.monotonic()

    def end(self, within: float = 20.0) -> int:
        self.read_until(None, within)
        assert self.process.stdout
        self.process.stdout.close()
        if self._listener:
            self._listener.close()
        return self.process.wait(within)


@pytest.fixture(params=[True, False], ids=["pid1", "child"])
def pid1(request: pytest.FixtureRequest) -> Iterator[bool]:
    if request.param and not CAN_UNSHARE:
        pytest.skip("this user may not make a PID namespace (unshare); the same tests run without one")
    yield request.param


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_then_ends_the_server(tmp_path: Path, pid1: bool, number: int) -> None:
    container = Container(tmp_path, pid1=pid1)
    container.read_until("serving")
    sent = container.signal(number)
    container.read_until("serving 1 s more")
    time.sleep(0.5)
    assert container.process.poll() is None, "it ended before the drain was over"
    assert container.end() == 0
    assert 1.0 <= time.monotonic() - sent < 8


def test_a_second_signal_ends_it_at_once(tmp_path: Path, pid1: bool) -> None:
    container = Container(tmp_path, pid1=pid1, DUOSERVE_DRAIN_SECONDS="60")
    container.read_until("serving")
    container.signal(signal.SIGTERM)
    container.read_until("serving 60 s more")
    time.sleep(0.2)
    container.signal(signal.SIGTERM)
    assert container.end() == 0


@pytest.mark.parametrize("flags", [["--port=1"], ["--port=1", "--rest_api_port=2"], ["--port=0", "--rest_api_port=1"]])
def test_a_server_that_never_served_is_ended_at_once(tmp_path: Path, pid1: bool, flags: list[str]) -> None:
    """As it waits for a store: nobody calls it, so there is nothing to drain."""
    container = Container(tmp_path, *flags, pid1=pid1, DUOSERVE_DRAIN_SECONDS="60")
    container.read_until("serving")
    container.signal(signal.SIGTERM)
    container.read_until("SIGTERM before the server served: ending now")
    assert container.end() == 0


@pytest.mark.parametrize("flag", ["--rest_api_port={port}", "--port=1 --port={port}", "--grpc_socket_path={socket}"])
def test_any_open_port_counts_as_serving(tmp_path: Path, pid1: bool, flag: str) -> None:
    path = tmp_path / "grpc.sock"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(path))
        words = flag.format(port=listener.getsockname()[1], socket=path).split()
        container = Container(tmp_path, *words, pid1=pid1)
        container.read_until("serving")
        container.signal(signal.SIGTERM)
        container.read_until("serving 1 s more")
        assert container.end() == 0


@pytest.mark.slow
def test_a_server_that_is_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    """Ten seconds after the end of its drain, which a second signal brings forward."""
    container = Container(tmp_path, DUOSERVE_DRAIN_SECONDS="60", SERVER_BEHAVIOUR="deaf")
    container.read_until("serving")
    container.signal(signal.SIGTERM)
    container.read_until("serving 60 s more")
    container.signal(signal.SIGTERM)
    assert container.end() == 137


def test_no_signal_is_lost_at_any_moment(tmp_path: Path, pid1: bool) -> None:
    """From the first line of the server on, in steps of half a millisecond: each is answered at once."""
    for step in range(30):
        container = Container(tmp_path, pid1=pid1, DUOSERVE_SERVER=str(QUICK), DUOSERVE_DRAIN_SECONDS="0")
        container.read_until("serving")
        time.sleep(step / 2000)
        container.signal(signal.SIGTERM)
        assert container.end(within=10) == 0, step


def test_no_second_signal_is_lost_at_any_moment(tmp_path: Path, pid1: bool) -> None:
    """From the word on the first one on, in steps of a quarter of a millisecond."""
    for step in range(30):
        container = Container(tmp_path, pid1=pid1, DUOSERVE_SERVER=str(QUICK), DUOSERVE_DRAIN_SECONDS="60")
        container.read_until("serving")
        container.signal(signal.SIGTERM)
        container.read_until("serving 60 s more")
        time.sleep(step / 4000)
        container.signal(signal.SIGTERM)
        assert container.end(within=10) == 0, step


def test_a_signal_before_the_start_starts_no_server(tmp_path: Path, pid1: bool) -> None:
    os.mkfifo(tmp_path / "cpu.max")
    container = Container(tmp_path, pid1=pid1, DUOSERVE_CGROUP=str(tmp_path))
    with open(tmp_path / "cpu.max", "w") as limit:  # opens when the entrypoint reads
        container.signal(signal.SIGTERM)
        limit.write("max 100000\n")
    assert container.end() == 0
    assert container.lines == ["duoserve: SIGTERM before the server started"]


@pytest.mark.parametrize(("behaviour", "code"), [("exit:0", 0), ("exit:3", 3), ("exit:255", 255), ("abort", 134)])
def test_a_server_that_ends_by_itself_gives_its_code(tmp_path: Path, pid1: bool, behaviour: str, code: int) -> None:
    container = Container(tmp_path, pid1=pid1, SERVER_BEHAVIOUR=behaviour)
    assert container.end() == code


def test_a_server_that_crashes_while_it_drains_gives_its_code(tmp_path: Path, pid1: bool) -> None:
    container = Container(tmp_path, pid1=pid1, DUOSERVE_DRAIN_SECONDS="60")
    container.read_until("serving")
    container.signal(signal.SIGTERM)
    container.read_until("serving 60 s more")
    container.server.send_signal(signal.SIGSEGV)
    assert container.end() == 128 + signal.SIGSEGV


@pytest.mark.skipif(not CAN_UNSHARE, reason="orphans come to PID 1, which needs a PID namespace (unshare)")
def test_orphans_are_reaped(tmp_path: Path) -> None:
    container = Container(tmp_path, SERVER_BEHAVIOUR="orphans")
    container.read_until("serving")
    deadline = time.monotonic() + 10
    while len(container.entrypoint.children()) > 2:  # zombies count; the server stays, and what wakes `wait` up
        assert time.monotonic() < deadline, container.entrypoint.children()
        time.sleep(0.05)
    assert container.server in container.entrypoint.children()
    container.signal(signal.SIGTERM)
    assert container.end() == 0


@pytest.mark.parametrize(
    ("file", "content", "threads"),
    [
        ("cpu.max", "200000 100000", "2"),
        ("cpu.max", "150000 100000", "2"),
        ("cpu.max", "50000 100000", "1"),
        ("cpu.max", "max 100000", str(len(os.sched_getaffinity(0)))),
        ("cpu/cpu.cfs_quota_us", "300000", "3"),
        ("cpu/cpu.cfs_quota_us", "-1", str(len(os.sched_getaffinity(0)))),
    ],
)
def test_operations_at_once_come_from_the_cpu_limit(tmp_path: Path, file: str, content: str, threads: str) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / file).write_text(content + "\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    container = Container(tmp_path, "--port=1", SERVER_BEHAVIOUR="exit:0", DUOSERVE_CGROUP=str(tmp_path))
    assert container.end() == 0
    wanted = f"--tensorflow_intra_op_parallelism=1 --tensorflow_inter_op_parallelism={threads}"
    assert container.lines[0] == f"arguments --port=1 {wanted}"


def test_flags_that_are_given_are_left_alone(tmp_path: Path) -> None:
    given = ["--tensorflow_intra_op_parallelism=7", "--tensorflow_inter_op_parallelism=5", "--model_name=a b"]
    container = Container(tmp_path, *given, SERVER_BEHAVIOUR="exit:0")
    container.end()
    assert container.lines[0] == "arguments " + " ".join(given)


@pytest.mark.parametrize(
    ("precision", "given", "added"),
    [
        ("bfloat16", [], ["--mixed_precision=bfloat16"]),
        ("bfloat16", ["--mixed_precision="], []),
        ("float32", [], []),
        ("", [], []),
    ],
)
def test_the_precision_is_a_setting(tmp_path: Path, precision: str, given: list[str], added: list[str]) -> None:
    given = ["--tensorflow_intra_op_parallelism=1", "--tensorflow_inter_op_parallelism=1", *given]
    container = Container(tmp_path, *given, SERVER_BEHAVIOUR="exit:0", DUOSERVE_PRECISION=precision)
    assert container.end() == 0
    assert container.lines[-2] == " ".join(["arguments", *given, *added])


@pytest.mark.parametrize(("features", "slow"), [("fma avx512_bf16", 0), ("amx_bf16 amx_tile", 0), ("avx2 f16c", 1)])
@pytest.mark.parametrize(
    ("precision", "flags", "asked"),
    [("bfloat16", [], 1), ("", ["--mixed_precision=bfloat16"], 1), ("float32", ["--port=1"], 0)],
)
def test_a_processor_without_bfloat16_is_warned_about(
    tmp_path: Path, features: str, slow: int, precision: str, flags: list[str], asked: int
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : sse2 {features}\n")
    env = {"DUOSERVE_CPUINFO": str(tmp_path / "cpuinfo"), "DUOSERVE_PRECISION": precision}
    container = Container(tmp_path, *flags, SERVER_BEHAVIOUR="exit:0", **env)
    assert container.end() == 0
    assert sum("neither avx512_bf16 nor amx_bf16" in line for line in container.lines) == slow * asked


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"DUOSERVE_DRAIN_SECONDS": "a minute"}, "Expected DUOSERVE_DRAIN_SECONDS to be whole seconds"),
        ({"DUOSERVE_PRECISION": "bf16"}, "Expected DUOSERVE_PRECISION to be float32 or bfloat16"),
        ({"DUOSERVE_CPUS": "0"}, "Expected DUOSERVE_CPUS to be a number above 0"),
        ({"DUOSERVE_SERVER": "/nowhere/server"}, "Expected /nowhere/server to be a program"),
        ({"DUOSERVE_SERVER": "/usr"}, "Expected /usr to be a program"),
        ({"DUOSERVE_TLS_DIR": "/nowhere"}, "Expected /nowhere/tls.key"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, env: dict[str, str], message: str) -> None:
    container = Container(tmp_path, pid1=False, **env)
    assert container.end() == 64
    assert message in container.lines[0]


def test_certificates_become_the_config_that_the_server_reads(tmp_path: Path) -> None:
    """The same text goes through the server's own proto, and the keys come out as they were."""
    from google.protobuf import text_format

    from serving.local import configs_pb2

    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    folder = tmp_path / "tls"
    folder.mkdir()
    for name, source in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.path)):
        (folder / name).write_bytes(source.read_bytes())
    target = tmp_path / "ssl.config"
    flag = f"--ssl_config_file={target}"
    container = Container(tmp_path, flag, SERVER_BEHAVIOUR="exit:0", DUOSERVE_TLS_DIR=str(folder))
    assert container.end() == 0
    assert shlex.split(container.lines[0]).count(flag) == 1
    config = text_format.Parse(target.read_text(), configs_pb2.SSLConfig())
    assert config.client_verify
    for written, source in (
        (config.server_cert, certificate),
        (config.server_key, key),
        (config.custom_ca, authority.path),
    ):
        assert written.strip() == source.read_text().strip()
    assert target.stat().st_mode & 0o077 == 0
