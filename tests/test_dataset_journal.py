"""Journals of all kinds, read many lines at a time, tell what they tell line by line."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mda_writers import BigTiffWriter, CV2Writer, OMEZarrWriter, TiffSeriesWriter, open_dataset
from mda_writers.dataset import live
from mda_writers.dataset.live import LiveRecording
from mda_writers.dataset.source import LEFT_OUT
from mda_writers.errors import CorruptRecordingError
from mda_writers.recording import journal as journal_module
from mda_writers.recording.journal import first_broken, seal_and_close
from stamps import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZES = {"t": 4, "p": 3, "c": 2}
SUFFIX = "_frames.jsonl"


def index_of(number: int) -> dict[str, int]:
    place = np.unravel_index(number, tuple(SIZES.values()))
    return dict(zip(SIZES, map(int, place), strict=True))


FRAMES = [index_of(n) for n in range(24)]
FLAGS = [n % 3 != 1 for n in range(24)]
WRITERS: dict[str, Callable[..., Any]] = {
    "exp.ome.tif": BigTiffWriter,
    "zlib.ome.tif": partial(BigTiffWriter, compression="zlib"),
    "exp.zarr": OMEZarrWriter,
    "series": TiffSeriesWriter,
    "exp.mp4": CV2Writer,
}


@pytest.fixture(scope="module", params=[*WRITERS, "chosen", "open", "open chosen"])
def journal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the journal of a recording that was interrupted behind its last frame."""
    folder = tmp_path_factory.mktemp("journal")
    path = folder / (request.param if request.param in WRITERS else "exp.ome.tif")
    options = {"save_frame": FLAGS} if "chosen" in request.param else {}
    writer = WRITERS[path.name](path, **options)
    sizes = None if "open" in request.param else SIZES
    writer.begin(32, 16, False, dtype="uint8", sizes=sizes, channels=["DAPI", "FITC"])
    for n, index in enumerate(FRAMES):
        writer.add_frame(stamp(index, (16, 32), "uint8"), index=index, metadata={"n": n, "ifd": 7})
    found = next(folder.rglob(f"*{SUFFIX}"))
    while found.read_bytes().count(b'"unix_time_s"') < 24:
        pass
    shutil.copy(found, folder / "kept")
    writer.finish()
    shutil.copy(folder / "kept", found)
    return found


def told(journal: Path) -> tuple[list[Any], list[Any]]:
    """Return kept and left out frames with their slots, one line parsed after the other."""
    entries = [orjson.loads(line) for line in journal.read_bytes().splitlines()]
    ours = [(e["key"], e["frame"]["mda_writers"]) for e in entries if "key" in e]
    kept = [(k, tuple(o["place"]), o) for k, o in ours if o.get("saved", True)]
    left_out = [(k, tuple(o["place"])) for k, o in ours if not o.get("saved", True)]
    return kept, left_out


def check(book: LiveRecording, journal: Path) -> None:
    """Compare slots and metadata with what the lines say."""
    kept, left_out = told(journal)
    assert sum(int((book.slots(i.key) >= 0).sum()) for i in book.contents.layout.images) == len(
        kept
    )
    for key, place, ours in kept:
        image = book.contents.layout.image(key)
        by_place = np.ravel_multi_index(place, tuple(image.sizes.values()))
        assert book.slots(key)[place] == ours.get("ifd", ours.get("frame", by_place))
        assert book.metadata(image, place)["mda_writers"] == ours
    for key, place in left_out:
        if not book.contents.layout.image(key).growing:
            assert book.slots(key)[place] == LEFT_OUT
    assert [(k, tuple(f["mda_writers"]["place"])) for k, f in book.frames()] == [
        (e["key"], tuple(e["frame"]["mda_writers"]["place"]))
        for e in map(orjson.loads, journal.read_bytes().splitlines())
        if "key" in e
    ]


@pytest.mark.parametrize("gathered", [1, 5, 100_000])
@pytest.mark.parametrize("block_bytes", [1, 700, 1 << 20])
def test_blocks_of_any_size_tell_what_the_lines_tell(
    journal: Path, block_bytes: int, gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(live, "GATHERED", gathered)
    check(LiveRecording(journal.with_name(journal.name.removesuffix(SUFFIX))), journal)


def test_a_journal_that_grows_by_bytes_tells_every_frame_once(
    journal: Path, tmp_path: Path
) -> None:
    text, path = journal.read_bytes(), tmp_path / "growing"
    copy = tmp_path / f"growing{SUFFIX}"
    header = text.index(b"\n") + 1
    copy.write_bytes(text[:header])
    book, came = LiveRecording(path), []
    for end in [*range(header, len(text), 97), len(text)]:
        copy.write_bytes(text[:end])
        came += book.refresh()
    kept, _ = told(journal)
    assert came == [(key, place) for key, place, _ in kept]
    check(book, copy)


@pytest.mark.parametrize("part", [0.3, 0.6, 1])
def test_an_altered_line_of_an_interrupted_recording_costs_its_frame_and_no_other(
    journal: Path, tmp_path: Path, part: float
) -> None:
    text = journal.read_bytes()
    lines = text.splitlines(keepends=True)
    about_frames = [n for n, line in enumerate(lines) if line.startswith(b'{"key":')]
    altered = about_frames[int(part * (len(about_frames) - 1))]
    lines[altered] = lines[altered][:-60] + b"?" + lines[altered][-59:]
    copy = tmp_path / f"altered{SUFFIX}"
    copy.write_bytes(text[: text.index(b"\n") + 1])
    follows = LiveRecording(tmp_path / "altered")
    copy.write_bytes(b"".join(lines))
    expected = told(journal)[0]
    lost = orjson.loads(text.splitlines()[altered])
    gone = (lost["key"], tuple(lost["frame"]["mda_writers"]["place"]))
    came = follows.refresh()
    assert came == [(key, place) for key, place, _ in expected if (key, place) != gone]
    assert follows.refresh() == []
    for book in (follows, LiveRecording(tmp_path / "altered")):
        for key, place, ours in expected:
            if (key, place) != gone:
                image = book.contents.layout.image(key)
                assert book.metadata(image, place)["mda_writers"] == ours
        assert len(list(book.frames())) == 23


def test_lines_that_lost_the_end_of_line_between_them_are_both_read(
    journal: Path, tmp_path: Path
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2][:-1] + b"?"
    (tmp_path / f"joined{SUFFIX}").write_bytes(b"".join(lines))
    book = LiveRecording(tmp_path / "joined")
    for key, place, ours in told(journal)[0]:
        assert book.metadata(book.contents.layout.image(key), place)["mda_writers"] == ours


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.floats(0, 1), byte=st.none() | st.integers(0, 255))
def test_a_byte_cut_or_altered_is_an_error_or_changes_nothing(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: float, byte: int | None
) -> None:
    monkeypatch.setattr(live, "HEADER_WAIT_S", 0.0)
    text = journal.read_bytes()
    position = min(int(at * len(text)), len(text) - 1)
    copy = tmp_path / f"copy{SUFFIX}"
    rest = b"" if byte is None else bytes([byte]) + text[position + 1 :]
    copy.write_bytes(text[:position] + rest)
    true = {(key, place): ours for key, place, ours in told(journal)[0]}
    try:
        book = LiveRecording(tmp_path / "copy")
        for image in book.contents.layout.images:
            for place in map(tuple, np.argwhere(book.slots(image.key) >= 0).tolist()):
                ours = true[image.key, place]
                slot = book.slots(image.key)[place]
                assert slot == ours.get("ifd", ours.get("frame", slot))
                assert book.metadata(image, place)["mda_writers"] == ours
    except CorruptRecordingError as error:
        assert str(copy) in str(error)


@pytest.mark.parametrize("name", ["exp.ome.tif", "exp.zarr"])
def test_frames_that_were_not_to_be_kept_are_not_missing_while_it_goes_on_either(
    name: str, tmp_path: Path
) -> None:
    flags = [False, True, False, True, False, False]
    writer = WRITERS[name](tmp_path / name, save_frame=flags)
    writer.begin(32, 16, False, dtype="uint8", sizes={"p": 2, "t": 3})

    def news() -> Iterator[dict[str, Any]]:
        for n in range(6):
            index = {"p": n // 3, "t": n % 3}
            writer.add_frame(stamp(index, (16, 32), "uint8"), index=index)
            if flags[n]:
                while not (came := dataset.refresh()):
                    pass
                yield came[0]

    with open_dataset(writer) as dataset:
        assert list(news()) == [{"p": "p0", "t": 1}, {"p": "p1", "t": 0}]
        journal = tmp_path / f"{name}{SUFFIX}"
        while journal.read_bytes().count(b'"unix_time_s"') < 6:
            pass
        dataset.refresh()
        before = dataset.missing
        writer.finish()
        dataset.refresh()
        assert before == dataset.missing == []
        assert not dataset.has_image(p=0, t=0)


def test_seals_are_compared_all_at_once_and_the_first_broken_one_is_named() -> None:
    texts = [seal_and_close(b'{"a":{"n":%d' % n) + b"}" for n in range(9)]
    assert first_broken(texts, 1) is None
    assert first_broken([], 1) is None
    for broken in (b"", b"}", texts[4][:-1], texts[4].replace(b"4", b"5", 1), texts[4] + b"}"):
        assert first_broken([*texts[:4], broken, *texts[5:], b"{}"], 1) == 4
