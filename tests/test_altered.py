"""What is altered in any file of a recording is noticed, and harms nothing but itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mda_writers import (
    Acquisition,
    BigTiffWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    open_dataset,
    recover,
    verify,
)
from mda_writers.cli import app
from mda_writers.dataset.napari import get_reader
from mda_writers.errors import RecordingError
from mda_writers.formats.tiff.layout import DATA_OFFSET, GAP_BYTES
from mda_writers.recording.files import main_path
from sessions import film

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {"p": 2, "t": 2, "z": 2}

WRITERS: dict[str, Callable[[Path], Any]] = {
    "OME-TIFF": lambda f: BigTiffWriter(f / "exp.ome.tiff"),
    "BigTIFF": lambda f: BigTiffWriter(f / "exp.tif"),
    "compressed OME-TIFF": lambda f: BigTiffWriter(f / "exp.ome.tiff", compression="zlib"),
    "TIFF series": lambda f: TiffSeriesWriter(f / "s"),
    "OME-Zarr 0.5": lambda f: OMEZarrWriter(f / "exp.ome.zarr"),
    "OME-Zarr 0.4": lambda f: OMEZarrWriter(f / "exp.ome.zarr", ngff_version="0.4", levels=2),
    "compressed OME-Zarr": lambda f: OMEZarrWriter(
        f / "exp.ome.zarr", compression="blosc-lz4", levels=2
    ),
    "OME-Zarr smaller in z": lambda f: OMEZarrWriter(f / "exp.ome.zarr", levels=2, z_factor=2),
    "FFV1 in Matroska": lambda f: CV2Writer(f / "exp.mkv", fourcc="FFV1"),
    "H.264 in MP4": lambda f: CV2Writer(f / "exp.mp4"),
}

HARMLESS = {
    # zeros between a shard's chunks and its index, room between the head of a TIFF and its first
    # plane are within what is sealed or checked; what is left are streams of a codec in which
    # another byte decodes to the same pixels, as a match of LZ4 that copies other zeros
    "compressed OME-Zarr": "a byte of a compressed chunk that decodes to the same pixels",
}

GAP = range(DATA_OFFSET + 24 * 24 * 2, DATA_OFFSET + 24 * 24 * 2 + GAP_BYTES)
"""Behind the first plane of a file that other files of an OME-TIFF link to: no pixels, no tags."""


def frames_of(kind: str) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    dtype = "uint8" if "H.264" in kind else "uint16"
    return [rng.integers(0, 255, (24, 24)).astype(dtype) for _ in range(8)]


def recorded(kind: str, folder: Path, *, end: bool = True) -> Any:
    """Write eight frames; return the writer."""
    frames = frames_of(kind)
    writer = WRITERS[kind](folder)
    writer.begin(24, 24, is_color=False, dtype=frames[0].dtype, sizes=SIZES)
    for number, frame in enumerate(frames):
        writer.add_frame(frame, metadata={"exposure_ms": 100.0 + number})
    if end:
        writer.finish()
    else:
        writer.isel(t=1)
    return writer


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of a recording of each kind; not to be changed."""
    folders = {}
    for kind in WRITERS:
        folders[kind] = tmp_path_factory.mktemp("recording")
        recorded(kind, folders[kind])
    return folders


def files_in(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def report_in(folder: Path) -> Path:
    return next(folder.rglob("*_recording.json"))


def is_noticed(folder: Path) -> bool:
    """Return whether `verify` finds fault with a recording."""
    try:
        return not verify(report_in(folder), progress=False).ok
    except RecordingError:
        return True


def pixels_in(folder: Path) -> list[bytes]:
    with open_dataset(report_in(folder)) as dataset:
        return [dataset.read_image(**at).tobytes() for at in dataset.image_coordinates]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_changed_byte_of_every_file_is_noticed(
    kind: str, recordings: dict[str, Path], data: st.DataObject
) -> None:
    file = data.draw(st.sampled_from(files_in(recordings[kind])))
    content = bytearray((recordings[kind] / file).read_bytes())
    offset = data.draw(st.integers(0, len(content) - 1))
    content[offset] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copytree(recordings[kind], Path(name) / "copy"))
        (copy / file).write_bytes(content)
        if not is_noticed(copy):
            if not (kind == "OME-TIFF" and file.suffix == ".tiff" and offset in GAP):
                assert kind in HARMLESS, (file, offset)
                assert file.name.isdigit()
            assert pixels_in(copy) == pixels_in(recordings[kind])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRITERS)
def test_cut_missing_and_swapped_files_are_noticed(
    kind: str, recordings: dict[str, Path], tmp_path: Path
) -> None:
    files = files_in(recordings[kind])
    assert not is_noticed(recordings[kind])
    for number, file in enumerate(files):
        for keep in (0, -1, None):
            if file.name.endswith("_recording.json") and keep is None:
                continue  # without it, nothing says that there was a recording
            copy = Path(shutil.copytree(recordings[kind], tmp_path / f"{number}{keep}"))
            if keep is None:
                (copy / file).unlink()
            else:
                os.truncate(copy / file, (copy / file).stat().st_size + keep if keep else 0)
            assert is_noticed(copy), (file, keep)
    for number, (one, other) in enumerate(pairwise(files)):
        copy = Path(shutil.copytree(recordings[kind], tmp_path / f"swapped{number}"))
        if (copy / one).read_bytes() == (copy / other).read_bytes():
            continue  # groups of Zarr that say the same
        (copy / one).rename(copy / "x")
        (copy / other).rename(copy / one)
        (copy / "x").rename(copy / other)
        try:
            assert is_noticed(copy), (one, other)
        except FileNotFoundError:
            assert "_recording.json" in f"{one}{other}"


@pytest.mark.parametrize("kind", ["OME-TIFF", "OME-Zarr 0.5", "FFV1 in Matroska"])
def test_lines_of_the_sidecar_that_are_removed_swapped_or_repeated_are_noticed(
    kind: str, recordings: dict[str, Path], tmp_path: Path
) -> None:
    def changed(name: str, change: Callable[[list[bytes]], None]) -> bool:
        copy = Path(shutil.copytree(recordings[kind], tmp_path / name))
        sidecar = next(copy.glob("*_frame_metadata.json"))
        lines = sidecar.read_bytes().splitlines(keepends=True)
        change(lines)
        sidecar.write_bytes(b"".join(lines))
        orjson.loads(sidecar.read_bytes())
        return is_noticed(copy)

    def swap(lines: list[bytes]) -> None:
        lines[1], lines[2] = lines[2], lines[1]

    assert changed("removed", lambda lines: lines.pop(1) and None)
    assert changed("swapped", swap)
    assert changed("repeated", lambda lines: lines.insert(1, lines[1]))
    assert changed("empty", lambda lines: lines.__setitem__(slice(None), [b"{}\n"]))


def test_older_recordings_without_seals_are_intact(
    recordings: dict[str, Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(recordings["OME-TIFF"], tmp_path / "copy"))
    report = orjson.loads(report_in(copy).read_bytes())
    del report["seal"], report["seals"]
    report_in(copy).write_bytes(orjson.dumps(report))
    sidecar = next(copy.glob("*_frame_metadata.json"))
    content = orjson.loads(sidecar.read_bytes())
    sections = []
    for key, frames in content.items():
        for frame in frames:
            del frame["mda_writers"]["seal"]
        lines = b",\n".join(map(orjson.dumps, frames))
        sections.append(orjson.dumps(key) + b": [\n" + lines + b"\n]")
    sidecar.write_bytes(b"{" + b",\n".join(sections) + b"}\n")
    result = verify(report_in(copy), progress=False)
    assert (result.ok, result.frames_checked) == (True, 8), str(result)


def test_interrupted_recording_is_intact_and_not_failed(tmp_path: Path) -> None:
    writer = recorded("OME-TIFF", tmp_path / "live", end=False)
    copy = Path(shutil.copytree(tmp_path / "live", tmp_path / "copy"))
    running = CliRunner().invoke(app, ["verify", str(tmp_path / "live")])
    assert "intact, still being written" in " ".join(running.output.split())
    writer.finish()
    said = CliRunner().invoke(app, ["verify", str(copy)])
    assert said.exit_code == 1  # it lacks its end
    assert "intact, interrupted" in " ".join(said.output.split())
    assert "failed" not in said.output


def test_damaged_file_of_an_interrupted_recording_is_noticed(tmp_path: Path) -> None:
    writer = recorded("OME-TIFF", tmp_path / "live", end=False)
    copy = Path(shutil.copytree(tmp_path / "live", tmp_path / "copy"))
    writer.finish()
    with (copy / "exp_p0.ome.tiff").open("r+b") as stream:
        stream.seek(8)
        stream.write(b"\xff" * 8)  # where the first directory is
    result = verify(copy / "exp.ome.tiff", progress=False)
    assert list(result.files_damaged) == ["exp_p0.ome.tiff"]
    (copy / "exp_p1.ome.tiff").unlink()
    result = verify(copy / "exp.ome.tiff", progress=False)
    assert result.files_missing == ["exp_p1.ome.tiff"]


def lines_told(folder: Path) -> dict[tuple[int, ...], float]:
    """Return index → exposure of every frame that the sidecar lists."""
    content = orjson.loads(next(folder.rglob("*_frame_metadata.json")).read_bytes())
    return {
        tuple(frame["mda_writers"]["index"].values()): frame["exposure_ms"]
        for frames in content.values()
        for frame in frames
    }


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a recording that was killed; not to be changed."""
    live, copy = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("killed")
    writer = recorded("OME-TIFF", live, end=False)
    shutil.copytree(live, copy, dirs_exist_ok=True)
    writer.finish()
    return copy


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_changed_byte_of_a_journal_costs_one_line_and_gives_no_wrong_one(
    interrupted: Path, where: float, flip: int
) -> None:
    true = {
        (p, t, z): 100.0 + 4 * p + 2 * t + z for p in range(2) for t in range(2) for z in range(2)
    }
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copytree(interrupted, Path(name) / "copy"))
        journal = next(copy.glob("*_frames.jsonl"))
        content = bytearray(journal.read_bytes())
        offset = int(where * len(content))
        content[offset] ^= flip
        journal.write_bytes(content)
        result = verify(copy / "exp.ome.tiff", progress=False)
        assert not result.intact
        assert result.frames_faulty == 0
        report = recover(copy / "exp.ome.tiff")
        told = lines_told(copy)
        assert set(told.items()) <= set(true.items())
        assert len(told) >= 7
        assert report.frames_written == len(told)
        assert not report.complete
        assert "altered" in report.error
        assert verify(copy / "exp.ome.tiff", progress=False).intact


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "H.264 in MP4"])
def test_recover_finishes_all_images_but_the_damaged_one(kind: str, tmp_path: Path) -> None:
    writer = recorded(kind, tmp_path / "live", end=False)
    copy = Path(shutil.copytree(tmp_path / "live", tmp_path / "copy"))
    writer.finish()
    journal = next(copy.rglob("*_frames.jsonl"))
    main = main_path(journal)
    files = [file for file in files_in(copy) if not file.name.endswith("_frames.jsonl")]
    damaged = next(
        file
        for file in files
        if (file.name in ("zarr.json", ".zarray") and file.parent.name == "0")
        or file.suffix in (".tif", ".tiff", ".mkv")
    )  # fmt: skip
    (copy / damaged).write_bytes(b"\xff" * 100)
    report = recover(main)
    assert len(lines_told(copy)) == 8
    assert not report.complete
    assert damaged.name in report.error
    result = verify(main, progress=False)
    assert not result.intact
    other = {fault.index["p"] for fault in result.faults}
    assert len(other) <= 1, str(result)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_file_of_a_recording_leads_to_it_everywhere(
    kind: str, recordings: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(recordings[kind], tmp_path / "in"))
    main = main_path(report_in(folder))
    for number, file in enumerate(files_in(folder)):
        path = folder / file
        with open_dataset(path) as dataset:
            assert dataset.path == main
        assert verify(path, progress=False).path == str(main)
        if number % 4:
            continue  # what follows takes long
        for words in (["info"], ["verify"], ["report", "-o", str(tmp_path / "page.html")]):
            said = CliRunner().invoke(app, [words[0], str(path), *words[1:]])
            assert said.exit_code == 0, (words, file, said.output)
        output = tmp_path / f"{number}.ome.tiff"
        said = CliRunner().invoke(app, ["convert", str(path), "-o", str(output)])
        assert said.exit_code == 0, said.output
        with open_dataset(output) as dataset:
            assert dataset.sizes["p"] == 2


def blinded(folder: Path) -> None:
    """Take away the pixels of the first image, so that they can be read by nobody."""
    for file in files_in(folder):
        is_chunk = file.name.isdigit()
        if is_chunk or file.suffix in (".tif", ".tiff", ".mkv", ".mp4"):
            content = (folder / file).read_bytes()
            (folder / file).write_bytes(content[: len(content) // 3])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRITERS)
def test_pixels_that_cannot_be_read_are_never_reported_as_whole(
    kind: str, recordings: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(recordings[kind], tmp_path / "in"))
    main = main_path(report_in(folder))
    blinded(folder)
    out = tmp_path / "out"
    page = tmp_path / "page.html"
    for words in (
        ["verify"],
        ["report", "--no-verify", "-o", page],
        ["report", "--verify", "-o", page],
        ["sheet", "-o", out / "sheet.png"],
        ["convert", "-o", out / "a.ome.tiff"],
        ["convert", "-o", out / "a.ome.zarr"],
        ["project", "-o", out / "p", "--axes", "t"],
        ["trace", "-o", out / "t", "--region", "a=0:9,0:9"],
    ):
        said = CliRunner().invoke(app, [words[0], str(main), *map(str, words[1:])])
        assert said.exit_code == 1, (words, said.output)
        assert not said.output.startswith("done")
        if words[0] == "report":
            assert 'data-state="damaged"' in page.read_text()
            assert 'data-integrity="intact"' not in page.read_text()
    with pytest.raises(RecordingError), open_dataset(main) as dataset:
        dataset.to_xarray().compute()
    layers_of = get_reader(str(main))
    assert layers_of is not None
    with pytest.raises(RecordingError):
        for pixels, _, _ in layers_of(str(main)):
            np.asarray(pixels[0] if isinstance(pixels, list) else pixels)


def test_every_changed_byte_of_a_session_is_noticed(tmp_path: Path) -> None:
    with Acquisition(tmp_path / "data", subject="M1", session=1, task="rest") as acq:
        film(acq, "camera", 2)
        acq.note("a mouse")
    folder = acq.manifest_path.parent
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0
    rng = np.random.default_rng(0)
    own = [file for file in files_in(folder) if file.suffix in (".json", ".csv")]
    assert acq.manifest_path in [folder / file for file in own]
    for file in own:
        content = (folder / file).read_bytes()
        for offset in rng.integers(0, len(content), 8):
            changed = bytearray(content)
            changed[offset] ^= int(rng.integers(1, 255))
            (folder / file).write_bytes(changed)
            said = CliRunner().invoke(app, ["verify", str(folder)])
            assert said.exit_code == 1, (file, offset)
        (folder / file).write_bytes(content)
    content = acq.manifest_path.read_bytes()
    acq.manifest_path.write_bytes(content.replace(b'"M1"', b'"M2"', 1))
    with pytest.raises(RecordingError, match="altered"):
        Acquisition.open(folder)
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", str(folder), "-o", str(page)]).exit_code == 1


def test_stores_of_several_images_are_sealed(tmp_path: Path) -> None:
    writer = OMEZarrWriter(tmp_path / "exp.ome.zarr")
    writer.begin(24, 24, is_color=False, dtype=np.uint16)
    for number in range(4):
        index = {"p": number % 2, "t": number // 2}
        writer.add_frame(np.full((24, 24), number, np.uint16), index=index)
    assert writer.finish().complete
    assert verify(tmp_path / "exp.ome.zarr", progress=False).ok
    for store in tmp_path.glob("*.ome.zarr"):
        described = (store / "zarr.json").read_bytes()
        (store / "zarr.json").write_bytes(described.replace(b"micrometer", b"kilometer\n"))
        assert is_noticed(tmp_path) or b"micrometer" not in described
        (store / "zarr.json").write_bytes(described)
