"""What people type: an option that does not exist gets a sentence that names the nearest one."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import mda_writers
from mda_writers import (
    Acquisition,
    BigTiffWriter,
    CustomWriter,
    CV2Writer,
    OMEZarrWriter,
    TiffSeriesWriter,
    WriteError,
    convert,
    record,
    save_array,
)
from mda_writers.batch.executor import BatchError
from mda_writers.batch.projection import project
from mda_writers.batch.traces import dff
from mda_writers.cli import app
from mda_writers.errors import UnknownOptionError, options_checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITERS = [
    (BigTiffWriter, "a.ome.tiff", "compresion", "compression"),
    (BigTiffWriter, "a.tif", "overwite", "overwrite"),
    (CustomWriter, "a.ome.tif", "queue_byte", "queue_bytes"),
    (OMEZarrWriter, "a.ome.zarr", "level", "levels"),
    (OMEZarrWriter, "a.zarr", "min_free_byte", "min_free_bytes"),
    (CV2Writer, "a.mp4", "colour_order", "color_order"),
    (CV2Writer, "a.mkv", "max_projecton", "max_projection"),
    (TiffSeriesWriter, "a", "on_files", "on_file"),
    (TiffSeriesWriter, "a", "sync", "sync_ms"),
]


@pytest.mark.parametrize(("kind", "name", "typed", "meant"), WRITERS)
def test_every_writer_names_the_option_that_was_meant(
    kind: type, name: str, typed: str, meant: str, tmp_path: Path
) -> None:
    said = f"{kind.__name__} has no option '{typed}'; did you mean '{meant}'?"
    with pytest.raises(TypeError) as raised:
        kind(tmp_path / name, **{typed: 1})
    assert str(raised.value) == said
    assert str(pickle.loads(pickle.dumps(raised.value))) == said
    assert not list(tmp_path.iterdir())


class Mine(BigTiffWriter):
    def __init__(self, filename: Any, *, colour_map: str = "", **options: Any) -> None:
        super().__init__(filename, **options)


def test_a_subclass_of_a_users_own_has_its_options_and_ours(tmp_path: Path) -> None:
    Mine(tmp_path / "a.tif", colour_map="jet", compression=None)
    with pytest.raises(TypeError, match=r"Mine has no option 'color_map'; .* 'colour_map'?"):
        Mine(tmp_path / "a.tif", color_map="jet")
    with pytest.raises(TypeError, match=r"Mine has no option 'compresion'; .* 'compression'?"):
        Mine(tmp_path / "a.tif", compresion=None)


def calls(folder: Path, session: Acquisition) -> list[tuple[Callable[..., Any], str, str]]:
    writer = BigTiffWriter(folder / "a.ome.tiff")
    save_array(folder / "b.ome.tiff", np.zeros((4, 8), np.uint8), axes="YX")
    return [
        (lambda **k: writer.begin(8, 8, **k), "dtpe", "dtype"),
        (lambda **k: writer.begin(8, 8, **k), "pixel_size", "pixel_size_um"),
        (lambda **k: record(None, [], writer, **k), "progres", "progress"),
        (lambda **k: save_array(folder / "c.tiff", [[1]], axes="YX", **k), "channel", "channels"),
        (lambda **k: convert(folder / "b.ome.tiff", folder / "b.zarr", **k), "levls", "levels"),
        (lambda **k: convert(folder / "b.ome.tiff", folder / "b.zarr", **k), "workes", "workers"),
        (lambda **k: project(folder, folder, **k), "axs", "axes"),
        (lambda **k: project(folder, folder, **k), "overwrit", "overwrite"),
        (lambda **k: dff(folder, folder, percentile=8, **k), "window", "window_frames"),
        (lambda **k: Acquisition(folder, subject=1, session=1, task=1, **k), "path", "paths"),
        (lambda **k: session.writer("cam", ".mp4", **k), "fourc", "fourcc"),
        (lambda **k: session.writer("cam", ".mp4", **k), "direkt", "direct"),
    ]


@pytest.mark.parametrize("number", range(12))
def test_every_call_names_the_option_that_was_meant(number: int, tmp_path: Path) -> None:
    with Acquisition(tmp_path / "study", subject=2, session=1, task="x") as session:
        call, typed, meant = calls(tmp_path, session)[number]
        before = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
        with pytest.raises(TypeError, match=f"has no option '{typed}'; did you mean '{meant}'?"):
            call(**{typed: 1})
        assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == before


def test_the_command_line_names_the_option_that_was_meant(tmp_path: Path) -> None:
    save_array(tmp_path / "b.ome.tiff", np.zeros((4, 8), np.uint8), axes="YX")
    words = ["convert", str(tmp_path / "b.ome.tiff"), "-o", str(tmp_path / "c.ome.tiff")]
    result = CliRunner().invoke(app, [*words, "--set", "compresion=zlib"])
    assert result.exit_code == 2
    assert "did you mean 'compression'?" in " ".join(result.stderr.split())
    assert not (tmp_path / "c.ome.tiff").exists()


@options_checked("call")
def taking(first: int = 0, *, second: int = 0) -> int:
    return first + second


@given(st.text(min_size=1))
def test_any_other_name_is_refused_by_its_name(name: str) -> None:
    if name in ("first", "second"):
        return
    with pytest.raises(UnknownOptionError) as raised:
        taking(**{name: 1})
    assert repr(name) in str(raised.value)


def test_names_that_resemble_none_get_the_list() -> None:
    with pytest.raises(TypeError, match=r"no option 'xyz'; there are first, second\."):
        taking(xyz=1)
    assert taking(1, second=2) == 3
    assert mda_writers.record.__doc__


OVERWRITERS = [
    (BigTiffWriter, "a.ome.tiff"),
    (BigTiffWriter, "a.tif"),
    (OMEZarrWriter, "a.ome.zarr"),
    (CV2Writer, "a.mp4"),
]


@pytest.mark.parametrize(("kind", "name"), OVERWRITERS)
@pytest.mark.parametrize("what", ["a folder of the user's own", "a foreign file"])
def test_overwrite_replaces_recordings_only(
    what: str, kind: type, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    kept = path / "thesis.txt" if what.endswith("own") else path
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("precious")
    with pytest.raises(FileExistsError, match="or to none"):
        kind(path, overwrite=True)
    with pytest.raises(FileExistsError):
        kind(path)
    assert kept.read_text() == "precious"


@pytest.mark.parametrize(("kind", "name"), OVERWRITERS)
def test_what_comes_after_the_constructor_is_not_overwritten_either(
    kind: type, name: str, tmp_path: Path
) -> None:
    writer = kind(tmp_path / name, overwrite=True)
    (tmp_path / name).write_text("precious")
    with pytest.raises(WriteError, match="or to none"):
        writer.begin(16, 16)
    assert (tmp_path / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("kind", "name"), OVERWRITERS)
@pytest.mark.parametrize("what", ["nothing", "a recording", "a killed one"])
def test_overwrite_takes_what_is_nobodys_and_what_is_ours(
    what: str, kind: type, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if what.endswith(("recording", "one")):
        recorded(kind(path))
    if what == "a killed one":
        (tmp_path / f"{name}_recording.json").unlink()
    assert recorded(kind(path, overwrite=True)).complete
    assert mda_writers.verify(path, progress=False).ok


def recorded(writer: Any) -> Any:
    writer.begin(16, 16)
    writer.add_frame(np.zeros((16, 16), np.uint8))
    return writer.finish()


@pytest.mark.parametrize("name", ["a.ome.tiff", "a.ome.zarr"])
def test_saved_arrays_overwrite_saved_arrays_only(name: str, tmp_path: Path) -> None:
    array = np.zeros((16, 16), np.uint8)
    save_array(tmp_path / "ours" / name, array, axes="YX")
    save_array(tmp_path / "ours" / name, array + 1, axes="YX", overwrite=True)
    theirs = tmp_path / "theirs" / name
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is not a recording"):
        save_array(theirs, array, axes="YX", overwrite=True)
    assert (theirs / "thesis.txt").read_text() == "precious"


def test_convert_overwrites_no_folder_of_a_users_own(tmp_path: Path) -> None:
    recorded(BigTiffWriter(tmp_path / "a.ome.tiff"))
    theirs = tmp_path / "b.ome.zarr"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("precious")
    with pytest.raises(BatchError, match="is not a recording"):
        convert(tmp_path / "a.ome.tiff", theirs, overwrite=True, progress=False)
    assert (theirs / "thesis.txt").read_text() == "precious"


REFUSED = [
    {"dtype": "nope"},
    {"dtype": "object"},
    {"dtype": "U3"},
    {"dtype": "uint8", "sizes": {"t": 10**12}},
    {"dtype": "uint8", "sizes": {"t": -1}},
    {"dtype": "uint8", "sizes": {"t": 1.5}},
]


@pytest.mark.parametrize("begun", REFUSED, ids=str)
@pytest.mark.parametrize(("kind", "name"), [*OVERWRITERS, (TiffSeriesWriter, "a")])
def test_a_refused_begin_is_a_sentence_and_leaves_no_file(
    kind: type, name: str, begun: dict[str, Any], tmp_path: Path
) -> None:
    sizes = {"sizes": {"t": 2}} if "sizes" not in begun else {}
    with pytest.raises((WriteError, ValueError)) as raised:
        kind(tmp_path / name).begin(16, 16, **begun, **sizes)
    assert len(str(raised.value).split()) > 6
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or ".zarr" in path.name]
