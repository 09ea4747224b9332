"""Which versions should be served: base paths are polled, version policies applied."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from serving.local.errors import ServingError, invalid_argument

_LOG = logging.getLogger(__name__)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)

Policy: TypeAlias = "source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy"
Aspire = Callable[[str, dict[int, pathlib.Path]], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """A model, the folder its versions appear in, and which of them to serve."""

    name: str
    base_path: pathlib.Path
    policy: Policy


def versions_on_disk(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """Sub-folders whose name is a number; everything else (v2, .tmp-2, 0.1) is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT when there is no such folder.
    """
    found: dict[int, pathlib.Path] = {}
    for child in sorted(base_path.iterdir()):
        if not _NUMBER.fullmatch(child.name) or int(child.name) >= 1 << 63:
            continue
        version = int(child.name)
        if version in found:
            _LOG.warning("Version %d: %s is used, %s is ignored", version, found[version].name, child.name)
        else:
            found[version] = child
    return found


def choose(found: dict[int, pathlib.Path], policy: Policy, name: str) -> dict[int, pathlib.Path]:
    """The versions that a policy wants of those that exist."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return found
    if kind == "specific":
        wanted = set(policy.specific.versions)
        for version in sorted(wanted - found.keys()):
            _LOG.warning("Version %d of %s is configured and does not exist", version, name)
        return {version: path for version, path in found.items() if version in wanted}
    count = policy.latest.num_versions or 1
    return {version: found[version] for version in sorted(found)[-count:]}


class StoragePathSource:
    """Polls the base paths and sets the aspired versions of each model."""

    def __init__(self, aspire: Aspire, poll_seconds: int) -> None:
        self._aspire = aspire
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._watched: tuple[Watched, ...] = ()
        self._last_problem = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def watched(self) -> tuple[Watched, ...]:
        return self._watched

    def update(self, watched: Sequence[Watched]) -> None:
        """Watch these models from the next poll on; those left out are no longer aspired, from now."""
        with self._lock:
            gone = {model.name for model in self._watched} - {model.name for model in watched}
            self._watched = tuple(watched)
            for name in sorted(gone):
                self._aspire(name, {})
        if self._poll_seconds == 0 and self._thread is not None:
            # The stock server would never poll again, and a reload that adds a model would hang.
            self.poll()

    def start(self) -> None:
        """Poll once, then every `poll_seconds` in a thread."""
        self._thread = threading.Thread(target=self._run, name="storage-path-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        if self._poll_seconds < 0:
            return
        self.poll()
        while self._poll_seconds > 0 and not self._stop.wait(self._poll_seconds):
            self.poll()

    def poll(self) -> None:
        """Poll all base paths once. An unreadable one leaves every model unchanged, as in the stock server."""
        with self._lock:
            problem = self._look()
        if problem and problem != self._last_problem:
            _LOG.error("File-system access error, versions are unchanged: %s", problem)
        self._last_problem = problem

    def _look(self) -> str:
        aspired: dict[str, dict[int, pathlib.Path]] = {}
        problems = []
        for model in self._watched:
            try:
                aspired[model.name] = choose(poll_base_path(model), model.policy, model.name)
            except (OSError, ServingError) as error:
                return str(error)
            if not aspired[model.name]:
                problems.append(f"No versions of servable {model.name} found under base path {model.base_path}")
        for name, versions in aspired.items():
            self._aspire(name, versions)
        return "; ".join(problems)


def poll_base_path(model: Watched) -> dict[int, pathlib.Path]:
    """`versions_on_disk`, or the stock server's complaint when there is no base path."""
    if not model.base_path.exists():
        raise invalid_argument(f"Could not find base path {model.base_path} for servable {model.name}")
    return versions_on_disk(model.base_path)
