"""Where models.config is kept: read with a revision, and written only over the revision that was read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Protocol

from serving.rollout.errors import Busy, RolloutError

__all__ = ["FileTarget", "Snapshot", "Target"]


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """The config as it was read.

    Attributes:
        text: The whole file.
        revision: Changes whenever the text does.
    """

    text: str
    revision: str


class Target(Protocol):
    """The place of a models.config.

    Attributes:
        name: For people: a path, or the ConfigMap's name.
    """

    name: str

    def read(self) -> Snapshot:
        """The config now.

        Raises:
            RolloutError: It can't be read.
        """

    def write(self, text: str, over: Snapshot) -> Snapshot:
        """Puts `text` in the place of `over`, all of it or nothing.

        Raises:
            Busy: The config is not `over` any more. Nothing was written.
            RolloutError: It can't be written. Nothing was written.
        """


class FileTarget:
    """A file that servers poll: replaced by a rename, so they read the old one or the new one.

    Servers in containers have to mount the folder, not the file: a mounted file stays the old one.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.path = path

    def read(self) -> Snapshot:
        """The file now."""
        try:
            text = self.path.read_bytes().decode("utf-8")  # as it is: read_text would change line ends
        except (OSError, UnicodeDecodeError) as error:
            raise RolloutError(f"Expected {self.path} to be a readable text file. Received: {error}") from error
        return _snapshot(text)

    def write(self, text: str, over: Snapshot) -> Snapshot:
        """Replaces the file, synced to the disk; its mode, and owner where allowed, stay."""
        place = self.path.resolve()  # a symbolic link stays one
        try:
            mode = place.stat()
            descriptor, scratch = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                    os.fchmod(file.fileno(), stat.S_IMODE(mode.st_mode))
                    with contextlib.suppress(PermissionError):
                        os.fchown(file.fileno(), mode.st_uid, mode.st_gid)
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                # Our own kind is kept out by the lock; this is for an editor that has none.
                if self.read().revision != over.revision:
                    raise Busy(f"Expected {self.path} to be as it was read. Received: a change by somebody else")
                Path(scratch).replace(place)
            except BaseException:
                Path(scratch).unlink(missing_ok=True)
                raise
            _sync_folder(place.parent)
        except OSError as error:
            raise RolloutError(f"Expected {self.path} to be writable. Received: {error}") from error
        return _snapshot(text)


def _snapshot(text: str) -> Snapshot:
    return Snapshot(text, hashlib.sha256(text.encode("utf-8")).hexdigest())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
