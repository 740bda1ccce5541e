"""Shards read without zarr-python show what it reads, whatever becomes of their files."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from mda_writers import OMEZarrWriter, open_dataset
from mda_writers.errors import CorruptRecordingError
from mda_writers.formats.zarr.reader import PackedShards, layout_of
from mda_writers.formats.zarr.shards import read_index

if TYPE_CHECKING:
    from pathlib import Path

CODECS = ("blosc-lz4", "blosc-zstd", "zstd")
SIZES = {"t": 5, "c": 2}
HEIGHT, WIDTH = 37, 51  # tiles stick out beyond either
TILES = {"whole": {}, "tiles": {"y": 16, "x": 20}}


def frames(seed: int = 0, dtype: str = "uint16") -> np.ndarray:
    counts = np.random.default_rng(seed).poisson(100, (*SIZES.values(), HEIGHT, WIDTH))
    return counts.astype(dtype)


def recorded(path: Path, pixels: np.ndarray, codec: str | None, chunks: dict[str, int]) -> Path:
    writer = OMEZarrWriter(path, compression=codec, chunks=chunks, shards={"t": 3})
    writer.begin(WIDTH, HEIGHT, False, dtype=pixels.dtype.name, sizes=SIZES)
    for place in np.ndindex(*SIZES.values()):
        writer.add_frame(pixels[place])
    writer.finish()
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("chunks", TILES.values(), ids=list(TILES))
@pytest.mark.parametrize("codec", [None, *CODECS])
def test_every_codec_gives_the_pixels_that_zarr_python_gives(
    tmp_path: Path, codec: str | None, chunks: dict[str, int], dtype: str
) -> None:
    pixels = frames(dtype=dtype)
    path = recorded(tmp_path / "exp.zarr", pixels, codec, chunks)
    array: Any = zarr.open_array(path / "0", mode="r")
    layout = layout_of(array)
    assert layout is not None
    assert layout.mappable is (codec is None and not chunks)
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.isel(), array[...])
        np.testing.assert_array_equal(dataset.as_array().compute(), pixels)
        for t, c in np.ndindex(*SIZES.values()):
            frame = dataset.read_image(t=t, c=c)
            np.testing.assert_array_equal(frame, array[t, c])
            assert frame.dtype == array.dtype
            assert frame.flags.writeable


@pytest.mark.parametrize("codec", CODECS)
def test_frames_of_a_shard_that_grows_are_seen_as_they_come(tmp_path: Path, codec: str) -> None:
    pixels = frames()
    writer = OMEZarrWriter(tmp_path / "exp.zarr", compression=codec, shards={"t": 5})
    writer.begin(WIDTH, HEIGHT, False, dtype="uint16", sizes=SIZES)
    writer.add_frame(pixels[0, 0])
    with open_dataset(writer) as dataset:
        came = 0
        for number, place in enumerate(np.ndindex(*SIZES.values()), 1):
            until = time.monotonic() + 10
            while came < number and time.monotonic() < until:
                came += len(dataset.refresh()) or dataset.has_image(t=0, c=0) * (came == 0)
            frame = dataset.read_image(t=place[0], c=place[1])
            np.testing.assert_array_equal(frame, pixels[place])
            np.testing.assert_array_equal(dataset.read_image(t=0, c=0), pixels[0, 0])
            if number < pixels.shape[0] * pixels.shape[1]:
                writer.add_frame(pixels[divmod(number, 2)])
        writer.finish()  # the shard gets its final, shorter form
        for t, c in np.ndindex(*SIZES.values()):
            np.testing.assert_array_equal(dataset.read_image(t=t, c=c), pixels[t, c])


@pytest.mark.parametrize("codec", [None, *CODECS])
def test_a_shard_put_in_place_of_another_is_read_by_its_own_index(
    tmp_path: Path, codec: str | None
) -> None:
    path = recorded(tmp_path / "a.zarr", frames(0), codec, {})
    other = recorded(tmp_path / "b.zarr", frames(1), codec, {})
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.read_image(t=1, c=1), frames(0)[1, 1])
        first_shard(other).replace(first_shard(path))
        np.testing.assert_array_equal(dataset.read_image(t=1, c=1), frames(1)[1, 1])


@pytest.mark.parametrize("codec", CODECS)
def test_a_lost_shard_is_an_error_and_not_black(tmp_path: Path, codec: str) -> None:
    path = recorded(tmp_path / "exp.zarr", frames(), codec, {})
    first_shard(path).unlink()
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.read_image(t=4, c=1), frames()[4, 1])
        with pytest.raises(CorruptRecordingError, match="missing"):
            dataset.read_image(t=0, c=0)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("shards")
    return {
        (codec, name): recorded(folder / f"{codec}_{name}.zarr", frames(), codec, chunks)
        for codec in CODECS
        for name, chunks in TILES.items()
    }


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(at=st.floats(0, 1))
def test_a_cut_shard_gives_an_error_or_the_right_picture(
    recordings: dict[tuple[str, str], Path], codec: str, name: str, at: float
) -> None:
    path = first_shard(recordings[codec, name])
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: int(at * (len(whole) - 1))])
        with open_dataset(recordings[codec, name]) as dataset:
            with pytest.raises(CorruptRecordingError, match=codec):
                dataset.read_image(t=0, c=0)
            np.testing.assert_array_equal(dataset.read_image(t=4, c=1), frames()[4, 1])
    finally:
        path.write_bytes(whole)


LENGTHS = {"blosc-lz4": (4, 5, 6, 7, 12, 13, 14, 15), "blosc-zstd": (4, 5, 6, 7, 12, 13, 14, 15)}
"""Where a chunk of blosc says its lengths; zstd says it in the first bytes."""


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("where", ["header", "index"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(at=st.integers(0, 19), byte=st.integers(1, 255))
def test_an_altered_length_or_index_gives_an_error_or_the_right_picture(
    recordings: dict[tuple[str, str], Path],
    codec: str,
    name: str,
    where: str,
    at: int,
    byte: int,
) -> None:
    path = first_shard(recordings[codec, name])
    whole = path.read_bytes()
    header = LENGTHS.get(codec, range(8))
    start = first_chunk(recordings[codec, name])[0]
    position = start + header[at % len(header)] if where == "header" else len(whole) - 1 - at
    try:
        path.write_bytes(altered(whole, position, byte))
        with open_dataset(recordings[codec, name]) as dataset:
            try:
                frame = dataset.read_image(t=0, c=0)
            except CorruptRecordingError as error:
                assert str(recordings[codec, name]) in str(error)
                assert "verify" in str(error)
            else:
                np.testing.assert_array_equal(frame, frames()[0, 0])
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(at=st.floats(0, 1), byte=st.integers(1, 255))
def test_altered_pixels_are_an_error_or_what_zarr_python_makes_of_them(
    recordings: dict[tuple[str, str], Path], codec: str, at: float, byte: int
) -> None:
    path = first_shard(recordings[codec, "whole"])
    whole = path.read_bytes()
    offset, length = first_chunk(recordings[codec, "whole"])
    try:
        path.write_bytes(altered(whole, offset + 16 + int(at * (length - 17)), byte))
        array: Any = zarr.open_array(recordings[codec, "whole"] / "0", mode="r")
        with open_dataset(recordings[codec, "whole"]) as dataset:
            try:
                frame = dataset.read_image(t=0, c=0)
            except CorruptRecordingError:
                return
        np.testing.assert_array_equal(frame, array[0, 0])  # what only a checksum can tell
    finally:
        path.write_bytes(whole)


def test_chunks_of_another_length_are_refused_not_shown_with_what_was_in_memory(
    tmp_path: Path,
) -> None:
    from numcodecs import Blosc, Zstd

    for name, codec in (("blosc", Blosc()), ("zstd", Zstd())):
        path = recorded(tmp_path / f"{name}.zarr", frames(), codec_of(name), {})
        offset, length = first_chunk(path)
        for shape in ((HEIGHT - 1, WIDTH), (HEIGHT + 1, WIDTH)):
            chunk = bytes(codec.encode(np.zeros(shape, "uint16")))
            content = bytearray(first_shard(path).read_bytes())
            content[offset : offset + length] = chunk.ljust(length, b"\0")
            first_shard(path).write_bytes(content)
            with (
                open_dataset(path) as dataset,
                pytest.raises(CorruptRecordingError, match="bytes"),
            ):
                dataset.read_image(t=0, c=0)


@pytest.mark.parametrize(
    "unknown",
    [
        {"compressors": zarr.codecs.GzipCodec()},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
        {"filters": zarr.codecs.TransposeCodec(order=(0, 2, 1))},
        {"shards": {"shape": (4, 16, 16), "index_location": "start"}},
        {"chunks": (2, 16, 16)},
        {"shards": (4, 8, 16), "chunks": (1, 8, 16)},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"shards": None},
        {"zarr_format": 2, "shards": None},
    ],
    ids=str,
)
def test_what_is_not_wholly_understood_is_left_to_zarr_python(unknown: dict[str, Any]) -> None:
    usual = {"shape": (8, 16, 16), "chunks": (1, 16, 16), "shards": (4, 16, 16), "dtype": "<u2"}
    assert layout_of(zarr.create_array({}, **usual)) is not None
    assert layout_of(zarr.create_array({}, **{**usual, **unknown})) is None


def test_planes_that_a_shard_lacks_are_left_to_zarr_python(tmp_path: Path) -> None:
    array: Any = zarr.create_array(
        tmp_path / "a", shape=(4, 16, 16), chunks=(1, 16, 16), shards=(4, 16, 16), dtype="u2"
    )
    array[1] = 7
    layout = layout_of(array)
    assert layout is not None
    shards = PackedShards(tmp_path / "a", layout)
    there = shards.read([(1,)])
    assert there is not None
    assert (there == 7).all()
    assert shards.read([(2,)]) is None
    assert shards.read([(1,), (2,)]) is None
    shutil.rmtree(tmp_path / "a" / "c")
    assert shards.read([(1,)]) is None


def altered(content: bytes, position: int, byte: int) -> bytes:
    return content[:position] + bytes([content[position] ^ byte]) + content[position + 1 :]


def codec_of(name: str) -> str:
    return "blosc-lz4" if name == "blosc" else name


def first_shard(recording: Path) -> Path:
    return recording / "0" / "c" / "0" / "0" / "0" / "0"


def first_chunk(recording: Path) -> tuple[int, int]:
    """Return where the first chunk lies in the first shard, and its length."""
    layout = layout_of(zarr.open_array(recording / "0", mode="r"))
    assert layout is not None
    chunks = layout.grid.planes_a_shard * layout.grid.tiles_a_plane
    offset, length = read_index(first_shard(recording), chunks)[0].tolist()
    return offset, length
