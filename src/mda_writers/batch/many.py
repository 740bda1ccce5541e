"""Verify or recover many recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import orjson

from mda_writers.batch.api import Running, run_all, run_each
from mda_writers.batch.executor import ALONE, JobResult, Status, Workers
from mda_writers.batch.inputs import files_of, find_inputs
from mda_writers.batch.jobs import FaultsFoundError, Operation, outcome_of
from mda_writers.batch.provenance import size_of
from mda_writers.errors import CorruptRecordingError, options_checked
from mda_writers.model.frame import are_worth_it
from mda_writers.recording.files import journal_path, main_path
from mda_writers.recording.journal import is_intact
from mda_writers.recording.recover import recover
from mda_writers.recording.verify import VerifyResult, blocks_to_verify, joined, verify, verify_part
from mda_writers.storage.files import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mda_writers.batch.executor import Summary


@options_checked("verify_all", also=Running.__annotations__)
def verify_all(
    inputs: str | Path | Iterable[str | Path],
    results: str | Path | None = None,
    **running: Unpack[Running],
) -> Summary:
    """Read every frame of many recordings back, and compare it with its checksum.

    One that is not intact, or not complete, has failed; one that was interrupted, and is intact as
    far as it came, has not. Nothing is written anywhere, unless a
    folder for the results is named: then every recording gets ``<name>_verify.json`` there, and
    is skipped the next time, as long as its files have the size and the time they had. (What was
    found faulty is told of again.) For the record beside each result the files are read a second
    time, as a whole. Otherwise the manifests of sessions are verified, too, with the notes, logs
    and other files that are their own.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings of this package, or folders that hold some.
    results : path-like, optional
        A folder for the results, which makes the batch resumable.
    **running
        As for `convert`: ``overwrite`` (of results), ``workers``, ``client``, ``scheduler``,
        ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the call makes no sense; nothing is done then.
    BatchError
        If any recording is not as it was written, or not complete; all others were verified.
    """
    found = find_inputs(inputs, ours_only=True)
    if results is not None:
        return run_each(Verify(), found, results, "_verify.json", running)
    tasks = [Verification(path) for path, _ in found]
    return run_all([*tasks, *map(SessionVerification, _manifests(found))], running)


@dataclass(frozen=True, slots=True)
class Verify(Operation):
    """Writes what verifying a recording has shown."""

    name: ClassVar[str] = "verify"

    def can_share(self, inputs: Sequence[Path], output: Path) -> bool:
        """Whether it has ended."""
        return bool(blocks_to_verify(inputs[0]))

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Write it."""
        return _written(_verified(inputs[0], workers), result)


@dataclass(frozen=True, slots=True)
class Verification:
    """Verifies a recording, and writes nothing."""

    output: Path

    def is_shared(self, *, on_cluster: bool) -> bool:
        """Whether it is large, and has ended."""
        large = are_worth_it(sum(map(size_of, files_of(self.output))))
        return large and bool(blocks_to_verify(self.output))

    def run(self, workers: Workers = ALONE) -> JobResult:
        """Verify it."""
        return outcome_of(self.output, lambda: _status(_verified(self.output, workers)))


def _verified(path: Path, workers: Workers) -> VerifyResult:
    """Verify a recording: as a whole, or by many in blocks of frames."""
    blocks = blocks_to_verify(path) if workers.several else []
    if not blocks:
        return verify(path, progress=False)
    return joined(list(workers.map(verify_part, [(path, part) for part in (None, *blocks)])))


@dataclass(frozen=True, slots=True)
class SessionVerification:
    """Verifies what a session's manifest says, and the files that are the session's own."""

    output: Path

    def is_shared(self, *, on_cluster: bool) -> bool:
        """Whether several do it: no, these files are small."""
        return False

    def run(self, workers: Workers = ALONE) -> JobResult:
        """Do it; the recordings are verified by themselves."""
        return outcome_of(self.output, self._run)

    def _run(self) -> tuple[Status, str]:
        text = self.output.read_bytes()
        try:
            content = orjson.loads(text)
            logs = [each for each in content["producers"] if each["kind"] == "log"]
            owners = [content, *(recording for log in logs for recording in log["recordings"])]
            files = [file for owner in owners for file in owner["files"]]
        except (ValueError, LookupError, TypeError) as error:
            raise CorruptRecordingError(f"{self.output}: cut or altered ({error}).") from error
        if not is_intact(text) or not text.endswith(b"}\n"):
            raise CorruptRecordingError(f"{self.output}: altered since it was written.")
        found = [what for file in files if (what := self._fault_of(file))]
        if found:
            raise CorruptRecordingError("; ".join(found))
        return "done", f"a session's manifest, and {len(files)} files: as they were written"

    def _fault_of(self, entry: Mapping[str, Any]) -> str:
        path = self.output.parent / entry["path"]
        if not path.exists():
            return f"{entry['path']}: missing"
        known = entry.get("xxh3_128")  # none while the session goes on
        if known is not None and content_hash(path) != (entry["size_bytes"], known):
            return f"{entry['path']}: altered since the session ended"
        return ""


def _manifests(found: Iterable[tuple[Path, Path]]) -> list[Path]:
    """Return the manifests of sessions in the folders through which recordings were found."""
    folders = {
        folder
        for path, root in found
        for folder in path.parents
        if folder == root or folder.is_relative_to(root)
    }
    files = (file for folder in sorted(folders) for file in folder.glob("*manifest*.json"))
    return [file for file in files if _is_manifest(file)]


def _is_manifest(file: Path) -> bool:
    """Return whether a file is, or was before it was damaged, a session's manifest."""
    text = file.read_bytes()
    is_ours = not text or any(word in text for word in _IN_MANIFESTS)
    return is_ours and not file.name.startswith(".")


_IN_MANIFESTS = (b'"mda-writers session"', b'"producers"', b'"time_basis"')


def _status(result: VerifyResult) -> tuple[Status, str]:
    if result.interrupted and result.intact:
        return "interrupted", str(result)
    return "done" if result.ok else "failed", str(result)


def _written(result: VerifyResult, path: Path) -> str:
    told = {"ok": result.ok, "intact": result.intact, **asdict(result)}
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if not (result.ok or (result.interrupted and result.intact)):
        raise FaultsFoundError(str(result))
    return str(result)


@options_checked("recover_all", also=Running.__annotations__)
def recover_all(inputs: str | Path | Iterable[str | Path], **running: Unpack[Running]) -> Summary:
    """Complete interrupted recordings, as far as their frames had reached the disk.

    Those that have ended already are skipped, and left as they are. See `recover`.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings of this package, or folders that hold some.
    **running
        As for `convert`: ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError
        If there is no such recording; nothing is done then.
    BatchError
        If any could not be completed, such as one that is still being written; all others were.
    """
    found = find_inputs(inputs, ours_only=True)
    return run_all([Recovery(path) for path, _ in found], running)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Completes a recording where it lies."""

    output: Path

    def is_shared(self, *, on_cluster: bool) -> bool:
        """Whether several do it: no, its frames are not touched, so that it takes no time."""
        return False

    def run(self, workers: Workers = ALONE) -> JobResult:
        """Do it, unless the recording has ended."""
        return outcome_of(self.output, self._run)

    def _run(self) -> tuple[Status, str]:
        ended = not journal_path(main_path(self.output)).exists()
        report = recover(self.output)
        planned = "" if report.frames_expected is None else f" of {report.frames_expected} planned"
        told = f"{report.frames_written}{planned} frames are on disk, with their metadata"
        return ("skipped", f"it has ended: {told}") if ended else ("done", told)
