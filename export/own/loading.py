"""Gets a Keras model from a file or a function, with its custom layers and its weights."""

import contextlib
import importlib
import inspect
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import keras

from duoserve.preprocessing.sources import kind_of
from export.own.reasons import Reasons, misfit, said
from export.own.settings import OwnModel, is_function


def load(own: OwnModel) -> keras.Model:
    """The model, with its weights. Raises MisfitError if it can't be loaded."""
    with _importable(own.folder):
        objects = _custom_objects(own)
        model = _call(own) if is_function(own.model) else _read(own, objects)
    if not isinstance(model, keras.Model):
        raise misfit("a keras.Model", f"{kind_of(model)} from {own.model}", "return the model itself")
    if own.weights is not None:
        _load_weights(model, own.weights)
    return model


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules of the current folder and of `folder` can be imported."""
    before = list(sys.path)
    sys.path[:0] = [str(Path.cwd()), str(folder.absolute())]
    try:
        yield
    finally:
        sys.path[:] = before


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # the module's code may raise anything
        fix = "run it in the module's folder, and install what the module imports"
        raise misfit(f"the module {name} to import", f"{kind_of(error)}: {said(error)}", fix) from error


def _custom_objects(own: OwnModel) -> dict[str, Any]:
    """The classes and functions that the modules define, by name. Registered ones register themselves."""
    reasons = Reasons()
    modules = [reasons.attempt(_import, name) for name in own.custom_objects]
    reasons.refuse()
    return {
        name: value
        for module in filter(None, modules)
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    }


def _call(own: OwnModel) -> Any:
    name, _, path = own.model.partition(":")
    function: Any = _import(name)
    for part in path.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise misfit(f"a function {path} in {name}", kind_of(function), "check the name after the colon")
    try:
        return function(**own.arguments)
    except Exception as error:  # the function's code may raise anything
        fix = "run it in Python to see where it fails; --argument NAME=VALUE passes arguments"
        raise misfit(f"{own.model} to return a model", f"{kind_of(error)}: {said(error)}", fix) from error


def _read(own: OwnModel, objects: dict[str, Any]) -> Any:
    path = Path(own.model)
    if own.arguments:
        raise misfit("arguments for a function only", f"arguments, and the model {path}", "leave the arguments out")
    if fix := _why_not_a_file(path):
        raise misfit("--model to be a .keras file or module:function", path, fix)
    try:
        return keras.saving.load_model(path, custom_objects=objects, compile=False)
    except Exception as error:  # KeyError, TypeError, zipfile's, h5py's …
        text = said(error)
        fix = "save it again with model.save('….keras') and the Keras release that is installed here"
        rebuild = "write a function that builds the model, and give --model module:function and --weights"
        version = _saved_by(path)
        if version.startswith(("1.", "2.")):
            fix = f"Keras {version} wrote it, and {keras.__version__} reads only its weights: {rebuild} {path}"
        elif "TFSMLayer" in text:
            fix = f"a TFSMLayer refers to a SavedModel elsewhere and holds no weights: {rebuild}"
        elif "Lambda" in text:
            fix = f"a Lambda layer is code, and code in a file is not run: {rebuild}"
        elif "locate" in text or "Unknown layer" in text:
            fix = "name the module that defines it with --custom-objects"
        raise misfit(f"{path} to load", text, fix) from error


def _saved_by(path: Path) -> str:
    """The version of Keras that wrote a file; empty if unknown."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json"))["keras_version"]
        else:
            with h5py.File(path) as file:
                version = file.attrs["keras_version"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
    return version.decode() if isinstance(version, bytes) else str(version)


def _why_not_a_file(path: Path) -> str | None:
    """How to fix a path that is not a model; None if it may be one."""
    if (path / "saved_model.pb").is_file():
        return "a SavedModel has no Keras layers: save the Keras model with model.save('….keras')"
    if path.name.endswith(".weights.h5"):
        return "this file has weights only: give it as --weights, and a function that builds the model as --model"
    if not path.is_file():
        return "the file does not exist; give a function as module:function"
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        return "save it with model.save('….keras')"
    return None


def _load_weights(model: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise misfit("--weights to be a file", path, "check the path: the file does not exist")
    try:
        model.load_weights(path)
    except Exception as error:
        fix = "build the model with the same layers as when the weights were saved"
        raise misfit(f"the weights in {path} to fit the model", said(error), fix) from error
