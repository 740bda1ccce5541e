"""``<output>.process.json``: where a result came from, and whether it answers what is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter, ValidationError

from mda_writers._version import __version__
from mda_writers.model.encode import to_json
from mda_writers.model.versions import PACKAGE, versions
from mda_writers.storage.files import content_hash, files_in, replace_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RECORD_SUFFIX = ".process.json"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file, or a folder as a whole, that a result was made from.

    Attributes
    ----------
    path : str
        Where it was.
    size_bytes : int
        Of a folder, the sum of its files.
    modified_ns : int
        When it was last modified, in ns since 1970; of a folder, its newest file.
    xxh3_128 : str
        Hash of its content; of a folder as `content_hash` says.
    """

    path: str
    size_bytes: int
    modified_ns: int
    xxh3_128: str

    @classmethod
    def of(cls, path: Path) -> InputFile:
        """Read a file or folder and describe it."""
        before = stamp_of(path)
        size, digest = content_hash(path)
        return cls(str(path), size, before[1], digest)

    def is_same(self, path: Path) -> bool:
        """Whether `path` has the same content.

        It is not read again when its size and its time are those of the description.
        """
        if not path.exists():
            return False
        stamp = stamp_of(path)
        if stamp[0] != self.size_bytes:
            return False
        return stamp[1] == self.modified_ns or content_hash(path)[1] == self.xxh3_128


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What a result was made from, and how.

    Attributes
    ----------
    process : str
        What was done.
    parameters : dict
        As plain values.
    inputs : tuple of InputFile
        Every file that was read.
    outputs : dict
        Name of each file of the result → its size in bytes.
    remark : str
        What whoever uses the result should know.
    faulty : bool
        Whether the result is whole, and tells of faults.
    seconds : float
        How long it took.
    versions : dict
        Of Python, this package and those it stands on.
    """

    process: str
    parameters: dict[str, Any]
    inputs: tuple[InputFile, ...]
    outputs: dict[str, int]
    remark: str = ""
    faulty: bool = False
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=versions)

    @classmethod
    def read(cls, path: Path) -> ProcessRecord | None:
        """Return the record at `path`; None if there is none, or no whole one."""
        try:
            return _RECORD.validate_python(orjson.loads(path.read_bytes()))
        except (OSError, ValueError, ValidationError):
            return None

    def write(self, path: Path) -> None:
        """Write it, all or nothing."""
        replace_bytes(path, orjson.dumps(orjson.loads(to_json(asdict(self))), option=_OPTIONS))

    def answers(
        self, process: str, parameters: Mapping[str, Any], inputs: Sequence[Path], folder: Path
    ) -> bool:
        """Whether the result in `folder` is what doing that with those inputs would give.

        The same process of the same version of this package, with the same parameters, from files
        with the same names and contents; and the result is still there.
        """
        return (
            self.process == process
            and self.parameters == plain(parameters)
            and self.versions.get(PACKAGE) == __version__
            and [Path(file.path).name for file in self.inputs] == [path.name for path in inputs]
            and self.is_in(folder)
            and all(f.is_same(path) for f, path in zip(self.inputs, inputs, strict=True))
        )

    def is_in(self, folder: Path) -> bool:
        """Whether every file of the result is there, with its size."""
        return bool(self.outputs) and all(
            (folder / name).exists() and size_of(folder / name) == size
            for name, size in self.outputs.items()
        )


def plain(value: Any) -> Any:
    """Return a value as JSON would give it back."""
    return orjson.loads(to_json(value))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return stamp_of(path)[0]


def sizes_of(paths: Iterable[Path]) -> dict[str, int]:
    """Return name → bytes."""
    return {path.name: size_of(path) for path in paths}


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size in bytes and time of modification in ns; of a folder, of all files in it."""
    stats = [file.stat() for file in (files_in(path) if path.is_dir() else [path])]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


_RECORD = TypeAdapter(ProcessRecord)
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
