"""A format that somebody adds as CONTRIBUTING says is written, read, verified and recovered."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from mda_writers import open_dataset, recover, verify
from mda_writers.formats.base import FORMATS, Format
from mda_writers.formats.tiff.finish import final_sizes
from mda_writers.writers.base import MDAWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mda_writers.model.layout import ImageLayout


class NpyArray:
    """A frame is a file of numpy's, in a folder per image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def __setitem__(self, index: tuple[int, ...], frame: np.ndarray) -> None:
        np.save(self._folder / _name(index), frame)

    def where(self, index: tuple[int, ...]) -> dict[str, Any]:
        return {"file": self._folder.name, "npy": _name(index)}


class NpyFormat(Format):
    name = "npy"
    final_sizes = staticmethod(final_sizes)

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> NpyFormat:
        return cls()

    def new_array(self, path: Path, *_: Any) -> NpyArray:
        return NpyArray(path)

    def finish(self, *_: Any) -> None:
        pass

    def discard(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def damage(self, path: Path, image: ImageLayout) -> str:
        return ""

    def read_frame(self, path: Path, image: ImageLayout, ours: Mapping[str, Any]) -> np.ndarray:
        return np.load(path / ours["npy"])


class NpyWriter(MDAWriter):
    suffixes: ClassVar[tuple[str, ...]] = (".npys",)

    def format(self, set_id: str) -> NpyFormat:
        return NpyFormat()


@pytest.mark.parametrize("positions", [1, 2])
def test_recording_of_a_new_format_opens(
    positions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "npy", (__name__, "NpyFormat"))
    writer = NpyWriter(tmp_path / "live" / "exp.npys")
    writer.begin(6, 5, dtype="uint16", sizes={"p": positions, "t": 3})
    for number in range(3 * positions):
        writer.add_frame(np.full((5, 6), number, np.uint16))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "live", copy)
    report = writer.finish()
    assert report.complete
    folders = [path for path in (tmp_path / "live").iterdir() if path.is_dir()]
    assert {str(folder) for folder in folders} <= set(report.paths)
    with open_dataset(tmp_path / "live" / "exp.npys") as dataset:
        assert dataset.read_image(t=2, **({"p": 1} if positions > 1 else {})).max() == (
            3 * positions - 1
        )
    assert verify(tmp_path / "live" / "exp.npys", progress=False).ok
    next(folders[0].glob("*.npy")).unlink()
    assert not verify(tmp_path / "live" / "exp.npys", progress=False).ok
    recovered = recover(copy / "exp.npys")
    assert verify(copy / "exp.npys", progress=False).intact
    assert recovered.frames_written <= 3 * positions


def _name(index: tuple[int, ...]) -> str:
    return "_".join(map(str, index)) + ".npy"
