"""One large recording by many hands: the result is the same, bit for bit."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
import tifffile

from batch_recordings import recorded
from mda_writers import BigTiffWriter, open_dataset, verify
from mda_writers.batch import BatchError, parts, project, trace, verify_all
from mda_writers.batch.placing import WorkFolder
from mda_writers.batch.projection import Project
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part be ten frames of 32 × 32, instead of gigabytes."""
    monkeypatch.setattr(parts, "PART_BYTES", 10 * 2048)


def several_positions(path: Path, frames: int = 9) -> Path:
    """Write two positions of two channels, some frames of the second left out."""
    writer = BigTiffWriter(path)
    sizes = {"t": frames, "p": 2, "c": 2}
    writer.begin(32, 32, dtype="uint16", sizes=sizes, channels=["DAPI", "FITC"])
    for t in range(frames):
        for p in range(2):
            for c in range(2):
                index = {"t": t, "p": p, "c": c}
                if (t % 3, p, c) != (1, 1, 1):
                    writer.add_frame(stamp(index, (32, 32), "uint16"), index=index)
    writer.finish()
    return path


def shown(path: Path) -> Any:
    """Return what a result holds: pixels and what is known of each frame, or the bytes."""
    if path.suffix == ".csv":
        return path.read_bytes()
    with open_dataset(path) as dataset:
        places = list(dataset.image_coordinates)
        return [
            (at, dataset.read_image(**at).tobytes(), dataset.read_metadata(**at)) for at in places
        ]


def in_parts_and_whole(
    work: Callable[..., object], source: Path, name: str, tmp_path: Path, **options: Any
) -> tuple[Path, Path]:
    """Do the same work twice, and return both results."""
    split, whole = tmp_path / "split" / name, tmp_path / "whole" / name
    work(source, whole, workers=1, progress=False, **options)  # one worker splits nothing
    work(source, split, workers=2, progress=False, **options)
    return split, whole


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the parts that are made from now on."""
    from mda_writers.batch import making

    made: list[str] = []
    make = making._make_part

    def make_and_note(process: Any, inputs: Any, part: Any, target: Path) -> None:
        if not target.exists():
            made.append(target.name)
        make(process, inputs, part, target)

    monkeypatch.setattr(making, "_make_part", make_and_note)
    return made


@pytest.mark.usefixtures("small_parts", "no_thread_left")
def test_a_trace_in_parts_is_the_trace(counted: list[str], tmp_path: Path) -> None:
    source = several_positions(tmp_path / "a.ome.tiff")
    split, whole = in_parts_and_whole(
        trace, source, "a.csv", tmp_path, regions={"soma": (1, 5, 2, 30)}
    )
    assert len(counted) >= 3
    assert split.read_bytes() == whole.read_bytes()
    assert len(split.read_bytes().splitlines()) == 1 + 9 * 4 - 3


@pytest.mark.usefixtures("small_parts", "no_thread_left")
@pytest.mark.parametrize("axes", ["t", "c", "tc"])
def test_a_projection_in_parts_is_the_projection(
    axes: str, counted: list[str], tmp_path: Path
) -> None:
    source = several_positions(tmp_path / "a.ome.tiff")
    split, whole = in_parts_and_whole(project, source, "p.ome.tiff", tmp_path, axes=axes)
    assert len(counted) >= 3
    for p in range(2):
        name = f"p_p{p}.ome.tiff"
        one, other = (tifffile.imread(f.parent / name, series=0) for f in (split, whole))
        assert np.array_equal(one, other)
    assert len(shown(split)) == len(shown(whole)) > 0


@pytest.mark.usefixtures("small_parts", "no_thread_left")
def test_pixels_of_the_other_byte_order_are_projected_in_parts(
    counted: list[str], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (30, 32, 32)).astype(">u2")
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=">", metadata={"axes": "TYX"})
    split, whole = in_parts_and_whole(project, tmp_path / "a.tif", "p.ome.tiff", tmp_path, axes="t")
    assert len(counted) == 3
    expected = pixels.max(axis=0)
    assert np.array_equal(tifffile.imread(split), expected)
    assert np.array_equal(tifffile.imread(whole), expected)


@pytest.mark.usefixtures("small_parts", "no_thread_left")
@pytest.mark.parametrize("results", [True, False])
def test_verifying_in_parts_finds_what_verifying_finds(
    results: bool, counted: list[str], tmp_path: Path
) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=20)
    folder = {"results": tmp_path / "out"} if results else {}
    assert verify_all(source, progress=False, workers=2, **folder).ok
    assert bool(counted) is results
    content = bytearray(source.read_bytes())
    for number in (3, 17, 38):
        content[4096 + number * 2048 + 5] ^= 1
    source.write_bytes(content)
    expected = verify(source, progress=False)
    assert [fault.number for fault in expected.faults] == [3, 17, 38]
    with pytest.raises(BatchError) as caught:
        verify_all(source, progress=False, workers=2, **folder, overwrite=True)
    assert str(expected) == caught.value.summary.results[0].reason
    if results:
        told = orjson.loads((tmp_path / "out" / "a_verify.json").read_bytes())
        assert [fault["number"] for fault in told["faults"]] == [3, 17, 38]
        assert told["frames_checked"] == 40
        assert told["bytes_read"] == 40 * 2048


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=20)
    whole = Project.run_part

    def run_part(self: Project, inputs: Any, part: Any, target: Path) -> None:
        if part.begin:
            raise ValueError("no more of this")
        whole(self, inputs, part, target)

    monkeypatch.setattr(Project, "run_part", run_part)
    with pytest.raises(BatchError, match="no more of this"):
        project(source, tmp_path / "out" / "p.ome.tiff", axes="t", workers=2, progress=False)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("small_parts", "no_thread_left")
def test_what_a_killed_batch_has_made_of_the_parts_is_not_made_again(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = recorded(tmp_path / "a.ome.tiff", frames=20)
    out = tmp_path / "out" / "p.ome.tiff"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Project, "join", killed)
    with pytest.raises(KeyboardInterrupt):
        project(source, out, axes="t", workers=2, progress=False)
    monkeypatch.undo()
    assert sorted(counted) == ["0", "1", "2", "3"]
    assert not out.exists()
    monkeypatch.setattr(parts, "PART_BYTES", 10 * 2048)
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    (WorkFolder(out).parts / "2").unlink()
    made: list[Any] = []
    run_part = Project.run_part
    monkeypatch.setattr(Project, "run_part", lambda *args: made.append(args[2]) or run_part(*args))
    project(source, out, axes="t", workers=2, progress=False)
    assert [part.begin for part in made] == [20]
    assert not WorkFolder(out).folder.exists()
    with open_dataset(source) as before:
        assert np.array_equal(tifffile.imread(out), before.isel().max(axis=0))
    # parts of other parameters are of no use
    other = tmp_path / "again" / "p.ome.tiff"
    made.clear()
    project(source, other, axes="tc", workers=2, progress=False)
    assert len(made) == 4
    assert not WorkFolder(other).folder.exists()
