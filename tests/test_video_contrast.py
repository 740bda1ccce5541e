"""The mapping from pixels to a video's values: one line, and the way back to within one step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mda_writers.formats.video import contrast as contrast_module
from mda_writers.formats.video.contrast import PERCENTILES, Contrast, contrast_of, full_contrast

SMALL = ("uint8", "int8", "uint16", "int16")
WIDE = ("uint32", "int32", "float32", "float64")


@st.composite
def limits(draw: st.DrawFn, dtype: str) -> tuple[float, float]:
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.iinfo("int32")
    low = draw(st.integers(int(info.min), int(info.max) - 1))
    return float(low), float(draw(st.integers(low + 1, int(info.max))))


@given(st.data(), st.sampled_from(SMALL + WIDE))
def test_what_lies_between_the_limits_comes_back_to_within_one_step(
    data: st.DataObject, dtype: str
) -> None:
    low, high = data.draw(limits(dtype))
    contrast = Contrast(low, high, dtype)
    drawn = data.draw(st.lists(st.floats(low, high), min_size=1, max_size=50))
    pixels = np.clip(np.rint(drawn), low, high).astype(dtype)
    back = contrast.invert(contrast.apply(pixels)).astype(float)
    assert back.shape == pixels.shape
    # half a step from the 8 bits, and half a count where pixels are whole numbers
    tolerance = max(contrast.step, 0.5) + 1e-6 * (high - low) + 0.5 * (dtype == "float32")
    assert np.abs(back - pixels.astype(float)).max() <= tolerance


@given(st.data(), st.sampled_from(SMALL + WIDE))
def test_brighter_stays_brighter_and_the_ends_stay_the_ends(
    data: st.DataObject, dtype: str
) -> None:
    low, high = data.draw(limits(dtype))
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.iinfo("int32")
    drawn = data.draw(st.lists(st.integers(int(info.min), int(info.max)), min_size=1))
    pixels = np.sort(np.array(drawn, dtype))
    values = Contrast(low, high, dtype).apply(pixels)
    assert values.dtype == np.uint8
    assert (np.diff(values.astype(int)) >= 0).all()
    assert (values[pixels.astype(float) <= low] == 0).all()
    assert (values[pixels.astype(float) >= high] == 255).all()


@pytest.mark.parametrize("dtype", ["bool", *SMALL])
def test_every_value_of_a_small_type_survives_its_lossless_form(dtype: str) -> None:
    kind = np.dtype(dtype)
    stored = "uint16" if kind.itemsize == 2 else "uint8"
    values = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(
        np.uint8 if dtype == "bool" else kind
    )
    pixels = (values % 2).astype(bool) if dtype == "bool" else values
    contrast = full_contrast(dtype, stored=stored)
    np.testing.assert_array_equal(contrast.invert(contrast.apply(pixels)), pixels)


def test_a_camera_of_12_bits_uses_all_shades() -> None:
    contrast = full_contrast("uint16", bit_depth=12)
    assert contrast.apply(np.array([0, 4095], np.uint16)).tolist() == [0, 255]


def test_8_bits_pass_unchanged() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    assert full_contrast("uint8").apply(pixels) is pixels


@pytest.mark.parametrize("dtype", ["bool", *SMALL])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (7, 5, 3)])
def test_an_opencv_that_looks_up_8_bits_only_gives_the_same(
    shape: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = np.random.default_rng(3).integers(0, 256, (*shape, 2), np.uint8)
    pixels = bits.view(np.int16)[..., 0].astype(dtype)
    contrast = Contrast(-3, 900, dtype)
    fast = contrast.apply(pixels)
    monkeypatch.setattr(contrast_module, "_opencv_bytes", lambda: 0)
    np.testing.assert_array_equal(fast, contrast.apply(pixels))
    assert (fast.shape, fast.dtype) == (shape, np.uint8)


def test_auto_lies_between_the_percentiles_of_all_frames_together() -> None:
    frames = [np.full((50, 50), value, np.uint16) for value in (100, 200, 300)]
    frames[0][0, 0] = 60_000  # a hot pixel
    contrast = contrast_of(frames)
    expected = np.percentile(np.stack(frames), PERCENTILES)
    assert (contrast.low, contrast.high) == pytest.approx(tuple(expected))
    assert contrast.high < 1000


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint16), np.full((4, 4), np.nan)])
def test_auto_takes_a_frame_without_any_contrast(pixels: np.ndarray) -> None:
    contrast = contrast_of([pixels])
    assert (contrast.apply(pixels) == 0).all()


def test_not_a_number_becomes_black() -> None:
    contrast = Contrast(0, 1, "float32")
    assert contrast.apply(np.array([np.nan, -np.inf, np.inf], np.float32)).tolist() == [0, 0, 255]


@pytest.mark.parametrize("bad", [(5, 5), (7, 3), (0, float("inf")), (float("nan"), 1)])
def test_limits_that_make_no_sense_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="smaller number"):
        Contrast(*bad, "uint16")


def test_a_mapping_survives_being_written_down() -> None:
    contrast = Contrast(12.5, 99, "float32")
    assert Contrast.from_description(contrast.describe()) == contrast
