"""The report page in a real browser: no error, the right numbers, on a phone and in the dark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from chromium import chromium, needs_chromium
from mda_writers import BigTiffWriter
from mda_writers.report.page import write_report_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs_chromium

NAUGHTY = "<script>document.title = 'broken in'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page about 30 frames of two channels; 8 pixels are saturated, the note is markup."""
    path = tmp_path_factory.mktemp("recording") / "exp <b>.ome.tiff"
    writer = BigTiffWriter(path)
    writer.begin(40, 30, sizes={"t": 15, "c": 2}, channels=(NAUGHTY, "B"), metadata={"n": NAUGHTY})
    for n in range(30):
        pixels = np.full((30, 40), 10 * (n % 2) + n, np.uint8)
        pixels[0, : 4 * (n in (8, 12))] = 255
        writer.add_frame(pixels, metadata={"position": {"x": n, "y": 0, "z": 0}})
    writer.finish()
    return write_report_page(path)


@pytest.fixture
def shown(browser: Any, page: Path) -> Any:
    """Show the page on a large screen, in light mode."""
    emulate(browser, width=1100)
    browser.get(page.as_uri())
    return browser


def emulate(browser: Any, width: int, scheme: str = "light", *, scripts: bool = True) -> None:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})


def figure(browser: Any, name: str) -> str:
    found = browser.find_element("css selector", f"[data-figure={name}]")
    assert found.is_displayed()
    return str(found.text)


def rows_shown(browser: Any) -> list[str]:
    rows = browser.find_elements("css selector", ".meta tbody tr")
    return [row.text for row in rows if row.is_displayed()]


def test_the_page_renders_without_an_error_and_fetches_nothing(shown: Any) -> None:
    assert shown.get_log("browser") == []
    fetched = shown.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_the_right_numbers_are_to_be_seen(shown: Any) -> None:
    assert shown.find_element("tag name", "h1").text == "exp <b>.ome.tiff"
    assert shown.find_element("css selector", "[data-state]").text == "Complete"
    assert figure(shown, "frames_written") == figure(shown, "frames_expected") == "30"
    assert figure(shown, "frames_missing") == "0"
    assert figure(shown, "saturated").startswith("8 (")
    assert figure(shown, "drift_x") == "28 µm"


def test_every_picture_is_decoded_and_every_plot_has_a_size(shown: Any) -> None:
    sizes = shown.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert sizes == [40] * 8
    plots = shown.find_elements("css selector", "svg.plot")
    assert len(plots) >= 7
    assert all(plot.rect["width"] > 250 and plot.rect["height"] > 100 for plot in plots)


def test_markup_in_names_is_shown_and_not_run(shown: Any) -> None:
    assert shown.title == "exp <b>.ome.tiff – recording report"
    assert NAUGHTY in shown.find_element("tag name", "main").text


def test_no_table_needs_a_scroll_bar_on_a_large_screen(shown: Any) -> None:
    wide = shown.execute_script(
        "return [...document.querySelectorAll('.scroll')]"
        ".filter(t => t.scrollWidth > t.clientWidth).map(t => t.getAttribute('aria-label'))"
    )
    assert wide == []


@pytest.mark.parametrize("width", [360, 412, 768, 1100])
def test_nothing_sticks_out_of_a_narrow_screen(width: int, browser: Any, page: Path) -> None:
    emulate(browser, width)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    texts = browser.execute_script(
        "return [...document.querySelectorAll('.plot text')].map(t => t.getBoundingClientRect())"
    )
    assert all(box["left"] >= 0 and box["right"] <= width for box in texts)
    assert all(box["height"] >= 10 for box in texts)


def test_in_the_dark_the_page_is_dark(browser: Any, page: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        emulate(browser, 1100, scheme)
        browser.get(page.as_uri())
        style = "getComputedStyle(document.body)"
        colours.append(browser.execute_script(f"return [{style}.backgroundColor, {style}.color]"))
    (light_paper, light_ink), (dark_paper, dark_ink) = [
        [sum(map(int, colour[4:-1].split(","))) for colour in pair] for pair in colours
    ]
    assert light_paper > 650 > 200 > light_ink
    assert dark_ink > 600 > 150 > dark_paper


def test_the_metadata_can_be_searched(shown: Any) -> None:
    assert rows_shown(shown) == []
    field = shown.find_element("css selector", "input[type=search]")
    field.send_keys("REPORT frames_wri")
    assert rows_shown(shown) == []  # every word must be in the row
    field.clear()
    field.send_keys("frames_WRITTEN")
    assert rows_shown(shown) == ["frames_written 30"]
    assert shown.find_element("tag name", "output").text == "1 row"
    field.clear()
    field.send_keys('"x":17')
    (row,) = rows_shown(shown)
    assert row.startswith("17: ")


def test_without_scripts_everything_is_there_but_the_search(browser: Any, page: Path) -> None:
    emulate(browser, 1100, scripts=False)
    browser.get(page.as_uri())
    assert not browser.find_element("css selector", "input[type=search]").is_displayed()
    for summary in browser.find_elements("css selector", "details > summary"):
        summary.click()
    shown = rows_shown(browser)
    emulate(browser, 1100)
    assert "frames_written 30" in shown
    assert len([row for row in shown if "xxh3_64" in row]) == 30
