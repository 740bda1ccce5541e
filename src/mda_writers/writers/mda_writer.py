"""What every writer is: an output handler for pymmcore-plus, and direct mode on the same object.

Threads: the three upstream hooks and ``add_frame`` run on the caller's threads (the relay thread
with ``output=``, the acquisition's thread when connected directly) and only hand frames over.
Everything that touches the disk after that runs on the recording's writing thread.
"""

from __future__ import annotations

from mda_writers.writers.direct_mode import DirectMode
from mda_writers.writers.hooks import Hooks
from mda_writers.writers.looking import Looking


class MDAWriter(Hooks, DirectMode, Looking):
    """Saves a recording; the base of all writers.

    Use it as an output handler (``core.run_mda(sequence, output=writer)``), connected directly
    (``with writer.connected(core): …``), through `record`, or in direct mode (`begin`,
    `add_frame`, `finish`) for cameras that have a loop of their own.

    Parameters
    ----------
    filename : path-like
        Where the recording goes. Missing parent folders are made.
    overwrite : bool
        Whether a recording of that name may be replaced; it is, when the next one begins.
    queue_bytes : int
        Bytes of frames that may wait in memory. While they are full, ``add_frame`` and a
        directly connected camera wait; with ``output=`` frames wait in pymmcore-plus's own
        queue, which is watched.
    min_free_bytes : int
        Bytes of the disk to leave free.
    sync_ms : float, optional
        By default a frame that has its line in the journal survives a killed process. With
        ``sync_ms`` it survives a power cut as well: every so many milliseconds everything is
        synced, and lines are written only then.
    save_frame : iterable of bool, or callable, optional
        Which frames to keep: a flag for each, in the order of their arrival, or a function
        ``(event, metadata) -> bool``. The others are listed as acquired and not saved.
    max_projection : bool, str or MaxProjection
        Whether to make maximum projections while frames come, along z or the axes given; see
        `MaxProjection`.
    core : CMMCorePlus, optional
        The core whose run is cancelled when writing fails. By default the one that the writer
        is connected to, or else ``CMMCorePlus.instance()``.

    Raises
    ------
    ValueError
        If the suffix is not one of this writer's.
    FileExistsError
        If there is a recording of that name and `overwrite` is False.
    """
