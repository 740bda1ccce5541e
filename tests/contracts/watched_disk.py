"""A disk that is watched, and fails on demand: below `storage/`, and below Python's own files.

Whatever this package, tifffile, zarr-python or PyAV do with files of a folder ends in a few
functions of `os`, in `open`, or in two system calls. They are replaced here for a while. Each call
is an operation with a number; before each one, the disk's state is noted twice: as a killed
process would leave it, and as a power cut would, which knows only what was synced.

The power cut is the strictest that POSIX allows: a file's bytes are there once the file was
synced, its name (or its new name, or the lack of it) once its folder was.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import shutil
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from unittest.mock import patch

from mda_writers.storage import block_file

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = 0

SECTOR = 512
"""Bytes that a disk writes as one; a system does not tear a page, which is larger."""


@dataclass(frozen=True)
class Tree:
    """Folders and files as they are on a disk at one moment.

    Attributes
    ----------
    names : dict
        Number of a folder → name → number of a folder or file.
    contents : dict
        Number of a file → its bytes.
    """

    names: dict[int, dict[str, int]]
    contents: dict[int, bytes]

    def copied(self) -> Tree:
        return Tree({n: dict(names) for n, names in self.names.items()}, dict(self.contents))

    def files(self, number: int = ROOT, below: str = "") -> dict[str, bytes | None]:
        """Return the path of everything there is → its bytes; None for a folder."""
        found: dict[str, bytes | None] = {}
        for name, child in self.names[number].items():
            if child in self.names:
                found[below + name] = None
                found |= self.files(child, f"{below}{name}/")
            else:
                found[below + name] = self.contents.get(child, b"")
        return found


class Moment(NamedTuple):
    """What a disk holds before an operation, or in the middle of it.

    Attributes
    ----------
    operation : str
        What was about to be done, for messages.
    killed, powerless, named : dict
        Path → bytes, as a kill leaves it; as a power cut does; as one does that came when names
        had reached the disk already, but bytes only where they were synced.
    """

    operation: str
    killed: dict[str, bytes | None]
    powerless: dict[str, bytes | None]
    named: dict[str, bytes | None]


@dataclass(frozen=True)
class Fault:
    """What happens at one operation.

    Attributes
    ----------
    at : int
        Its number, from 0.
    how : str
        ``"EIO"``, ``"ENOSPC"``: it fails; ``"half"``: half of its bytes are written, then it
        fails with ENOSPC; ``"short"``: half of its bytes are written, and it says so; ``"dead"``:
        it and all that follow fail with EIO.
    """

    at: int
    how: str


@dataclass
class WatchedDisk:
    """Watches the files of a folder for the block; see the module.

    Parameters
    ----------
    folder : Path
        The folder; what is there already counts as synced.
    fault : Fault, optional
        What fails.
    keep : bool
        Whether to note the disk's state before each operation.
    """

    folder: Path
    fault: Fault | None = None
    keep: bool = True
    moments: list[Moment] = field(default_factory=list)
    operations: int = 0
    struck: str = ""

    def __post_init__(self) -> None:
        self._root = self.folder.resolve()
        self._lock = threading.RLock()
        self._next = ROOT
        self._live = Tree({}, {})
        self._scan(self._root)
        self._synced = self._live.copied()
        self._open: dict[int, int] = {}
        self._appending: set[int] = set()
        self._halved = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._real_open, self._real_library = io.open, ctypes.CDLL
        doubles = {
            "open": self._open_fd,
            "close": self._close,
            "write": self._write,
            "pwrite": self._pwrite,
            "ftruncate": self._truncate,
            "fsync": self._sync,
            "fdatasync": self._sync,
            "rename": self._rename,
            "replace": self._rename,
            "unlink": self._unlink,
            "remove": self._unlink,
            "mkdir": self._mkdir,
            "rmdir": self._rmdir,
        }
        self._real = {name: getattr(os, name) for name in doubles if hasattr(os, name)}
        self._put(shutil, "_use_fd_functions", False)
        for name in self._real:
            self._put(os, name, doubles[name])
        self._put(io, "open", self._open_file)
        self._put(builtins, "open", self._open_file)
        self._put(ctypes, "CDLL", self._library)
        block_file._fallocate.cache_clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        block_file._fallocate.cache_clear()
        assert self._live.files() == files_of(self.folder), "something went past the watcher"

    def now(self) -> Moment:
        """Return the disk as it is."""
        return self._moment("the end", self._live)

    # ------------------------------------------------------------ operations

    def _do(self, kind: str, what: str, act: Callable[[], Any]) -> Any:
        """Do an operation, unless it is to fail; the lock is held."""
        number, self.operations = self.operations, self.operations + 1
        if self.keep and kind != "read":
            self.moments.append(self._moment(f"{number}: {kind} {what}", self._live))
        code = self._error(number, kind)
        if code:
            self.struck = self.struck or f"{number}: {kind} {what}"
            raise OSError(code, os.strerror(code))
        return act()

    def _error(self, number: int, kind: str) -> int:
        """Return the system's error that an operation is to fail with; 0 for none."""
        how, due = (self.fault.how, number >= self.fault.at) if self.fault else ("", False)
        if how == "dead":
            return errno.EIO if due else 0
        if self.struck:
            return 0
        if how == "half":
            return errno.ENOSPC if self._halved and kind in _GROWING else 0
        if how == "ENOSPC":
            return errno.ENOSPC if due and kind in _GROWING else 0
        return errno.EIO if due and how == "EIO" else 0

    def _length(self, nbytes: int) -> int:
        """Return how many bytes of a write are written."""
        if self.fault is None or self.operations < self.fault.at or nbytes < 2:
            return nbytes
        if self.fault.how == "short" and not self.struck:
            self.struck = f"{self.operations}: a write of {nbytes} bytes was short"
            return nbytes // 2
        if self.fault.how == "half" and not self._halved:
            self._halved = True
            self.operations += 1  # this one does not fail: the next one does
            return nbytes // 2
        return nbytes

    def _write_bytes(self, fd: int, data: Any, offset: int, by_offset: bool) -> int:
        data = memoryview(data).cast("B")
        number = self._open[fd]
        halved_before = self._halved
        data = data[: self._length(len(data))]

        def act() -> int:
            if self.keep:
                self._note_half(number, offset, data)
            if by_offset:
                written = self._real["pwrite"](fd, data, offset)
            else:
                written = self._real["write"](fd, data)
            self._splice(self._live, number, offset, data[:written])
            return int(written)

        if self._halved and not halved_before:
            return act()
        return int(self._do("write", f"{len(data)} bytes of {self._name(number)}", act))

    def _write(self, fd: int, data: Any) -> int:
        with self._lock:
            if fd not in self._open:
                return int(self._real["write"](fd, data))
            if fd in self._appending:
                at = len(self._live.contents[self._open[fd]])
            else:
                at = os.lseek(fd, 0, os.SEEK_CUR)
            return self._write_bytes(fd, data, at, by_offset=False)

    def _pwrite(self, fd: int, data: Any, offset: int) -> int:
        with self._lock:
            if fd not in self._open:
                return int(self._real["pwrite"](fd, data, offset))
            return self._write_bytes(fd, data, offset, by_offset=True)

    def _truncate(self, fd: int, size: int) -> None:
        with self._lock:
            if fd not in self._open:
                return self._real["ftruncate"](fd, size)
            number = self._open[fd]

            def act() -> None:
                self._real["ftruncate"](fd, size)
                content = self._live.contents[number]
                self._live.contents[number] = content[:size].ljust(size, b"\0")

            return self._do("truncate", f"{self._name(number)} to {size}", act)

    def _sync(self, fd: int) -> None:
        with self._lock:
            if fd not in self._open:
                return self._real["fsync"](fd)
            number = self._open[fd]

            def act() -> None:  # a disk that need not be waited for
                if number in self._live.names:
                    self._synced.names[number] = dict(self._live.names[number])
                else:
                    self._synced.contents[number] = self._live.contents[number]

            return self._do("sync", self._name(number), act)

    def _open_fd(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: Any = None) -> int:
        with self._lock:
            place = self._place(path)
            if place is None or dir_fd is not None:
                return int(self._real["open"](path, flags, mode, dir_fd=dir_fd))
            number = self._find(place)
            makes = number is None and flags & os.O_CREAT
            writes = flags & (os.O_WRONLY | os.O_RDWR)

            def act() -> int:
                fd = int(self._real["open"](path, flags, mode))
                if makes:
                    self._enter(place, folder=False)
                found = self._find(place)
                assert found is not None, f"{place} is not known"
                if flags & os.O_TRUNC and found in self._live.contents:
                    self._live.contents[found] = b""
                self._open[fd] = found
                if flags & os.O_APPEND:
                    self._appending.add(fd)
                return fd

            kind = "open" if makes or flags & os.O_TRUNC or writes else "read"
            return int(self._do(kind, place, act))

    def _close(self, fd: int) -> None:
        with self._lock:
            self._forget(fd)
            self._real["close"](fd)

    def _forget(self, fd: int) -> None:
        self._open.pop(fd, None)
        self._appending.discard(fd)

    def _rename(self, old: Any, new: Any, **options: Any) -> None:
        with self._lock:
            before, after = self._place(old), self._place(new)
            if before is None or after is None:
                return self._real["rename"](old, new, **options)

            def act() -> None:
                self._real["replace"](old, new)
                number = self._leave(before)
                folder, name = self._parent(after)
                self._live.names[folder][name] = number

            return self._do("rename", f"{before} to {after}", act)

    def _unlink(self, path: Any, *, dir_fd: Any = None) -> None:
        with self._lock:
            place = self._place(path)
            if place is None or dir_fd is not None:
                return self._real["unlink"](path, dir_fd=dir_fd)

            def act() -> None:
                self._real["unlink"](path)
                self._leave(place)

            return self._do("unlink", place, act)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: Any = None) -> None:
        with self._lock:
            place = self._place(path)
            if place is None or dir_fd is not None:
                return self._real["mkdir"](path, mode, dir_fd=dir_fd)
            if self._find(place) is not None:  # changes nothing
                return self._real["mkdir"](path, mode)

            def act() -> None:
                self._real["mkdir"](path, mode)
                self._enter(place, folder=True)

            return self._do("mkdir", place, act)

    def _rmdir(self, path: Any, *, dir_fd: Any = None) -> None:
        with self._lock:
            place = self._place(path)
            if place is None or dir_fd is not None:
                return self._real["rmdir"](path, dir_fd=dir_fd)

            def act() -> None:
                self._real["rmdir"](path)
                self._leave(place)

            return self._do("rmdir", place, act)

    # ------------------------------------------------------------ Python's files

    def _open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if isinstance(file, int) or self._place(file) is None:
            return self._real_open(
                file, mode, buffering, encoding, errors, newline, closefd, opener
            )
        plain = mode.replace("b", "").replace("t", "")
        raw = _Raw(os.fspath(file), plain, opener=lambda p, flags: os.open(p, flags, 0o666))
        raw.on_close = self._forget
        if buffering == 0:
            return raw
        if "+" in plain:
            stream: Any = io.BufferedRandom(raw)
        else:
            stream = io.BufferedReader(raw) if plain == "r" else io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding, errors, newline)

    # ------------------------------------------------------------ the C library

    def _library(self, name: Any, *args: Any, **options: Any) -> Any:
        library = self._real_library(name, *args, **options)
        return _Library(self, library) if name is None else library

    def _fallocate(self, real: Any, fd: int, mode: int, offset: int, nbytes: int) -> int:
        with self._lock:
            if fd not in self._open:
                return int(real(fd, mode, offset, nbytes))
            number = self._open[fd]

            def act() -> int:
                result = int(real(fd, mode, offset, nbytes))
                if result == 0:
                    content = self._live.contents[number]
                    self._live.contents[number] = content.ljust(offset + nbytes, b"\0")
                return result

            try:
                return int(self._do("claim", f"{nbytes} of {self._name(number)}", act))
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
                return -1

    def _syncfs(self, fd: int) -> int:
        with self._lock:

            def act() -> int:
                self._synced = self._live.copied()
                return 0

            try:
                return int(self._do("sync", "the file system", act))
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
                return -1

    # ------------------------------------------------------------ the model

    def _put(self, owner: Any, name: str, double: Any) -> None:
        self._stack.enter_context(patch.object(owner, name, double))

    def _scan(self, path: Path) -> int:
        number, self._next = self._next, self._next + 1
        if path.is_dir():
            self._live.names[number] = {}
            for child in sorted(path.iterdir()):
                self._live.names[number][child.name] = self._scan(child)
        else:
            self._live.contents[number] = path.read_bytes()
        return number

    def _place(self, path: Any) -> str | None:
        """Return where a path lies in the folder; None outside."""
        try:
            given = Path(os.fsdecode(path))
        except TypeError:  # a descriptor
            return None
        if given.absolute() == self._root:
            return ""
        whole = given.parent.resolve() / given.name
        if not whole.is_relative_to(self._root):
            return None
        return "" if whole == self._root else whole.relative_to(self._root).as_posix()

    def _find(self, place: str) -> int | None:
        number: int | None = ROOT
        for name in filter(None, place.split("/")):
            number = self._live.names.get(number, {}).get(name)  # type: ignore[arg-type]
        return number

    def _parent(self, place: str) -> tuple[int, str]:
        above, _, name = place.rpartition("/")
        folder = self._find(above)
        assert folder is not None, f"{above} is not known"
        return folder, name

    def _enter(self, place: str, folder: bool) -> None:
        parent, name = self._parent(place)
        number, self._next = self._next, self._next + 1
        self._live.names[parent][name] = number
        if folder:
            self._live.names[number] = {}
            self._synced.names[number] = {}
        else:
            self._live.contents[number] = b""

    def _leave(self, place: str) -> int:
        folder, name = self._parent(place)
        return self._live.names[folder].pop(name)

    def _name(self, number: int) -> str:
        for names in self._live.names.values():
            for name, child in names.items():
                if child == number:
                    return name
        return "the folder" if number == ROOT else "a file without a name"

    @staticmethod
    def _splice(tree: Tree, number: int, at: int, data: memoryview) -> None:
        content = tree.contents[number]
        tree.contents[number] = content[:at].ljust(at, b"\0") + data + content[at + len(data) :]

    def _note_half(self, number: int, at: int, data: memoryview) -> None:
        """Note a write that was torn; within a sector of bytes that were there, none is."""
        half = at + len(data) // 2
        if half < len(self._live.contents[number]):
            half -= half % SECTOR
        if half <= at:
            return
        torn = Tree(self._live.names, dict(self._live.contents))
        self._splice(torn, number, at, data[: half - at])
        self.moments.append(self._moment(f"half of {self.moments[-1].operation}", torn))

    def _moment(self, operation: str, live: Tree) -> Moment:
        synced = self._synced
        return Moment(
            operation,
            live.files(),
            synced.files(),
            Tree(live.names, synced.contents).files(),
        )


_GROWING = ("open", "write", "truncate", "claim", "mkdir", "rename", "sync")
"""Operations that may find the disk full."""


class _Raw(io.FileIO):
    """An open file whose writes can be seen."""

    on_close: Callable[[int], None]

    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self.fileno(), size)
        return size

    def close(self) -> None:
        if not self.closed:
            self.on_close(self.fileno())  # another thread may be given its number at once
            super().close()


class _Library:
    """The C library, whose two calls that are used here can be seen."""

    def __init__(self, disk: WatchedDisk, real: Any) -> None:
        self._disk = disk
        self._real = real

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._real, name)
        if name == "fallocate":
            return _Function(partial(self._disk._fallocate, function))
        if name == "syncfs":
            return _Function(self._disk._syncfs)
        return function


class _Function:
    """Takes what ctypes is told of a function's arguments."""

    argtypes: Any = None
    restype: Any = None

    def __init__(self, call: Callable[..., int]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> int:
        return self._call(*args)


def files_of(folder: Path) -> dict[str, bytes | None]:
    """Return the path of everything in a folder → its bytes; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def put_files(folder: Path, files: dict[str, bytes | None]) -> None:
    """Fill a new folder."""
    folder.mkdir()
    for name, content in files.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
