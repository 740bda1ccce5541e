"""A video in a real browser: it plays, any moment can be sought, and the frame shown is the one."""

from __future__ import annotations

import base64
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from chromium import chromium, needs_chromium
from mda_writers import CV2Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs_chromium

FPS = 25
FRAMES = 100
BITS = 8
SIZE = (66, 96)  # a height that is no whole number of the codec's blocks

# a blob of the page's own may be drawn on a canvas and read back; a file may not
PAGE = """<!DOCTYPE html><video muted></video><script>
const video = document.querySelector("video");
const bytes = Uint8Array.from(atob("DATA"), (letter) => letter.charCodeAt(0));
video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
function middleRow() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const row = context.getImageData(0, canvas.height / 2, canvas.width, 1).data;
  return Array.from(row).filter((value, number) => number % 4 == 0);
}
</script>"""
LOADED = """
const done = arguments[arguments.length - 1];
const about = () => done([video.videoWidth, video.videoHeight, video.duration]);
video.onerror = () => done(video.error.message);
video.readyState >= 2 ? about() : video.onloadeddata = about;
"""
SOUGHT = """
const done = arguments[arguments.length - 1];
video.onseeked = () => done(middleRow());
video.currentTime = arguments[0];
"""
PLAYED = """
const done = arguments[arguments.length - 1];
video.onended = () => done(middleRow());
video.currentTime = 0;
video.playbackRate = 4;
video.play();
"""


def numbered(number: int) -> np.ndarray:
    """Return a frame that has its number in it: some columns for each bit, bright for a one."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    columns = np.repeat(40 + 180 * bits, SIZE[1] // BITS)
    return np.ascontiguousarray(np.broadcast_to(columns, SIZE))


def number_in(row: list[int]) -> int:
    """Return the number that a shown frame has in it."""
    columns = np.array(row).reshape(BITS, -1)[:, 3:-3].mean(axis=1)
    bright = columns > 130
    assert (np.abs(columns - np.where(bright, 220, 40)) < 12).all(), columns
    return sum(int(bit) << place for place, bit in enumerate(bright))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Record a video, and keep it as a process leaves it that is killed after or in a write."""
    folder = tmp_path_factory.mktemp("videos")
    writer = CV2Writer(folder / "film.mp4", fps=FPS)
    writer.begin(SIZE[1], SIZE[0], is_color=False)
    for number in range(FRAMES):
        writer.add_frame(numbered(number))
    writer.isel(t=0)  # returns when all of them are in the file
    killed = shutil.copy(folder / "film.mp4", folder / "killed.mp4")
    torn = folder / "torn.mp4"
    torn.write_bytes(killed.read_bytes()[:-10])
    writer.finish()
    return {"finished": folder / "film.mp4", "killed": killed, "torn": torn}


def show(video: Path, browser: Any, page: Path) -> list[float]:
    """Load a video; return its width, height and duration in seconds."""
    page.write_text(PAGE.replace("DATA", base64.b64encode(video.read_bytes()).decode()))
    browser.get(page.as_uri())
    about: list[float] = browser.execute_async_script(LOADED)
    return about


def frame_at(number: int, browser: Any) -> int:
    """Return the number in the frame that is shown at a frame's time."""
    # the middle of it: at its edge either neighbour would be right
    return number_in(browser.execute_async_script(SOUGHT, (number + 0.5) / FPS))


@pytest.mark.parametrize("state", ["finished", "killed"])
def test_it_plays_to_its_end_and_is_sought_to_any_frame(
    state: str, browser: Any, videos: dict[str, Path], tmp_path: Path
) -> None:
    width, height, duration_s = show(videos[state], browser, tmp_path / "page.html")
    assert (height, width) == SIZE
    assert duration_s == pytest.approx(FRAMES / FPS, abs=0.001)
    for number in (FRAMES // 2, FRAMES - 1, 7, 0, 31):
        assert frame_at(number, browser) == number
    assert number_in(browser.execute_async_script(PLAYED)) == FRAMES - 1


def test_a_torn_last_frame_does_not_hide_those_before(
    browser: Any, videos: dict[str, Path], tmp_path: Path
) -> None:
    show(videos["torn"], browser, tmp_path / "page.html")
    for number in (FRAMES // 2, 7, 0, 80):
        assert frame_at(number, browser) == number
