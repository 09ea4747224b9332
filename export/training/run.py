"""The result of a training, in memory and as a folder, so that exporting is a separate step."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import keras

import export.training.fusion
import export.training.missing  # noqa: F401  both register layers that a saved model may have
from duoserve.artifact.checksums import sha256
from duoserve.contract import ContractError, PreprocessingSpec
from export.errors import ExportError
from export.keras_settings import keras_settings
from export.publish.folders import writing_folder

_FORMAT: Final = 1
_MODEL: Final = "model.keras"
RUN_FILE: Final = "run.json"
"""The file that makes a folder a run."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model with everything that exporting it takes.

    Attributes:
        model: Inputs `image` and `tokens`, output `probabilities` or `scores`.
        spec: Its preprocessing, as version 1; exporting sets the version.
        samples: Held-out rows, an encoded image and a text each; at least one if any row is held out.
        facts: For the model card, JSON: preset, fusion, seed, settings, data_digest, answer, optional, background,
            running, rows, metrics, missing, history, seconds.
    """

    model: keras.Model
    spec: PreprocessingSpec
    samples: tuple[tuple[bytes, str], ...]
    facts: dict[str, Any]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `model.keras`, `run.json` and `samples/`, in place of an existing run.

        Raises:
            ExportError: The folder holds something that is not a run.
            OSError: It can't be written; an older run is unchanged.
        """
        target = check_target(folder)
        with writing_folder(target) as scratch:
            self.model.save(scratch / _MODEL)
            (scratch / "samples").mkdir()
            for number, (image, _) in enumerate(self.samples):
                (scratch / "samples" / str(number)).write_bytes(image)
            record = {
                "format": _FORMAT,
                "model_sha256": sha256(scratch / _MODEL),
                "spec": json.loads(self.spec.to_json()),
                "sample_texts": [text for _, text in self.samples],
                "facts": self.facts,
            }
            (scratch / RUN_FILE).write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    @keras_settings()
    def load(cls, folder: str | os.PathLike[str]) -> TrainedModel:
        """Reads what `save` wrote.

        Raises:
            ExportError: Not a run, one of a newer format, or one that was damaged.
        """
        root = Path(folder)
        try:
            record = json.loads((root / RUN_FILE).read_bytes())
            if record["format"] != _FORMAT:
                raise ExportError(f"Expected a run of format {_FORMAT} in {root}. Received: {record['format']!r}")
            if record["model_sha256"] != sha256(root / _MODEL):
                raise ExportError(f"Expected {root / _MODEL} to be unchanged since it was saved. Received: other bytes")
            return cls(
                model=keras.saving.load_model(root / _MODEL, compile=False),
                spec=PreprocessingSpec.from_json(json.dumps(record["spec"])),
                samples=tuple(
                    ((root / "samples" / str(number)).read_bytes(), text)
                    for number, text in enumerate(record["sample_texts"])
                ),
                facts=record["facts"],
            )
        except ExportError:
            raise
        except (OSError, ValueError, KeyError, TypeError, ContractError) as error:
            raise ExportError(f"Expected a run that `train` wrote in {root}. Received: {error!r}") from error


def check_target(folder: str | os.PathLike[str]) -> Path:
    """The folder that a run can be written to, resolved.

    Raises:
        ExportError: It holds something that is not a run, or it can't be written.
    """
    target = Path(folder).resolve()
    if target.exists() and not (target / RUN_FILE).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"Expected the folder of a run to be new, empty or a run. Received: {target}")
    parent = next(each for each in target.parents if each.exists())
    try:  # not os.access, which finds everything writable as root
        tempfile.TemporaryDirectory(prefix=".writable-", dir=parent).cleanup()
    except OSError as error:
        raise ExportError(f"Expected a writable folder for the run. Received: {error}") from error
    return target
