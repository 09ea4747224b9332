"""The gate: a version is published only if it passes these checks.

The checks load the SavedModel as the server will and compare it with its own contract, with
the client's preprocessing and with the answers that the Keras model gave. `python -m export
check DIR` runs them on any SavedModel of the contract, published or not.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from duoserve.artifact.releases import SERVER_VERSION, minor_release
from duoserve.contract import ContractError
from duoserve.errors import InvalidInput
from export.errors import ExportError, GateError
from export.publish.checks import CHECKS, SIGNED, Reference, Subject, cost_check
from export.publish.cost import Cost


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: what was expected and received, one finding a line, or a note on what was checked."""

    name: str
    findings: tuple[str, ...]
    seconds: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether there are no findings."""
        return not self.findings


def check(
    folder: Path,
    *,
    server_version: str = SERVER_VERSION,
    reference: Reference | None = None,
    costs: Sequence[Cost] = (),
    public_keys: Sequence[Path] = (),
    progress: Callable[[CheckResult], Any] = lambda result: None,
) -> list[CheckResult]:
    """Runs every check on a version's folder, except those that depend on a failed one.

    Args:
        folder: A SavedModel with its `assets.extra/`.
        server_version: The TensorFlow of its server.
        reference: The Keras model that it was made from, if available, with the weights as stored.
        costs: The measured costs of smaller number types, of weights or of the server's computation.
        public_keys: PEM files; if there are any, one of them must have signed the version.
        progress: Called with each result.

    Raises:
        ExportError: No such folder.
        ReleaseError: An invalid server version.
    """
    if not folder.is_dir():
        raise ExportError(f"Expected the folder of a version. Received: {folder}, not a folder")
    minor_release(server_version)
    results = []
    with contextlib.ExitStack() as closing:
        subject = Subject(folder, server_version, reference, public_keys, closing)
        for name, function, fatal in (*CHECKS, *map(cost_check, costs), *([SIGNED] if public_keys else [])):
            begin = time.monotonic()
            try:
                *findings, note = function(subject)
            except (ExportError, ContractError, InvalidInput, OSError, ValueError) as error:
                findings, note = [str(error)], ""
            results.append(CheckResult(name, tuple(findings), time.monotonic() - begin, note))
            progress(results[-1])
            if findings and fatal:
                break
    return results


def refuse_unless_passed(results: list[CheckResult], what: str) -> None:
    """Raises GateError with all findings if a check failed."""
    findings = tuple(f"{result.name}: {finding}" for result in results for finding in result.findings)
    if findings:
        raise GateError(
            f"Expected {what} to pass the gate. Received {len(findings)} finding(s), nothing was published:", findings
        )
