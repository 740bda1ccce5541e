"""The sink that the pixels go to: one array on disk for every image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from mda_writers.model.frame import PlacedFrame
    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.locate import Locator
    from mda_writers.sinks.frame_table import FrameTable
    from mda_writers.storage.write_pool import WritePool


class ArraySink:
    """Makes the arrays, and gives each frame to its own.

    Parameters
    ----------
    locator : Locator
        Knows the images.
    arrays : dict
        Key → array; filled here, shared with whoever reads.
    new_array, discard : callable
        Make the array of an image; remove what was made for an image that no frame came for.
    write_frame : callable
        ``write_frame(array, index, pixels)``.
    table : FrameTable
        Is told of every image, so that the journal is complete.
    pool : WritePool or None
        Takes the pixels to the disk, for formats that use one.
    """

    def __init__(
        self,
        locator: Locator,
        arrays: dict[str, Any],
        new_array: Callable[[ImageLayout], Any],
        discard: Callable[[ImageLayout], None],
        write_frame: Callable[[Any, tuple[int, ...], np.ndarray], None],
        table: FrameTable,
        pool: WritePool | None,
    ) -> None:
        self._locator = locator
        self._arrays = arrays
        self._new_array = new_array
        self._discard = discard
        self._write_frame = write_frame
        self._table = table
        self._pool = pool
        self._announced: dict[str, tuple[Any, ...]] = {}
        self._made: dict[str, ImageLayout] = {}

    def open(self) -> None:
        """Lay out every image whose frames are known beforehand: before the first exposure."""
        for image in self._locator.images:
            if image.frame_shape and image.dtype:
                self._make(image)

    def write(self, placed: PlacedFrame) -> None:
        """Give a frame to its array, if it is kept."""
        if not placed.saved:
            return
        key = placed.place.key
        image = self._locator.image(key)
        made = self._made.get(key)
        if made is None:
            self._make(image)
        elif made is not image:
            self._follow(made, image)
        array = self._arrays[key]
        # for formats that keep the time of a frame; those of a user know nothing of it
        getattr(array, "expect", _nothing)(placed.frame)
        self._write_frame(array, placed.place.index, placed.pixels)
        # for formats that hand over files while the run goes on
        getattr(array, "take_landed", _nothing)(self._table.journalled)
        if image.growing:
            self._announce(image, array)

    def flush(self) -> bool:
        """Send on what is gathered, and let arrays see what has landed."""
        nothing_left = self._pool.flush() if self._pool else True
        for array in self._arrays.values():
            if getattr(array, "take_landed", _nothing)(self._table.journalled):
                nothing_left = False
        return nothing_left

    def close(self) -> None:
        """Close every array, whatever becomes of the others.

        The pool comes first: what it still has under way opens files that were closed.
        """
        if self._pool:
            self._pool.close()
        errors = []
        for array in self._arrays.values():
            try:
                getattr(array, "close", getattr(array, "flush", _nothing))()
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _make(self, image: ImageLayout) -> None:
        self._arrays[image.key] = array = self._new_array(image)
        self._made[image.key] = image
        self._announce(image, array)

    def _follow(self, made: ImageLayout, image: ImageLayout) -> None:
        """Take in that an image is no longer what it was made for."""
        if (made.frame_shape, made.dtype) != (image.frame_shape, image.dtype):
            self._unmake(made)
            self._make(image)
        self._made[image.key] = image

    def _unmake(self, image: ImageLayout) -> None:
        """Take back an array that the first frame turned out not to fit; it is still empty."""
        getattr(self._arrays.pop(image.key), "close", _nothing)()
        self._discard(image)

    def _announce(self, image: ImageLayout, array: Any) -> None:
        """Tell the journal of a new image, of more room, of a channel that got its name."""
        planes = getattr(array, "planes", 0)
        known = (image.channels, image.frame_shape, image.dtype, planes)
        if self._announced.get(image.key) != known:
            self._announced[image.key] = known
            self._table.announce(image, planes)


def _nothing(*_: Any) -> None:
    """Stand in for what an array of a user's own does not have."""
