"""Damaged files: an error that says what it is, never a hang, and never a wrong picture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mda_writers import BigTiffWriter, OMEZarrWriter, open_dataset
from mda_writers.dataset import live
from mda_writers.errors import CoordinateError, CorruptRecordingError
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from mda_writers import Dataset

SIZES = {"p": 2, "t": 3, "c": 2}
JOURNAL, SIDECAR, RECORDING = "_frames.jsonl", "_frame_metadata.json", "_recording.json"


def recorded(
    path: Path, sizes: dict[str, int] | None = SIZES, *, interrupted: bool = False
) -> None:
    """Record all frames of `SIZES`; an interrupted recording keeps its journal and no more."""
    made = (OMEZarrWriter if ".zarr" in path.name else BigTiffWriter)(path)
    made.begin(24, 16, False, dtype="uint16", sizes=sizes, channels=["DAPI", "FITC"])
    for place in np.ndindex(*SIZES.values()):
        index = dict(zip(SIZES, place, strict=True))
        made.add_frame(stamp(index, (16, 24), "uint16"), index=index)
    if interrupted:
        while made.frames_written < np.prod(list(SIZES.values())):
            pass
        shutil.copytree(path.parent, path.parent.parent / "interrupted")
    made.finish()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a finished recording, and two interrupted ones: with and without a plan."""
    found = {}
    for name, sizes in (("planned", SIZES), ("open", None)):
        folder = tmp_path_factory.mktemp(name) / "run"
        folder.mkdir()
        recorded(folder / "exp.ome.tif", sizes, interrupted=True)
        found[f"{name} finished"] = folder
        found[f"{name} interrupted"] = folder.parent / "interrupted"
    return found


def look_at_everything(path: Path) -> int:
    """Return how many frames were seen; each of them, and its metadata, is the right one."""
    seen = 0
    with open_dataset(path) as dataset:
        for coords in dataset.image_coordinates:
            index = {axis: index_of(dataset, axis, value) for axis, value in coords.items()}
            check_stamp(dataset.read_image(**coords), {a: index.get(a, 0) for a in SIZES})
            ours = dataset.read_metadata(**coords)["mda_writers"]
            assert ours["index"] == {a: index.get(a, 0) for a in SIZES}
            seen += 1
        assert dataset.summary()
    return seen


def index_of(dataset: Dataset, axis: str, value: Any) -> int:
    return value if isinstance(value, int) else dataset.axes[axis].index(value)


def damaged(folder: Path, target: Path, suffix: str, at: float, byte: int | None) -> None:
    """Copy a recording, one file of it cut (`byte` None) or altered at a part of its length."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    file = next(target.glob(f"*{suffix}"))
    content = bytearray(file.read_bytes())
    # a TIFF's header; an altered pixel is what checksums and `verify` are for
    length = 4096 if suffix.endswith(".tif") else len(content)
    position = min(int(at * length), length - 1)
    if byte is None:
        file.write_bytes(content[:position])
        return
    content[position] = byte
    file.write_bytes(content)


FILES = [
    ("planned finished", RECORDING),
    ("planned finished", SIDECAR),
    ("planned finished", "p0.ome.tif"),
    ("planned interrupted", JOURNAL),
    ("open finished", RECORDING),
    ("open interrupted", JOURNAL),
    ("open interrupted", "p1.ome.tif"),
]


@pytest.mark.parametrize(("kind", "suffix"), FILES)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.floats(0, 1), byte=st.none() | st.integers(0, 255))
def test_a_file_cut_or_altered_anywhere_shows_no_wrong_picture(
    recordings: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    suffix: str,
    at: float,
    byte: int | None,
) -> None:
    monkeypatch.setattr(live, "HEADER_WAIT_S", 0.0)
    damaged(recordings[kind], tmp_path / "copy", suffix, at, byte)
    try:
        seen = look_at_everything(tmp_path / "copy" / "exp.ome.tif")
    except CorruptRecordingError as error:
        assert "opy" in str(error)  # what to do
        assert str(tmp_path) in str(error)  # where
    else:
        # a journal's last line without its end is one that was being written
        assert seen == 12 or (suffix == JOURNAL and (byte is None or seen == 11))


def test_undamaged_recordings_are_seen_as_a_whole(recordings: dict[str, Path]) -> None:
    for folder in recordings.values():
        assert look_at_everything(folder / "exp.ome.tif") == 12


def test_a_truncated_file_of_pixels_is_an_error_for_what_is_cut_off(
    recordings: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(recordings["planned finished"], tmp_path / "copy")
    file = tmp_path / "copy" / "exp_p0.ome.tif"
    with file.open("r+b") as stream:
        gap = 4096  # between the first plane and the others
        stream.truncate(4096 + gap + 3 * 16 * 24 * 2 + 5)
    with open_dataset(tmp_path / "copy") as dataset:
        check_stamp(dataset.read_image(p=0, t=1, c=0), {"p": 0, "t": 1, "c": 0})
        with pytest.raises(CorruptRecordingError, match=r"cut off. It holds 3 whole planes"):
            dataset.read_image(p=0, t=1, c=1)
        with pytest.raises(CorruptRecordingError, match="cut off"):
            dataset.as_array(p=0).compute(scheduler="synchronous")
        check_stamp(dataset.read_image(p=1, t=2, c=1), {"p": 1, "t": 2, "c": 1})
    file.unlink()
    with (
        open_dataset(tmp_path / "copy") as dataset,
        pytest.raises(CorruptRecordingError, match="missing"),
    ):
        dataset.read_image(p=0, t=0, c=0)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(at=st.floats(0, 1), byte=st.none() | st.integers(1, 255))
def test_a_compressed_tiff_cut_or_altered_anywhere_shows_no_wrong_picture(
    compressed: Path, at: float, byte: int | None
) -> None:
    whole = compressed.read_bytes()
    position = int(at * (len(whole) - 1))
    content = bytearray(whole if byte is not None else whole[:position])
    if byte is not None:
        content[position] ^= byte
    try:
        compressed.write_bytes(content)
        with open_dataset(compressed) as dataset:
            for t, c in np.ndindex(6, 2):
                check_stamp(dataset.read_image(t=t, c=c), {"p": 0, "t": t, "c": c})
    except CorruptRecordingError as error:
        assert "opy" in str(error)
    finally:
        compressed.write_bytes(whole)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compressed") / "exp.ome.tif"
    made = BigTiffWriter(path, compression="zlib")
    made.begin(24, 16, False, dtype="uint16", sizes={"t": 6, "c": 2})
    for t, c in np.ndindex(6, 2):
        made.add_frame(stamp({"p": 0, "t": t, "c": c}, (16, 24), "uint16"))
    made.finish()
    return path


def test_a_lost_chunk_of_zarr_is_an_error_and_not_black(tmp_path: Path) -> None:
    recorded(tmp_path / "exp.zarr")
    shutil.rmtree(tmp_path / "exp.zarr" / "1" / "0" / "c")
    with open_dataset(tmp_path / "exp.zarr") as dataset:
        check_stamp(dataset.read_image(p=0, t=1, c=0), {"p": 0, "t": 1, "c": 0})
        with pytest.raises(CorruptRecordingError, match="missing"):
            dataset.read_image(p=1, t=0, c=0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(at=st.floats(0, 1), byte=st.none() | st.integers(0, 255))
def test_a_third_party_tiff_with_a_damaged_header_never_hangs(
    tmp_path_factory: pytest.TempPathFactory, at: float, byte: int | None
) -> None:
    pixels = np.arange(4 * 20 * 30, dtype="uint16").reshape(4, 20, 30)
    path = tmp_path_factory.mktemp("foreign") / "a.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"})
    content = bytearray(path.read_bytes())
    position = min(int(at * 600), 599)
    path.write_bytes(content[:position] if byte is None else content)
    if byte is not None:
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(bytes([byte]))
    try:
        with open_dataset(path) as dataset:
            for coords in dataset.image_coordinates[:4]:
                dataset.read_image(**coords)
    except (CorruptRecordingError, CoordinateError) as error:
        assert "a.ome.tif" in str(error)
