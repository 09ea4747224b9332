"""The model store: `ROOT/NAME/N/`, one folder for each version, which TensorFlow Serving polls.

A version is written into `.staging-N`, a name that servers ignore, and renamed when it is complete
and synced, so a server never sees half a version. Creating that folder also reserves the number: two
parallel exports get two versions. The folder is locked while its writer lives, so the remains of a
killed writer can be recognised and removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from export.errors import StoreError
from export.publish.folders import sync

_GUARD: Final = ".lock"
_STAGING: Final = ".staging-"
_LEAVING: Final = ".leaving-"
_REMOVED: Final = ".removed-"
_LARGEST_VERSION: Final = 2**63 - 1
"""TensorFlow Serving keeps a version in an int64."""


class ModelStore:
    """The versions of one model, by its name, under the root folder of all models."""

    def __init__(self, root: str | os.PathLike[str], name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise StoreError(f"Expected a model name of letters, digits, '_', '-' and '.'. Received: {name!r}")
        self.name = name
        self.path = Path(root).absolute() / name

    def versions(self) -> list[int]:
        """Published versions, oldest first. Empty when the model has none."""
        try:
            names = [entry.name for entry in self.path.iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"Expected {self.path} to be a readable folder. Received: {error}") from error
        # "007" is version 7 to the server, so it counts as taken.
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def path_of(self, version: int) -> Path:
        """The folder of a version, whether it exists or not. An existing one may be named 007."""
        path = self.path / str(version)
        if not path.exists():
            for padded in sorted(self.path.glob(f"0*{version}")):
                if padded.name.isdigit() and int(padded.name) == version:
                    return padded
        return path

    def remove(self, version: int, still: Callable[[int], bool] = lambda version: True) -> bool:
        """Deletes a version; returns whether it did.

        It is hidden from servers first, in one step, so none sees half of it; `still` is called then, and False
        restores it.

        Raises:
            StoreError: There is no such version, or it can't be removed.
        """
        path = self.path_of(version)
        leaving, removed = self.path / f"{_LEAVING}{version}", self.path / f"{_REMOVED}{version}"
        with _explained(self.path, "lose a version"):
            with self._guard():
                self._settle()
                if not path.is_dir():
                    raise StoreError(
                        f"Expected version {version} of {self.name} in the store. Received: none at {path}"
                    )
                path.rename(leaving)
                goes = False
                try:
                    goes = still(version)
                finally:
                    leaving.rename(removed if goes else path)
            if goes:
                shutil.rmtree(removed)
                sync(self.path)
            return goes

    def _settle(self) -> None:
        """Completes killed removals: undecided ones are restored, decided ones deleted."""
        for path in self.path.glob(f"{_LEAVING}*"):
            path.rename(self.path / path.name.removeprefix(_LEAVING))
        for path in self.path.glob(f"{_REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self, version: int | None = None) -> Iterator[Staging]:
        """Reserves a version number and returns a staging folder for it, which is removed in the end. So is the
        model's folder if it was made for this and stayed empty.

        The new version exists only if `Staging.publish` returned. The number defaults to the one after the largest
        that exists or is being written.

        Raises:
            StoreError: The version exists or is being written, the folder can't be written, or
                the disk is full.
        """
        with _explained(self.path):
            is_new = not self.path.exists()
            try:
                staging, lock = self._take(version)
                try:
                    yield staging
                finally:
                    with self._guard():
                        shutil.rmtree(staging.path, ignore_errors=True)
                        _lock_path(staging.path).unlink(missing_ok=True)
                        lock.close()
            finally:
                if is_new:
                    self._remove_empty()

    def check_target(self, version: int | None = None) -> None:
        """Reserves a version as `writing` will, and releases it, to find failures before any work."""
        with self.writing(version):
            pass

    def _take(self, version: int | None) -> tuple[Staging, IO[str]]:
        """Creates the staging folder, and its lock."""
        with self._guard(make=True):
            self._sweep()
            taken = {*self.versions(), *self._staged()}
            number = max(taken, default=0) + 1 if version is None else version
            if not 1 <= number <= _LARGEST_VERSION:
                raise StoreError(f"Expected a version from 1 to {_LARGEST_VERSION}. Received: {number}")
            if number in taken:
                state = "is being written by another export" if number in self._staged() else "exists"
                raise StoreError(
                    f"Expected a free version number of {self.name}. Received: {number}, which {state}"
                    f" (versions are never overwritten; the next free one is {max(taken) + 1})"
                )
            path = self.path / f"{_STAGING}{number}"
            lock = _lock_path(path).open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.mkdir()
            except OSError:
                _lock_path(path).unlink(missing_ok=True)
                lock.close()
                raise
            return Staging(self, number, path), lock

    def _staged(self, suffix: str = "") -> set[int]:
        """The numbers of staging folders, or with the suffix ".lock" of their locks."""
        names = [entry.name.removeprefix(_STAGING) for entry in self.path.glob(f"{_STAGING}*{suffix}")]
        return {int(name.removesuffix(suffix)) for name in names if name.removesuffix(suffix).isdigit()}

    def _sweep(self) -> None:
        """Removes the remains of killed writers: staging folders without a lock."""
        for number in self._staged() | self._staged(".lock"):
            path = self.path / f"{_STAGING}{number}"
            with contextlib.suppress(FileNotFoundError), _lock_path(path).open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
            shutil.rmtree(path, ignore_errors=True)
            _lock_path(path).unlink(missing_ok=True)

    def _remove_empty(self) -> None:
        with contextlib.suppress(OSError), self._guard():
            if [each.name for each in self.path.iterdir()] == [_GUARD]:
                (self.path / _GUARD).unlink()
                self.path.rmdir()  # fails if another writer has come since

    def _guard(self, *, make: bool = False) -> IO[str]:
        """One writer at a time while names are created or removed, until it is closed. Creates the folder if `make`."""
        path = self.path / _GUARD
        while True:
            if make:
                self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock = path.open("a")
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    return lock
                lock.close()
            except FileNotFoundError:  # removed with its empty folder while this one waited
                if not make:
                    raise


@dataclasses.dataclass(frozen=True, slots=True)
class Staging:
    """A version that is being written into the folder `path`."""

    store: ModelStore
    version: int
    path: Path

    def publish(self) -> Path:
        """Syncs every file to the disk and renames the folder to its version, or raises StoreError."""
        with _explained(self.store.path):
            for path in [*self.path.rglob("*"), self.path]:
                sync(path)
            target = self.store.path_of(self.version)
            with self.store._guard():
                if target.exists():  # made by another tool; a rename would replace an empty folder
                    raise StoreError(f"Expected {target} to be free. Received: a folder that appeared meanwhile")
                self.path.rename(target)
            sync(self.store.path)
            return target


def _lock_path(staging: Path) -> Path:
    return staging.with_name(staging.name + ".lock")


_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "it is not a folder",
}


@contextlib.contextmanager
def _explained(path: Path, wish: str = "take a new version") -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StoreError(
            f"Expected {path} to {wish}. Received: {reason} ({error}). Published versions are unchanged"
        ) from error
