"""The configured models: their paths and labels, and the lookup of the version that a call asks for."""

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from serving.local.errors import Code, ServingError, failed_precondition, invalid_argument
from serving.local.versions.manager import Closeable, Manager
from serving.local.versions.source import StoragePathSource, versions_on_disk
from serving.local.versions.states import ServableId, State, StateMonitor, VersionStatus
from serving.models_config import protos

S = TypeVar("S", bound=Closeable)


class ServerCore(Generic[S]):
    """Configuration, labels and lookup over a `Manager` and its `StoragePathSource`."""

    def __init__(
        self,
        manager: Manager[S],
        source: StoragePathSource,
        states: StateMonitor,
        *,
        labels_for_unavailable: bool = False,
    ) -> None:
        self._manager = manager
        self._source = source
        self.states = states
        self._labels_for_unavailable = labels_for_unavailable
        self._reloading = threading.Lock()
        self._labels: dict[str, dict[str, int]] = {}

    def start(self, config: config_pb2.ModelServerConfig, give_up: Callable[[], bool], *, wait: bool) -> None:
        """Loads the first config; waits until each of its models has a version that serves, or `give_up` returns True.

        Args:
            wait: Also wait for base paths that do not exist yet.

        Raises:
            ServingError: A bad config, a label without a version, a base path that is missing,
                a model whose versions can't be loaded.
        """
        if config.WhichOneof("config") == "custom_model_config":
            raise invalid_argument("ModelServer does not yet support custom model config.")
        models = config.model_config_list
        with self._reloading:
            self._labels = self._checked_labels(models)
            if not wait:
                for model in models.config:
                    versions_on_disk(model)
            names = self._source.update(models.config)
            self._source.start()
            settled = self.states.wait_until_settled(names, give_up=give_up)
            self._manager.end_of_first_load()
        _raise_unavailable(settled, "servable(s)")

    def reload(self, config: config_pb2.ModelServerConfig, give_up: Callable[[], bool]) -> None:
        """Applies another list of models: labels first, then versions; waits for new models.

        Raises:
            ServingError: With the stock server's message. Models and labels are then as before,
                unless a new model could not be loaded.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise failed_precondition("It is only legal to transition from one ModelConfigList to another.")
        models = config.model_config_list
        with self._reloading:
            self._labels = self._checked_labels(models)
            before = self.states.changes
            new = self._source.update(models.config)
            settled = self.states.wait_until_settled(new, since=before, give_up=give_up)
        if settled is None:
            raise ServingError(Code.CANCELLED, f"The caller left before these models were loaded: {sorted(new)}")
        _raise_unavailable(settled, "model(s)")

    def _checked_labels(self, models: config_pb2.ModelConfigList) -> dict[str, dict[str, int]]:
        try:
            protos.validate(models)
        except protos.ConfigError as error:
            raise invalid_argument(str(error)) from error
        labels: dict[str, dict[str, int]] = {}
        for model in models.config:
            statuses = self.states.versions(model.name)
            for label, version in sorted(model.version_labels.items()):
                moves = self._labels.get(model.name, {}).get(label, version) != version
                status = statuses.get(version)
                available = status is not None and status.state is State.AVAILABLE
                if not available and (moves or not self._labels_for_unavailable):
                    raise failed_precondition(
                        f"Request to assign label to version {version} of model {model.name}, which is not "
                        "currently available for inference"
                    )
                labels.setdefault(model.name, {})[label] = version
        return labels

    def servable(self, spec: model_pb2.ModelSpec) -> contextlib.AbstractContextManager[tuple[ServableId, S]]:
        """Holds the version that a model spec asks for: by number, by label, or the newest.

        Raises:
            ServingError: INVALID_ARGUMENT for no name or an unknown label, NOT_FOUND when
                that version does not serve.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        version = int(spec.version.value) if choice == "version" else None
        if choice == "version_label":
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version is None:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
        return self._manager.hold(spec.name, version)

    def stop(self, seconds: float) -> None:
        """Unloads everything, waiting for calls in flight for at most `seconds`."""
        self._source.stop()
        self._manager.stop(seconds)


def _raise_unavailable(settled: dict[ServableId, VersionStatus] | None, what: str) -> None:
    bad = [(version, status) for version, status in (settled or {}).items() if status.state is not State.AVAILABLE]
    if bad:
        reasons = (
            f"{{{version}{f' due to error: {status.error}' if status.error else ''}}}, "
            for version, status in sorted(bad)
        )
        raise ServingError(Code.UNKNOWN, f"{len(bad)} {what} did not become available: {{{''.join(reasons)}}}")
