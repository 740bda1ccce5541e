"""Contact sheet: a small picture of everything, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np

from mda_writers.batch.api import Running, run
from mda_writers.batch.inputs import find_inputs
from mda_writers.batch.jobs import FaultsFoundError, Operation
from mda_writers.batch.replay import opened
from mda_writers.errors import options_checked
from mda_writers.formats.video.contrast import contrast_of
from mda_writers.model.slots import frames_at, slots_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mda_writers.batch.executor import Summary, Workers
    from mda_writers.dataset.dataset import Dataset

LINE = 16
"""Height of a caption in pixels."""


@options_checked("contact_sheet", also=Running.__annotations__)
def contact_sheet(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    tile: int = 192,
    columns: int | None = None,
    **running: Unpack[Running],
) -> Summary:
    """Draw a PNG with a tile for each image and channel of recordings.

    A tile shows the frame in the middle of z and t, between its own percentiles 0.1 and 99.9. A
    recording that cannot be read has a tile that says so; the sheet is drawn all the same.

    Parameters
    ----------
    inputs : path-like or iterable of path-like
        Recordings, or folders that hold some.
    output : path-like
        The sheet, a ``.png``.
    tile : int
        Height and width of a tile in pixels.
    columns : int, optional
        Tiles in a row; by default about as many as there are rows.
    **running
        As for `convert`: ``overwrite``, ``workers``, ``client``, ``scheduler``, ``progress``.

    Raises
    ------
    FileNotFoundError, ValueError
        If inputs or sizes make no sense; nothing is done then.
    BatchError
        If the sheet could not be made, or something on it could not be read.
    """
    target = Path(output).expanduser().absolute()
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target.name}: a contact sheet is a .png.")
    if tile < 32 or (columns is not None and columns < 1):
        raise ValueError(f"tile={tile}, columns={columns}: at least 32 pixels, and one column.")
    paths = tuple(path for path, _ in find_inputs(inputs))
    return run(ContactSheet(tile, columns), [(paths, target)], running)


@dataclass(frozen=True, slots=True)
class ContactSheet(Operation):
    """Draws tiles beside one another."""

    name: ClassVar[str] = "contact sheet"

    tile: int
    columns: int | None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The sizes."""
        return {"tile": self.tile, "columns": self.columns}

    def run(self, inputs: Sequence[Path], result: Path, workers: Workers) -> str:
        """Draw it; what could not be read makes it a failure, and has tiles that say so."""
        import cv2

        tiles, unread = [], []
        for path in inputs:
            try:
                with opened(path) as dataset:
                    tiles += [self._tile(*each) for each in _pictures(dataset, path.name)]
            except Exception as error:
                unread.append(f"{path.name}: {error}")
                tiles.append(self._tile(np.zeros((1, 1), np.uint8), f"{path.name}: unreadable"))
        _, encoded = cv2.imencode(".png", self._sheet(tiles))
        result.write_bytes(encoded.tobytes())
        if unread:
            raise FaultsFoundError("could not be read: " + "; ".join(unread))
        return ""

    def _sheet(self, tiles: list[np.ndarray]) -> np.ndarray:
        columns = min(len(tiles), self.columns or ceil(sqrt(len(tiles))))
        rows = -(-len(tiles) // columns)
        sheet = np.zeros((rows, columns, *tiles[0].shape), np.uint8)
        for number, tile in enumerate(tiles):
            sheet[number // columns, number % columns] = tile
        height, width = tiles[0].shape[:2]
        return np.ascontiguousarray(sheet.swapaxes(1, 2).reshape(rows * height, columns * width, 3))

    def _tile(self, picture: np.ndarray, caption: str) -> np.ndarray:
        import cv2

        scale = self.tile / max(picture.shape[:2])
        size = [max(1, round(n * scale)) for n in picture.shape[1::-1]]
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        tile = np.zeros((self.tile + LINE, self.tile, 3), np.uint8)
        # cv2 writes blue first
        colour = small[..., ::-1] if small.ndim == 3 else small[..., np.newaxis]
        tile[: size[1], : size[0]] = colour
        text = caption.encode("ascii", "replace").decode()[: self.tile // 6]
        where = (2, self.tile + LINE - 4)
        cv2.putText(tile, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 255), 1)
        return tile


def _pictures(dataset: Dataset, name: str) -> Iterator[tuple[np.ndarray, str]]:
    """Yield a picture of 8 bits, and its caption, for each image and channel."""
    source = dataset.source
    for image in source.contents.layout.images:
        slots = source.slots(image.key)
        axes = list(image.sizes)
        for c in range(image.sizes.get("c", 1)):
            places = [p for p in frames_at(slots) if "c" not in axes or p[axes.index("c")] == c]
            if not places:
                continue
            middle = places[len(places) // 2]
            frame = source.read(image, slots_at(slots, middle[None]))[0]
            channel = image.channels[c].name if c < len(image.channels) else ""
            caption = " ".join(text for text in (name, image.name, channel) if text)
            yield contrast_of([frame]).apply(np.ascontiguousarray(frame)), caption
