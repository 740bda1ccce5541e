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
    convert,
    record,
    save_array,
)
from mda_writers.batch.delta_f import dff
from mda_writers.batch.projection import project
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
        (lambda **k: session.writer("cam", ".mp4", **k), "ownloop", "own_loop"),
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
