"""Where a frame goes: the only place that knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mda_writers.errors import FrameError
from mda_writers.model.frame import Frame, Place
from mda_writers.model.plan import is_open_ended, planned_images
from mda_writers.model.run_image import readable
from mda_writers.model.run_images import RunImages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from useq import MDASequence

    from mda_writers.model.layout import ImageLayout
    from mda_writers.model.plan import PlannedImage
    from mda_writers.model.scope import Scope
    from mda_writers.model.series import FileOf


class Locator:
    """Gives every frame of one run its place, and keeps count of what was planned.

    Axes t, c and z lie within an image, and cameras of equal size side by side in c
    (``FITC:Camera-1``, ``FITC:Camera-2``). Every other axis of an event's index (p, g, and
    whatever a user adds) makes images of its own; so does a camera of another size. An event
    that the plan did not announce gets an image that grows as its frames come.

    Parameters
    ----------
    planned : list of PlannedImage
        The images known beforehand; empty when nothing is.
    scope : Scope
        The microscope.
    file_name : str
        The recording's own name: the file of its only image, or the stem of their names.
    """

    def __init__(self, planned: list[PlannedImage], scope: Scope, file_name: str) -> None:
        self._images = RunImages(planned, scope, file_name)
        self._open_ended = not planned

    @classmethod
    def of_sequence(cls, sequence: MDASequence, scope: Scope, file_name: str) -> Locator:
        """Return the locator for a run of `sequence`.

        Raises
        ------
        ValueError
            If the sequence is known and holds no events.
        """
        planned = [] if is_open_ended(sequence) else planned_images(sequence, scope)
        return cls(planned, scope, file_name)

    def put_files(self, file_of: FileOf) -> None:
        """Have `file_of` say where each image lies, instead of in a file of its own."""
        self._images.put_files(file_of)

    # ---------------------------------------------------------------- finding the place

    def locate(self, frame: Frame, kept: bool = True) -> Place:
        """Return where `frame` goes, and count it as written there.

        Of a frame that is not kept the place alone counts, which stays taken: it is neither
        written nor missing, its pixels may be of any shape and type, and what comes for it again
        is a repetition.

        Raises
        ------
        FrameError
            If its index lies outside the plan, or its shape or dtype differs from the image's.
        """
        image = self._images.find(frame.index) or self._images.discover(frame)
        layout = image.layout
        if kept and (layout.frame_shape != frame.pixels.shape or image.dtype != frame.pixels.dtype):
            image = self._images.fitting(image, frame)
            layout = image.layout
        place = image.place(frame.index)
        try:
            taken = image.written[place]
        except IndexError:
            taken = False
            if not layout.growing:
                raise FrameError(_outside(frame, layout)) from None
        if taken:
            return self._locate_again(frame, kept)
        if layout.growing:
            image.grow(place, frame)
        image.written[place] = True
        image.left_out[place] = not kept
        image.count += 1
        image.kept += kept
        return Place(layout.key, place)

    def _locate_again(self, frame: Frame, kept: bool) -> Place:
        """Return a place for a frame whose own place is filled: in the image of its repetition."""
        times = frame.index.get("repeat", 0) + 1
        return self.locate(replace(frame, index={**frame.index, "repeat": times}), kept)

    def keep_only(self, places: Mapping[str, Iterable[tuple[int, ...]]]) -> None:
        """Say which frames did reach the disk, by key; those left out stay what they are."""
        for image in self._images:
            image.keep_only(places.get(image.layout.key, ()))

    # ---------------------------------------------------------------- what is known

    @property
    def images(self) -> list[ImageLayout]:
        """The images known so far, with their sizes so far."""
        return [image.layout for image in self._images]

    @property
    def open_ended(self) -> bool:
        """Whether the number of frames is unknown."""
        return self._open_ended

    @property
    def frames_expected(self) -> int | None:
        """Frames that the plan holds; None when it has no known length."""
        if self._open_ended:
            return None
        return sum(image.frames_planned or 0 for image in self.images)

    def image(self, key: str) -> ImageLayout:
        """Return the image of that key."""
        return self._images[key].layout

    def key_of(self, index: Mapping[str, int]) -> str:
        """Return the key of the image that a frame at `index` belongs to.

        Raises
        ------
        KeyError
            If no such image is known.
        """
        image = self._images.find(index)
        if image is None:
            raise KeyError(readable(index))
        return image.layout.key

    def unwritten(self) -> Iterator[dict[str, int]]:
        """Return the indices of planned places without a frame, image after image."""
        for image in self._images:
            yield from map(image.event_index, image.unwritten())


def _outside(frame: Frame, image: ImageLayout) -> str:
    return (
        f"{image.name}: frame {readable(frame.index)} lies outside the plan, which has "
        f"{image.sizes}. All earlier frames are kept; run the events as a list if their number "
        "is open."
    )
