"""The containers that run the model server: its start, its flags, and the config files it reads."""

import dataclasses
import functools
import re
from typing import Literal

from serving.check.manifests import programs
from serving.check.manifests.files import ConfigFile, local_file, mounted
from serving.check.manifests.objects import Container, Manifests, Pod
from serving.check.manifests.programs import COMMANDS, python_module, script
from serving.check.manifests.values import integer, strings, text
from serving.local.flags import STOCK_FLAGS
from serving.models_config import modelfile, textproto

Entrypoint = Literal["none", "stock", "duoserve"]
_PROGRAMS: dict[str, Entrypoint] = {
    "tensorflow_model_server": "none",
    "tf_serving_entrypoint.sh": "stock",
    "duoserve-entrypoint": "duoserve",
}
_OTHERS = {"[", "cat", "chmod", "command", "cp", "echo", "grep", "kill", "killall", "ls", "pgrep", "pidof",
           "pkill", "ps", "stat", "test", "which"}  # fmt: skip
"""Programs that take another program's name without starting it."""
_STOCK_IMAGE = re.compile(r"tensorflow[/_-]?serving|tf[_-]?serving", re.IGNORECASE)
_UNCHANGED_IMAGE = re.compile(r"(docker\.io/|index\.docker\.io/)?tensorflow/serving([:@].*)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Server(Container):
    """A container with the model server.

    Attributes:
        flags: Value by name, including those of the entrypoint; a flag without "=" is "true".
        written: The arguments as the manifest gives them.
        entrypoint: What starts the server: nothing, the stock image's script, or this project's.
    """

    flags: dict[str, str]
    written: tuple[str, ...]
    entrypoint: Entrypoint

    @property
    def tls(self) -> bool:
        """gRPC over TLS, by the flag or by the entrypoint's variable."""
        own = self.entrypoint == "duoserve" and "DUOSERVE_TLS_DIR" in self.env
        return own or "ssl_config_file" in self.flags

    @property
    def grpc_port(self) -> int | None:
        return self.number("port")

    @property
    def rest_port(self) -> int | None:
        """The REST port; 0 or None when REST is off."""
        return self.number("rest_api_port")

    @property
    def unchanged_image(self) -> bool:
        """The image is the stock one, which has no models in it."""
        return _UNCHANGED_IMAGE.fullmatch(text(self.data, "image")) is not None

    def number(self, flag: str) -> int | None:
        """The integer of a flag, its default without it; None when it is invalid."""
        try:
            return int(self.flags.get(flag, str(STOCK_FLAGS.get(flag))))
        except ValueError:
            return None

    def on(self, flag: str) -> bool:
        """Whether a bool flag is on."""
        return self.flags.get(flag, str(STOCK_FLAGS.get(flag))).lower() in ("true", "1", "t", "yes")

    def file(self, flag: str) -> ConfigFile | None:
        """The config file that a flag names; None without the flag."""
        path = self.flags.get(flag, "")
        return (mounted(self, path) or local_file(path, None)) if path else None

    def models(self) -> tuple[modelfile.ModelConfig, ...]:
        """The models of its models.config; none when it can't be read."""
        file = self.file("model_config_file")
        return () if file is None or file.text is None else _models(file.text)

    def names(self) -> set[str]:
        """The names of its models; none when they can't be known."""
        if "model_config_file" in self.flags:
            return {model.name for model in self.models()}
        name = self.flags.get("model_name", "default" if "model_base_path" in self.flags else "")
        return {name} if name and "$" not in name else set()


@functools.lru_cache(maxsize=64)
def _models(content: str) -> tuple[modelfile.ModelConfig, ...]:
    try:
        return tuple(modelfile.parse(content))
    except textproto.TextProtoError:
        return ()


def servers(of: Manifests | Pod) -> list[Server]:
    """The containers that run the model server: all, or those of a pod."""
    manifests = of.manifests if isinstance(of, Pod) else of
    if "servers" not in manifests.cache:
        by_pod = {pod: [s for c in pod.containers(init=False) if (s := _server(c))] for pod in manifests.pods}
        manifests.cache["servers"] = by_pod, [server for found in by_pod.values() for server in found]
    by_pod, every = manifests.cache["servers"]
    found: list[Server] = by_pod[of] if isinstance(of, Pod) else every
    return found


def labels_by_model(manifests: Manifests) -> dict[str, set[str]]:
    """The labels of each model that some server has."""
    labels: dict[str, set[str]] = {name: set() for server in servers(manifests) for name in server.names()}
    for model in [model for server in servers(manifests) for model in server.models()]:
        labels[model.name] |= set(model.labels)
    return labels


def flag_name(argument: str) -> str:
    """The name of the flag in an argument, without its dashes."""
    return argument.lstrip("-").partition("=")[0]


def _server(container: Container) -> Server | None:
    found = _command_line(container)
    if found is None:
        return None
    entrypoint, words = found
    written = tuple(word for word in words if word.startswith("-"))
    flags = {}
    if entrypoint == "stock":
        # In somebody else's image the model has another name.
        unchanged = _UNCHANGED_IMAGE.fullmatch(text(container.data, "image"))
        name = container.variable("MODEL_NAME") or ("model" if unchanged else "")
        base = container.variable("MODEL_BASE_PATH") or "/models"
        flags = {"port": "8500", "rest_api_port": "8501", "model_name": name, "model_base_path": f"{base}/{name}"}
    for argument in written:
        _, equals, value = argument.partition("=")
        flags[flag_name(argument)] = value if equals else "true"
    return Server(container.pod, container.data, container.path, flags, written, entrypoint)


def _command_line(container: Container) -> tuple[Entrypoint, list[str]] | None:
    """How the server is started, and its command line; None if this container runs something else."""
    words = container.arguments
    file = script(container)
    if file is not None and file.text is not None:
        values = programs.assigned(file.text, container)
        for command in programs.commands(file.text):
            entrypoint, after = _program(command)
            if entrypoint:
                return entrypoint, [programs.filled(word, values) or word for word in after if word != "$@"]
        return None
    if container.command:
        entrypoint, after = _program(words)
        if entrypoint:
            return entrypoint, after
        return ("none", words) if _known_flags(words) >= 2 else None
    ours = _name(_image(container)).startswith("duoserve") or any(
        name.startswith("DUOSERVE_") for name in container.env
    )
    numbers = {integer(port, "containerPort") for port in container.ports}
    named = "MODEL_NAME" in container.env or _STOCK_IMAGE.search(str(container.data.get("name", "")))
    by_name = bool(named and numbers & {8500, 8501})
    if _known_flags(words) >= 2 or (not ours and (by_name or _STOCK_IMAGE.search(_image(container)))):
        return ("duoserve" if ours else "stock"), words
    return None


def _program(words: list[str]) -> tuple[Entrypoint | None, list[str]]:
    """The server's program among the first words of a command (after `exec`, say), and the words after it."""
    names = [_name(word) for word in words[:6]]
    at = next((at for at, name in enumerate(names) if name in _PROGRAMS), None)
    return (None, []) if at is None or names[0] in _OTHERS else (_PROGRAMS[names[at]], words[at + 1 :])


def _known_flags(words: list[str]) -> int:
    return len({flag_name(word) for word in words if word.startswith("-")} & STOCK_FLAGS.keys() - {"port", "version"})


def _image(container: Container) -> str:
    return text(container.data, "image").partition("@")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def opaque_server(container: Container) -> str:
    """A command that starts the server in an unreadable form, for a message; "" for any other."""
    if any(server.path == container.path for server in servers(container.pod)):
        return ""
    file = script(container)
    content, image = file.text or "" if file else "", _image(container)
    named = [words for words in programs.commands(content) if any(program in " ".join(words) for program in _PROGRAMS)]
    starts = not named or any(_name(words[0]) not in _OTHERS for words in named)
    if starts and any(program in content for program in _PROGRAMS):
        return f"a script in which no server was found: {content!r:.200}"
    if _name(image).startswith("duoserve-serving") and not container.arguments:
        return "no args, so those of the image"
    if _STOCK_IMAGE.search(image) and container.command and container.pod.is_service:
        return f"another program in the server's image: {strings(container.data.get('command'))}"
    return ""


def is_ours(place: Pod | Container) -> bool:
    """Whether Duoserve's own rules apply: to its pods, and in them to the containers of its images."""
    if isinstance(place, Pod):
        named = place.labels.get("app.kubernetes.io/name") == "duoserve" or "duoserve.dev/track" in place.labels
        return named or any(is_ours(container) for container in place.containers())
    serves = any(server.path == place.path for server in servers(place.pod))
    return serves or python_module(place)[0] in COMMANDS or _name(_image(place)).startswith("duoserve")
