"""The settings file, `rollout.toml`: the model, the replicas, and the limits for a new version."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from duoserve.settings import SettingsFileError, checked, read_toml
from serving.rollout.errors import SettingsError


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """The names of the labels.

    Attributes:
        stable: Where production traffic goes.
        canary: Where the share goes that tries a new version; equals `stable` between rollouts.
        previous: What a rollback restores; maintained by this tool.
    """

    stable: str = "stable"
    canary: str = "canary"
    previous: str = "previous"


@dataclasses.dataclass(frozen=True, slots=True)
class Waits:
    """Times, all in seconds.

    Attributes:
        step: Longest time until an edit has arrived on every replica; a kubelet takes up to 120 of them.
        missing: Longest time that a replica, its discovery, the cluster's API or models.config may be missing.
        poll: Between two polls of the replicas.
        call: For one call to a replica.
        bake: How long the canary serves before `stable` moves.
        watch: How long `stable` is watched after it moved.
        hook: Longest time of the command `hook`.
    """

    step: float = 300.0
    missing: float = 60.0
    poll: float = 1.0
    call: float = 10.0
    bake: float = 60.0
    watch: float = 30.0
    hook: float = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the check: on every replica, against the version that serves.

    Attributes:
        golden_tolerance: Largest difference of a probability from the golden sample's; of a score as a share of the
            largest one. A version exported with --bfloat16 may be off by what its card expects of that, in addition.
        latency_calls: Calls to each version on each replica, in turn.
        median_ratio: Largest ratio of the new median latency to the old one.
        p99_ratio: Largest ratio of the new 99th percentile to the old one.
        slack_ms: Milliseconds that are always allowed in addition: noise for a fast model.
        latency_tries: How often a latency over its limit is measured in all.
        accuracy_drop: Largest loss of accuracy on labelled inputs; for tags the mean F1, for scores R².
        agreement: Least agreement (`serving.rollout.trial.measures`), checked if no input has a label.
        drift: Largest drift (as above): 0 none, 1 nothing in common.
        inputs: Largest number of inputs.
    """

    golden_tolerance: float = 1e-3
    latency_calls: int = 100
    median_ratio: float = 1.3
    p99_ratio: float = 2.0
    slack_ms: float = 2.0
    latency_tries: int = 3
    accuracy_drop: float = 0.02
    agreement: float = 0.8
    drift: float = 0.2
    inputs: int = 500

    def __post_init__(self) -> None:
        for name in ("golden_tolerance", "accuracy_drop", "agreement", "drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"Expected limits.{name} between 0 and 1. Received: {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Signatures:
    """The policy on signed models: an existing signature must match a key, if there are keys (PEM files)."""

    required: bool = False
    public_keys: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """The encryption of calls to replicas. Without it: plain text."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Everything about one model's rollout; serving/config/rollout.toml has the reasons.

    Attributes:
        model: Its name in models.config.
        config: Path of models.config, or "configmap:NAMESPACE/NAME[/KEY]".
        replicas: "HOST:PORT", "dns:NAME:PORT" (all its addresses) or "pods:NAMESPACE/SELECTOR:PORT".
        store: Root of the model store on this machine.
        state: Folder for the lock and the history; default: `.rollout` beside models.config.
        min_replicas: Fewer is an error; default: as many as are found first.
        loaded_versions: Most versions loaded at once; the one before the last is unloaded to make room.
        clients: "follow": they ask each version for its spec, so sizes and tokenizer may change; "fixed": they do not.
        rehearsal: "auto": in the embedded server, if TensorFlow is installed; "off"; or the command of a server.
        inputs: CSV file of inputs to compare versions on; default: the golden samples of both.
        hook: Command that decides each check in the end; exit code 0 passes.
        context: kubeconfig context; default: the current one, or the pod's account.
        parallel: Replicas that are asked in parallel.
    """

    model: str
    config: str
    replicas: tuple[str, ...]
    store: Path
    state: Path | None = None
    min_replicas: int | None = None
    loaded_versions: int = 2
    clients: Literal["follow", "fixed"] = "follow"
    rehearsal: str | tuple[str, ...] = "auto"
    inputs: Path | None = None
    hook: tuple[str, ...] = ()
    context: str | None = None
    parallel: int = 4
    labels: Labels = Labels()
    waits: Waits = Waits()
    limits: Limits = Limits()
    signatures: Signatures = Signatures()
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        for name in ("model", "config"):
            if not getattr(self, name):
                raise SettingsError(f"Expected {name} in the settings. Received: nothing")
        if not self.replicas:
            raise SettingsError("Expected at least one entry in replicas. Received: none")
        least, words = self.loaded_versions, self.rehearsal
        if least < 2:
            raise SettingsError(f"Expected loaded_versions of at least 2, the old and the new one. Received: {least}")
        if words not in ("auto", "off") and (isinstance(words, str) or not words):
            raise SettingsError(f'Expected rehearsal "auto", "off" or a command as a list. Received: {words!r}')
        names = dataclasses.astuple(self.labels)
        if not all(name.strip() for name in names):
            raise SettingsError(f"Expected three labels that are not empty. Received: {', '.join(map(repr, names))}")
        if len(set(names)) != len(names):
            raise SettingsError(f"Expected three different labels. Received: {', '.join(names)}")
        if self.signatures.required and not self.signatures.public_keys:
            raise SettingsError("Expected signatures.public_keys when signatures are required. Received: none")


def read_settings(path: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """Settings from a TOML file, with entries of `overrides` in place of the file's. Paths are relative to the file.

    Args:
        path: The file; None takes everything from `overrides`, relative to the current folder.
        overrides: Entries as in the file. Those that are None are ignored.

    Raises:
        SettingsError: The file can't be read, has an unknown entry or an invalid value, or lacks an entry.
    """
    try:
        content = {} if path is None else read_toml(path)
        base = Path.cwd() if path is None else path.absolute().parent
        content = {key: _placed(value, key, base) for key, value in content.items()}
        content |= {key: value for key, value in overrides.items() if value is not None}
        values = checked(Settings, content, base)
    except SettingsFileError as error:
        raise SettingsError(str(error)) from error
    required = [field.name for field in dataclasses.fields(Settings) if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise SettingsError(f"Expected {', '.join(missing)} in the settings or as options. Received: nothing")
    return Settings(**values)


def _placed(value: Any, key: str, base: Path) -> Any:
    """Paths among the strings, relative to the file: models.config, and commands that are not bare names."""
    if key == "config" and isinstance(value, str) and not is_configmap(value):
        return str(base / value)
    if key in ("hook", "rehearsal") and isinstance(value, list) and value and isinstance(value[0], str):
        return [str(base / value[0]) if "/" in value[0] else value[0], *value[1:]]
    return value


def is_configmap(config: str) -> bool:
    """Whether a `config` entry names a ConfigMap."""
    return config.startswith("configmap:")
