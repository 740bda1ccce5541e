"""The hooks that pymmcore-plus calls: they hand over, and never raise."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mda_writers.errors import BacklogError, WriteError
from mda_writers.model.encode import sequence_dict
from mda_writers.model.frame import Frame
from mda_writers.model.layout import Layout, common_steps
from mda_writers.model.locate import Locator
from mda_writers.model.plan import is_open_ended
from mda_writers.model.scope import Scope
from mda_writers.recording.reporting import mark_begun
from mda_writers.writers.outcome import Outcome
from mda_writers.writers.relay import is_relay, ran_to_end, watch_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from useq import MDAEvent, MDASequence


class Hooks(Outcome):
    """``sequenceStarted``, ``frameReady``, ``sequenceFinished``, and what else is announced."""

    def sequenceStarted(self, seq: MDASequence, meta: Any = None) -> None:
        """Lay out the files for `seq`; never raises (see `error`)."""
        with self._never_raising():
            self._finish_open_run("the next sequence began before the end of this one")
            self.current_sequence = seq
            self._refused = None
            self._direct = None
            self._backlog.watch(self, seq, self._own_core)
            summary = meta if isinstance(meta, dict) else {}
            self._begin_run(*self._plan_of_sequence(seq, summary))

    def frameReady(self, frame: np.ndarray, event: MDAEvent, meta: Any = None) -> None:
        """Hand over one frame; never raises (see `error`)."""
        with self._never_raising():
            run = self._run
            if run is None or run.finished:
                return
            metadata = meta if meta is not None else {}
            run.tally.frame_came(event.index, metadata)
            run.put(Frame(frame, event.index, metadata, event), self._watch_backlog)

    def eventStarted(self, event: MDAEvent) -> None:
        """Note that an event was begun, so that one without a frame is known as skipped."""
        with self._never_raising():
            if self._run is None or self._run.finished:
                return
            if not is_relay(threading.current_thread()):  # the relay has marked it already
                mark_begun(event)
            self._run.tally.begin_event(event)

    def sequenceCanceled(self, seq: MDASequence) -> None:
        """Note that the run was cancelled."""
        with self._never_raising():
            if self._run is not None:
                self._run.tally.canceled = True

    def sequenceFinished(self, seq: MDASequence) -> None:
        """Drain, close all, and write what is known at the end; never raises (see `error`)."""
        with self._never_raising():
            if self._run is not None:
                core = self._backlog.core(self._own_core)
                self._run.tally.buffer_overflowed = core.isBufferOverflowed() if core else None
                self._run.tally.ran_to_end = ran_to_end(self._backlog.runner, seq)
                self._run.tally.end_events()
                self._run.finish()

    def _plan_of_sequence(
        self, seq: MDASequence, summary: Mapping[str, Any]
    ) -> tuple[Locator, Layout, dict[str, Any]]:
        scope = Scope.from_summary(summary)
        try:
            locator = Locator.of_sequence(seq, scope, self._next_path().name)
        except ValueError as error:
            raise WriteError(f"{self.path}: {error}") from error
        z_step_um, time_interval_s = common_steps(locator.images)
        layout = Layout(
            pixel_size_um=scope.pixel_size_um,
            z_step_um=z_step_um,
            time_interval_s=time_interval_s,
            started=scope.started,
            cameras=_cameras_in_use(locator, scope),
            bit_depth=scope.bit_depth,
            objective=scope.objective,
            magnification=scope.magnification,
            axis_order="".join(seq.axis_order),
        )
        sequence = None if is_open_ended(seq) else sequence_dict(seq)
        about = {k: v for k, v in summary.items() if k != "mda_sequence"}
        return locator, layout, {"sequence": sequence, "summary_metadata": about}

    def _watch_backlog(self) -> None:
        """Look at upstream's queue while ours is full; it has no bound of its own."""
        run = self._run
        if run is not None and run.failure is None and self._backlog.too_long(run.frame_bytes):
            error = BacklogError(
                f"{run.path}: {self._backlog.frames} frames wait in memory, the disk does not keep "
                "up. The run was cancelled; every frame acquired so far is still being written. "
                "Use record() or writer.connected(core), which hold the camera back."
            )
            run.cancel_softly(error)


def _cameras_in_use(locator: Locator, scope: Scope) -> tuple[str, ...]:
    planned = (c.camera for image in locator.images for c in image.channels)
    return tuple(dict.fromkeys(planned)) or tuple(camera.label for camera in scope.cameras)


watch_runs(Hooks)
