"""The containers that run the model server: their flags, and the config files they read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from serving.check._data import strings
from serving.check._files import ConfigFile, mounted
from serving.check._manifests import Container, Manifests, Pod
from serving.local.flags import STOCK_FLAGS
from serving.models_config import modelfile, textproto

__all__ = ["Server", "served", "servers"]


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A container with the model server.

    Attributes:
        container: Where it is.
        flags: Value by name, as written; a flag without "=" is "true".
        written: All arguments that look like flags, doubles included.
    """

    container: Container
    flags: dict[str, str]
    written: tuple[str, ...]
    manifests: Manifests

    @property
    def object(self) -> str:
        return self.container.object

    @property
    def bare(self) -> bool:
        """The command is the server itself, without our entrypoint."""
        return any("tensorflow_model_server" in part for part in strings(self.container.data.get("command")))

    @property
    def tls(self) -> bool:
        """gRPC over TLS, by the flag or by the entrypoint's variable."""
        return "ssl_config_file" in self.flags or (not self.bare and "DUOSERVE_TLS_DIR" in self.container.env)

    def number(self, flag: str) -> int | None:
        """The integer of a flag, its default without it; None when it is none."""
        try:
            return int(self.flags.get(flag, str(STOCK_FLAGS.get(flag))))
        except ValueError:
            return None

    def on(self, flag: str) -> bool:
        """Whether a bool flag is on."""
        default = "true" if STOCK_FLAGS.get(flag) is True else "false"
        return self.flags.get(flag, default).lower() in ("true", "1", "t", "yes")

    def file(self, flag: str) -> ConfigFile | None:
        """The config file that a flag names; None without the flag."""
        path = self.flags.get(flag, "")
        if not path:
            return None
        return mounted(self.manifests, self.container, path) or ConfigFile(path, None, path, "")

    def models(self) -> tuple[modelfile.ModelConfig, ...]:
        """The models of its models.config; none when it can't be read."""
        file = self.file("model_config_file")
        if file is None or file.text is None:
            return ()
        return _models(file.text)

    def names(self) -> set[str]:
        """The model names that it may serve."""
        if "model_config_file" in self.flags:
            return {model.name for model in self.models()}
        return {self.flags.get("model_name", "default")} if "model_base_path" in self.flags else set()

    def batching(self) -> textproto.Message | None:
        """Its batching parameters; None without batching, or when they can't be read."""
        file = self.file("batching_parameters_file")
        if not self.on("enable_batching") or file is None or file.text is None:
            return None
        try:
            return textproto.parse(file.text)
        except textproto.TextProtoError:
            return None


@functools.lru_cache(maxsize=64)
def _models(content: str) -> tuple[modelfile.ModelConfig, ...]:
    try:
        return tuple(modelfile.parse(content))
    except modelfile.TextProtoError:
        return ()


def servers(manifests: Manifests, pod: Pod | None = None) -> list[Server]:
    """Containers whose command line is the model server's: all, or those of a pod."""
    if "servers" not in manifests.known:
        manifests.known["servers"] = list(_servers(manifests))
        of: dict[Pod, list[Server]] = {}
        for server in manifests.known["servers"]:
            of.setdefault(server.container.pod, []).append(server)
        manifests.known["servers of"] = of
    found: list[Server] = manifests.known["servers"] if pod is None else manifests.known["servers of"].get(pod, [])
    return found


def served(manifests: Manifests) -> dict[str, set[str]]:
    """The labels of each model that some server has."""
    if "served" not in manifests.known:
        labels: dict[str, set[str]] = {name: set() for server in servers(manifests) for name in server.names()}
        for model in [model for server in servers(manifests) for model in server.models()]:
            labels[model.name] |= set(model.labels)
        manifests.known["served"] = labels
    found: dict[str, set[str]] = manifests.known["served"]
    return found


def _servers(manifests: Manifests) -> Iterator[Server]:
    for pod in manifests.pods:
        for container in pod.containers(init=False):
            written = tuple(argument for argument in container.arguments if argument.startswith("-"))
            flags = {}
            for argument in written:
                name, equals, value = argument.lstrip("-").partition("=")
                flags[name] = value if equals else "true"
            program = any("tensorflow_model_server" in part for part in container.arguments[:2])
            if program or len(flags.keys() & STOCK_FLAGS.keys() - {"port", "version"}) >= 2:
                yield Server(container, flags, written, manifests)
