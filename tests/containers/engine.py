"""A Docker engine for the tests: the one that answers, or one that is started for them and ended after them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "docker"
"""Images of an engine of ours, kept for the next run."""
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class UnavailableError(RuntimeError):
    """No container can run here; the message is the reason."""


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """An engine that `docker` reaches, by DOCKER_HOST if it is ours.

    Raises:
        UnavailableError: No engine answers, and none can be started here.
    """
    if shutil.which("docker") and _answers():
        yield
        return
    for program in ("docker", "dockerd", "iptables"):
        if shutil.which(program) is None:
            raise UnavailableError(
                f"no Docker engine answers, and {program} is not installed (apt-get install docker.io)"
            )
    if os.geteuid() != 0:
        raise UnavailableError("no Docker engine answers, and only root can start one")
    HOME.mkdir(parents=True, exist_ok=True)
    # Not below HOME: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="engine-") as run, _network_as_it_was():
        address = f"unix://{run}/docker.sock"
        command = ["dockerd", f"--host={address}", f"--data-root={HOME}", f"--exec-root={run}/exec"]
        with open(f"{run}/log", "wb") as log:
            # In another session: Ctrl-C is for the tests, which remove their containers first.
            process = subprocess.Popen(
                [*command, f"--pidfile={run}/pid"], stdout=log, stderr=log, start_new_session=True
            )
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = address
        try:
            deadline = time.monotonic() + 60
            while not _answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = Path(f"{run}/log").read_text(errors="replace").strip().splitlines() or ["no message"]
                    raise UnavailableError(f"dockerd does not start here: {lines[-1]}")
                time.sleep(0.2)
            yield
        finally:
            os.environ.pop("DOCKER_HOST")
            if before is not None:
                os.environ["DOCKER_HOST"] = before
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers() -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20).returncode == 0
    return False


@contextlib.contextmanager
def _network_as_it_was() -> Iterator[None]:
    """dockerd switches forwarding on, and drops what is forwarded for anybody else; it leaves both behind."""
    forwarding = _FORWARDING.read_text()
    policy = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True).stdout.partition("\n")[0]
    try:
        yield
    finally:
        if policy.startswith("-P FORWARD "):
            subprocess.run(["iptables", *policy.split()], capture_output=True)
        _FORWARDING.write_text(forwarding)
