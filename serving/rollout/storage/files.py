"""Config, lock and history as files."""

import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from serving.rollout.errors import Away, Busy, RolloutError
from serving.rollout.patience import patiently
from serving.rollout.storage import entries

# A network disk with a short outage, or an editor that replaces the file in two steps.
_PASSING: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT})


class ConfigFile:
    """A file that servers poll: replaced by a rename, so that they read either the old one or the new one.

    Servers in containers must mount the folder, not the file: a mounted file would stay the old one. Once read, it may
    be missing for `patience` seconds.
    """

    def __init__(self, path: Path, patience: float = 60.0) -> None:
        self.name = str(path)
        self.path = path
        self._patience = patience
        self._known = False

    def read(self) -> str:
        """The file now."""
        text = patiently(self._read, self._patience)
        self._known = True
        return text

    def write(self, text: str, over: str) -> None:
        """Replaces the file, synced to the disk; keeps its mode, and its owner if permitted."""
        patiently(lambda: self._write(text, over), self._patience)

    def _read(self) -> str:
        try:
            return self.path.read_bytes().decode("utf-8")  # unchanged: read_text would convert line ends
        except (OSError, UnicodeDecodeError) as error:
            raise self._error("a readable text file", error) from error

    def _write(self, text: str, over: str) -> None:
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
                # The lock keeps other rollouts out; this check is for editors, which don't use the lock.
                if self._read() != over:
                    raise Busy(f"Expected {self.path} to be unchanged. Received: an edit by somebody else")
                Path(scratch).replace(place)
            except BaseException:
                Path(scratch).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._error("writable", error) from error
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # only a power failure could undo it
            folder = os.open(place.parent, os.O_RDONLY)
            stack.callback(os.close, folder)
            os.fsync(folder)

    def _error(self, expected: str, error: Exception) -> RolloutError:
        passing = self._known and isinstance(error, OSError) and error.errno in _PASSING
        return (Away if passing else RolloutError)(f"Expected {self.path} to be {expected}. Received: {error}")


class FileLock:
    """An flock: it ends with the process that holds it, even after a crash."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def held(self, who: str, what: str) -> Iterator[None]:
        """Holds the lock for a block."""
        with contextlib.ExitStack() as stack:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"Expected {self._path} to be free. Received: {self._holder()}") from error
            except OSError as error:
                raise RolloutError(f"Expected to lock {self._path}. Received: {error}") from error
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            _put(descriptor, json.dumps({"who": who, "what": what, "since": since}))
            yield
            _put(descriptor, "")

    def check(self) -> None:
        """The kernel's lock can't be lost."""

    def _holder(self) -> str:
        try:
            holder = json.loads(self._path.read_text(encoding="utf-8"))
            return f"held by {holder['who']} since {holder['since']}, for: {holder['what']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "held by another process"


class FileHistory:
    """A JSON-lines file. Each entry is one synced write, so entries are never incomplete or mixed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(entries.line(record).encode("utf-8"))
                os.fsync(file.fileno())
        except OSError as error:
            raise RolloutError(f"Expected to add to {self._path}. Received: {error}") from error

    def read(self) -> list[dict[str, Any]]:
        """The lines."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RolloutError(f"Expected to read {self._path}. Received: {error}") from error
        return entries.parse(text)


def _put(descriptor: int, text: str) -> None:
    """Records who holds the lock, for messages to others; a full disk doesn't matter."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
