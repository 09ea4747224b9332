"""Loads the version in a separate server on this machine, before any replica loads it.

Every replica reads the same file, so a version that crashes its server would crash all of them
at about the same time. Here it does no harm.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from duoserve import DuoserveError
from serving.rollout.package import Package

__all__ = ["can_rehearse", "rehearse"]

_DYING = 2.0


def can_rehearse(server: str | tuple[str, ...]) -> bool:
    """Whether there is a server for the rehearsal: not if it is "off"; "auto" needs TensorFlow on this machine."""
    return server != "off" and (server != "auto" or importlib.util.find_spec("tensorflow") is not None)


def rehearse(
    package: Package,
    model: str,
    server: str | tuple[str, ...],
    *,
    timeout: float,
    check: Callable[[str], list[str]],
) -> list[str]:
    """Loads a version in a fresh server and checks the golden samples.

    Args:
        package: The version.
        model: The model's name.
        server: "auto" for the embedded one, or the command of another.
        timeout: Seconds for it to load.
        check: Takes the address; returns the findings.

    Returns:
        The findings, one line each.
    """
    from serving.local.testing import LocalServer, ServerDiedError

    command = None if isinstance(server, str) else server
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        # A folder with only this version, so that the server's default policy loads it.
        (Path(folder) / str(package.version)).symlink_to(package.path.resolve(), target_is_directory=True)
        flags = (
            f"--model_name={model}",
            f"--model_base_path={folder}",
            "--max_num_load_retries=0",
            "--file_system_poll_wait_seconds=1",
        )
        try:
            with LocalServer(*flags, command=command, timeout=timeout) as running:
                try:
                    found = check(running.address)
                except DuoserveError as error:
                    found = [f"expected answers. Received: {type(error).__name__}: {error.message}"]
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        running.process.wait(_DYING)  # the call may fail just before the process ends
                code = running.process.poll()
                return found if code is None else [f"expected the server to stay up. Received: exit code {code}"]
        except ServerDiedError as error:
            return [f"expected version {package.version} to load. Received: exit code {error.code}: {_last(error.log)}"]
        except TimeoutError:
            return [f"expected version {package.version} to load within {timeout:g} s. Received: still loading"]
        except OSError as error:
            return [f"expected {' '.join(command or ('the embedded server',))} to start. Received: {error}"]


def _last(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"
