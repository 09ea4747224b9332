"""Which versions should be served: base paths are polled, version policies applied."""

import logging
import pathlib
import re
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from serving.local.errors import ServingError, invalid_argument

_LOG = logging.getLogger(__name__)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)

ModelConfig: TypeAlias = "config_pb2.ModelConfig"
Aspire = Callable[[str, dict[int, pathlib.Path]], None]


def versions_on_disk(model: ModelConfig) -> dict[int, pathlib.Path]:
    """Sub-folders of the base path whose name is a number; everything else (v2, .tmp-2, 0.1) is ignored.

    Raises:
        ServingError: INVALID_ARGUMENT when there is no such folder, or it can't be read.
    """
    base_path, found = pathlib.Path(model.base_path), dict[int, pathlib.Path]()
    try:
        children = sorted(base_path.iterdir())
    except FileNotFoundError as error:
        raise invalid_argument(f"Could not find base path {base_path} for servable {model.name}") from error
    except OSError as error:
        raise invalid_argument(f"Could not read base path {base_path}: {error}") from error
    for child in children:
        if not _NUMBER.fullmatch(child.name) or int(child.name) >= 1 << 63:
            continue
        version = int(child.name)
        if version in found:
            _LOG.warning("Version %d: %s is used, %s is ignored", version, found[version].name, child.name)
        else:
            found[version] = child
    return found


def choose(model: ModelConfig) -> dict[int, pathlib.Path]:
    """The versions on disk that the model's policy wants. Errors are those of `versions_on_disk`."""
    found, policy = versions_on_disk(model), model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return found
    if kind == "specific":
        wanted = set(policy.specific.versions)
        for version in sorted(wanted - found.keys()):
            _LOG.warning("Version %d of %s is configured and does not exist", version, model.name)
        return {version: path for version, path in found.items() if version in wanted}
    count = policy.latest.num_versions or 1
    return {version: found[version] for version in sorted(found)[-count:]}


class StoragePathSource:
    """Polls the base paths and sets the aspired versions of each model."""

    def __init__(self, aspire: Aspire, poll_seconds: int) -> None:
        self._aspire = aspire
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._models: tuple[ModelConfig, ...] = ()
        self._last_problem = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def update(self, models: Iterable[ModelConfig]) -> set[str]:
        """Watches these models from the next poll on; those left out are no longer aspired, from now.

        Returns:
            The names of the models that were not watched before.
        """
        with self._lock:
            before = {model.name for model in self._models}
            self._models = tuple(models)
            names = {model.name for model in self._models}
            for name in sorted(before - names):
                self._aspire(name, {})
        if self._poll_seconds == 0 and self._thread is not None:
            # The stock server would never poll again, and a reload that adds a model would hang.
            self.poll()
        return names - before

    def start(self) -> None:
        """Polls once, then every `poll_seconds` in a thread."""
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
        """Polls all base paths once. An unreadable one leaves every model unchanged, as in the stock server."""
        with self._lock:
            try:
                aspired = {model.name: choose(model) for model in self._models}
            except ServingError as error:
                problem = f"File-system access error, versions are unchanged: {error.message}"
            else:
                empty = [f"{model.name} in {model.base_path}" for model in self._models if not aspired[model.name]]
                problem = f"No versions of {', '.join(empty)}" if empty else ""
                for name, versions in aspired.items():
                    self._aspire(name, versions)
        if problem and problem != self._last_problem:
            _LOG.error(problem)
        self._last_problem = problem
