"""Looking at a recording through its writer, while it runs and after it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mda_writers.errors import WriteError
from mda_writers.model.channels import by_event_channel
from mda_writers.model.plan import image_index
from mda_writers.sinks.journal import Journal
from mda_writers.sinks.sidecar import journal_path, read_sidecar, sidecar_path
from mda_writers.writers.run_owner import RunOwner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from useq import MDAEvent

    from mda_writers.model.layout import ImageLayout
    from mda_writers.recording.run import Run


class Looking(RunOwner):
    """What pymmcore-plus's own writers let one see, and it tells the truth."""

    @property
    def _filename(self) -> str:
        """The recording's path, where pymmcore-plus's writers have it."""
        return str(self._run.path if self._run is not None else self.path)

    @property
    def _frame_metadata_filename(self) -> str:
        """The sidecar's path, where mesofield's manifest looks for it."""
        return str(sidecar_path(Path(self._filename)))

    @property
    def position_sizes(self) -> list[dict[str, int]]:
        """Axis → size of every image of the recording, in order, without y and x."""
        return [dict(image.sizes) for image in self._run.locator.images] if self._run else []

    @property
    def projections(self) -> Mapping[str, np.ndarray]:
        """The maximum projections so far, by name (``P0000_CH00_000000``); see `MaxProjection`.

        Each is a copy of what it is now. Empty without ``max_projection``.
        """
        run = self._run
        return run.projections.so_far if run and run.projections else {}

    @property
    def frame_metadatas(self) -> defaultdict[str, list[dict[str, Any]]]:
        """The metadata of every frame that is on disk, by position key, read from there."""
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        run = self._run
        if run is None:
            return found
        run.settle()
        if run.gave_way:
            return found
        if sidecar_path(run.path).exists():  # it has taken over from the journal
            for key, frame in read_sidecar(sidecar_path(run.path)):
                found[key].append(frame)
        elif journal_path(run.path).exists():
            for key, frame in Journal.read(journal_path(run.path)).frames():
                found[key].append(frame)
        return found

    def isel(self, indexers: Mapping[str, Any] | None = None, **indexers_kwargs: Any) -> np.ndarray:
        """Return pixels by index, while the run goes on and after it.

        Every frame handed over before the call is in the result; places without a frame are
        zero. Axes p, g (and others that make images) choose the image, by default the first;
        t, c, z, y, x take integers and slices.

        Raises
        ------
        IndexError
            If there is no such image, or an axis that it does not have.
        """
        wanted = {**(indexers or {}), **indexers_kwargs}
        run = self._run
        if run is not None:
            run.settle()
        if run is None or not run.locator.images:
            raise IndexError(f"{self.path}: nothing was recorded yet.")
        image = _choose_image(run, wanted)
        axes = [*image.sizes, "y", "x"]
        if "cam" in wanted and "c" in image.sizes:
            wanted["c"] = by_event_channel(image.channels)[wanted.get("c", 0)][wanted["cam"]]
        return np.asarray(
            run.arrays[image.key][tuple(wanted.get(axis, slice(None)) for axis in axes)]
        )

    def get_position_key(self, event: MDAEvent) -> str:
        """Return the key of the image that a frame of `event` goes to."""
        if self._run is None:
            raise WriteError(f"{self.path}: nothing was begun yet.")
        return self._run.locator.key_of(event.index)


def _choose_image(run: Run, wanted: Mapping[str, Any]) -> ImageLayout:
    """Return the image that the indices choose; the first one where they choose none."""
    chosen = dict(image_index({k: v for k, v in wanted.items() if k not in ("y", "x", "s")}))
    for image in run.locator.images:
        own = {axis: i for axis, i in image.index.items() if axis != "cam"}
        if all(own.get(axis, 0) == i for axis, i in chosen.items()):
            return image
    raise IndexError(
        f"There is no image at {chosen}; there are "
        f"{', '.join(str(image.index or image.name) for image in run.locator.images)}."
    )
