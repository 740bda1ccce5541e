"""Which recordings were meant, which files they consist of, and what their results are called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mda_writers.batch.process_record import RECORD_SUFFIX
from mda_writers.dataset.opening import find_recording, recordings_in
from mda_writers.model.names import fold, split_suffix
from mda_writers.recording.stored import StoredRecording
from mda_writers.sinks.sidecar import journal_path, recording_path, sidecar_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ONE_DATASET = ("zarr.json", ".zattrs", ".zgroup", "NDTiff.index")
_OTHERS = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".btf", ".mp4", ".avi", ".mkv", ".mov")


def find_inputs(paths: Path | str | Iterable[Path | str]) -> list[tuple[Path, Path]]:
    """Return the recordings that `paths` name, each with the folder that it was found through.

    A folder stands for all recordings in it and in the folders below, and for other images and
    videos there.

    Raises
    ------
    FileNotFoundError
        If one of `paths` does not exist, or holds nothing.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: dict[Path, Path] = {}
    for each in given:
        path = Path(each).expanduser().absolute()
        inside = list(_recordings_below(path)) if _is_plain_folder(path) else [path]
        if not inside or not (path.exists() or find_recording(path)):
            raise FileNotFoundError(f"{path}: no recording, image or video there.")
        root = path if _is_plain_folder(path) else path.parent
        found |= {recording: root for recording in inside if recording not in found}
    return list(found.items())


def our_recordings(paths: Iterable[Path]) -> list[Path]:
    """Return the recordings of this package that `paths` name or hold.

    What is named itself is always among them: whoever asks for it shall hear what it is.
    """
    named = {Path(path).expanduser().absolute() for path in paths}
    found = [path for path, _ in find_inputs(list(named))]
    return [path for path in found if path in named or find_recording(path)]


def files_of(path: Path) -> list[Path]:
    """Return the files, and folders that are images, that a recording consists of.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    main = find_recording(path)
    if main is None:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or recording.")
        return [path]
    stored = StoredRecording.find(main)
    images = [main.parent / file for i in stored.images.values() for file in i.all_files]
    if main.is_dir():  # an OME-Zarr of several images, as a whole
        images = [main]
    about = [sidecar_path(main), recording_path(main), journal_path(main)]
    return [file for file in dict.fromkeys([*images, *about]) if file.exists()]


def outputs_for(inputs: Iterable[tuple[Path, Path]], output: Path, suffix: str) -> list[Path]:
    """Return a result for each input: in folder `output`, as inputs lie in theirs.

    Raises
    ------
    ValueError
        If two inputs would have the same result.
    """
    found: list[Path] = []
    taken: dict[str, Path] = {}
    for path, root in inputs:
        folder = output / path.parent.relative_to(root)
        target = folder / f"{split_suffix(path.name)[0]}{suffix}"
        other = taken.setdefault(fold(str(target)), path)
        if other != path:
            raise ValueError(
                f"{path} and {other} would both become {target}. Nothing was done; rename one of "
                "them, or work on them one after the other with different outputs."
            )
        found.append(target)
    return found


def _is_plain_folder(path: Path) -> bool:
    return (
        path.is_dir()
        and not (recording_path(path).exists() or journal_path(path).exists())
        and not any((path / name).exists() for name in _ONE_DATASET)
    )


def _recordings_below(folder: Path) -> Iterator[Path]:
    """Yield recordings of ours, and then what belongs to none of them, a folder at a time."""
    ours = recordings_in(folder)
    yield from ours
    known = {file for recording in ours for file in (recording, *files_of(recording))}
    for path in sorted(folder.iterdir()):
        if path in known or path.name.startswith(".") or path.name.endswith(RECORD_SUFFIX):
            continue
        if path.is_dir():
            yield from [path] if not _is_plain_folder(path) else _recordings_below(path)
        elif split_suffix(path.name)[1].lower() in _OTHERS:
            yield path
