"""Compressed BigTIFF: the same promises, smaller files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mda_writers import BigTiffWriter
from mda_writers.formats.tiff.compressed import CODECS
from stamps import check_stamp, stamp

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.mark.parametrize("compression", CODECS)
def test_compressed_planes_read_back_exactly(compression: str, tmp_path: Path) -> None:
    if compression != "zlib":
        pytest.importorskip("imagecodecs")
    writer = BigTiffWriter(tmp_path / "x.ome.tif", compression=compression)
    writer.begin(64, 48, False, dtype="uint16", sizes={"t": 3, "c": 2})
    for t, c in np.ndindex(3, 2):
        writer.add_frame(stamp({"t": t, "c": c}, (48, 64), "uint16"))
    assert writer.finish().complete
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tif:
        assert tif.pages.first.compression != 1
        assert (tif.series[0].axes, tif.series[0].shape) == ("TCYX", (3, 2, 48, 64))
        data = tif.series[0].asarray()
    for t, c in np.ndindex(3, 2):
        check_stamp(data[t, c], {"t": t, "c": c})
        check_stamp(writer.isel(t=t, c=c), {"t": t, "c": c})


def test_compression_makes_a_file_of_an_even_field_small(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.tif", compression="zlib")
    writer.begin(512, 512)
    for _ in range(4):
        writer.add_frame(np.zeros((512, 512), np.uint16))
    writer.finish()
    assert (tmp_path / "x.tif").stat().st_size < 0.1 * 4 * 512 * 512 * 2


def test_planes_that_came_in_no_order_are_named_one_by_one(tmp_path: Path) -> None:
    writer = BigTiffWriter(tmp_path / "x.ome.tif", compression="zlib")
    writer.begin(32, 32, False, dtype="uint8", sizes={"t": 4, "z": 2})
    indices = [{"t": 2, "z": 1}, {"t": 0, "z": 0}, {"t": 3, "z": 0}]
    for index in indices:
        writer.add_frame(stamp(index, (32, 32), "uint8"), index=index)
    report = writer.finish()
    assert (report.complete, report.frames_missing) == (False, 5)
    data = tifffile.imread(tmp_path / "x.ome.tif")
    for index in indices:
        check_stamp(data[index["t"], index["z"]], index)
    assert np.count_nonzero(data.any(axis=(2, 3))) == 3


def test_an_unknown_codec_is_refused_with_those_that_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"available: .*zlib"):
        BigTiffWriter(tmp_path / "x.tif", compression="jpeg2001")
