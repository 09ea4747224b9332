"""Loads the version in a separate server on this machine, before any replica loads it.

Every replica reads the same file, so a version that crashes its server would crash all of them
at about the same time. Here it does no harm.
"""

import contextlib
import dataclasses
import importlib.util
import subprocess
import tempfile
from pathlib import Path

from duoserve import DuoserveError
from serving.rollout.command import Command
from serving.rollout.errors import Stopped
from serving.rollout.package import Package
from serving.rollout.replicas.fleet import Fleet
from serving.rollout.trial.live_check import LiveCheck

_DYING = 2.0


def rehearse(command: Command, package: Package) -> None:
    """Loads a version in a fresh server and asks for the golden samples.

    Raises:
        Stopped: It does not load there, crashes, or answers wrongly. No replica has loaded it.
    """
    server = command.settings.rehearsal
    if server == "off" or (server == "auto" and importlib.util.find_spec("tensorflow") is None):
        command.reporter.report("rehearse", "skipped: it is off, or TensorFlow is not installed on this machine")
        return
    command.reporter.report("rehearse", f"version {package.version} in a separate server on this machine")
    findings = _findings(command, package, server if isinstance(server, tuple) else None)
    if findings:
        raise Stopped("rehearse", f"rehearse: version {package.version} must not be loaded:", findings)


def _findings(command: Command, package: Package, server: tuple[str, ...] | None) -> list[str]:
    """What is wrong, one line each, in the server of a command; None: in the embedded server."""
    from serving.local.testing import LocalServer, ServerDiedError

    version, timeout = package.version, command.settings.waits.step
    if not any("bfloat16" in word for word in server or ()):
        package = dataclasses.replace(package, bfloat16=0.0)  # this server answers exactly
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        # A folder with only this version, so that the server's default policy loads it.
        (Path(folder) / str(version)).symlink_to(package.path.resolve(), target_is_directory=True)
        flags = (
            f"--model_name={command.settings.model}",
            f"--model_base_path={folder}",
            "--max_num_load_retries=0",
            "--file_system_poll_wait_seconds=1",
        )
        try:
            with LocalServer(*flags, command=server, timeout=timeout) as running:
                try:
                    found = _golden(command, package, running.address)
                except DuoserveError as error:
                    found = [f"expected answers. Received: {type(error).__name__}: {error.message}"]
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        running.process.wait(_DYING)  # the call may fail just before the process ends
                code = running.process.poll()
                return found if code is None else [f"expected the server to stay up. Received: exit code {code}"]
        except ServerDiedError as error:
            last = next((line.strip() for line in reversed(error.log.splitlines()) if line.strip()), "no output")
            return [f"expected version {version} to load. Received: exit code {error.code}: {last[:200]}"]
        except TimeoutError:
            return [f"expected version {version} to load within {timeout:g} s. Received: still loading"]
        except OSError as error:
            return [f"expected {' '.join(server or ('the embedded server',))} to start. Received: {error}"]


def _golden(command: Command, package: Package, address: str) -> list[str]:
    settings = command.settings
    with Fleet(lambda: (address,), settings.model, timeout=settings.waits.call, parallel=1) as one:
        return LiveCheck(one, settings, package, package.version, ()).golden(address)[1]
