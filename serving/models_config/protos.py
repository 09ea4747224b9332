"""Reads and checks `models.config`, the stock server's list of models. Needs no TensorFlow.

A text proto of `tensorflow.serving.ModelServerConfig`; the checks are the stock server's own,
in its words.
"""

import pathlib
import posixpath
from typing import Final, TypeVar

from google.protobuf import message, text_format
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

PLATFORM: Final = "tensorflow"

M = TypeVar("M", bound=message.Message)


class ConfigError(ValueError):
    """A config file that can't be read, or a list of models that the server would refuse."""


def read_text_proto(path: str | pathlib.Path, into: M) -> M:
    """Parses a text proto file into a message; ConfigError has the file's name, the line and the column."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Invalid protobuf file: '{path}': {error}") from error
    try:
        return text_format.Parse(text, into)
    except text_format.ParseError as error:
        name = f"tensorflow.serving.{into.DESCRIPTOR.name}"
        raise ConfigError(f"Invalid protobuf file: '{path}': Error parsing text-format {name}: {error}") from error


def read(path: str | pathlib.Path) -> config_pb2.ModelServerConfig:
    """The models of a config file, not yet validated; raises as `read_text_proto`."""
    return read_text_proto(path, config_pb2.ModelServerConfig())


def single_model(name: str, base_path: str) -> config_pb2.ModelServerConfig:
    """The config for --model_name and --model_base_path."""
    config = config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def validate(models: config_pb2.ModelConfigList) -> None:
    """The stock server's checks of a list of models, before it changes anything.

    Raises:
        ConfigError: A repeated name, a relative path, no platform or an unsupported one.
    """
    names = set()
    for model in models.config:
        if model.name in names:
            raise ConfigError(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
    for model in models.config:
        if not posixpath.isabs(model.base_path) and "://" not in model.base_path:
            raise ConfigError(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    for model in models.config:
        platform = _platform(model)
        if platform != PLATFORM:
            raise ConfigError(f"Model {model.name} requests unsupported platform {platform}")


def _platform(model: config_pb2.ModelConfig) -> str:
    if model.model_type != config_pb2.MODEL_TYPE_UNSPECIFIED:
        if model.model_platform:
            raise ConfigError(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
            )
        if model.model_type != config_pb2.TENSORFLOW:
            raise ConfigError(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        return PLATFORM
    if not model.model_platform:
        raise ConfigError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    return str(model.model_platform)
