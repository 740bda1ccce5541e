"""The devices of a session: added while it is open, each writer taken by one run at a time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mda_writers.acquisition.log_producer import LogProducer
from mda_writers.acquisition.writer_classes import writer_class as class_for
from mda_writers.acquisition.writer_producer import WriterProducer
from mda_writers.errors import WriteError
from mda_writers.writers.mda_writer import MDAWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mda_writers.acquisition.book import SessionBook
    from mda_writers.acquisition.moment import Moment
    from mda_writers.acquisition.session_names import SessionNames
    from mda_writers.acquisition.timestamps import Timestamps


class Devices:
    """Every writer and every log of a session. All methods may be called from any thread.

    Parameters
    ----------
    names : SessionNames
        Gives each of them a place.
    timestamps : Timestamps
        Is told when one begins and ends.
    book : SessionBook
        Tells the manifest of them.
    """

    def __init__(self, names: SessionNames, timestamps: Timestamps, book: SessionBook) -> None:
        self._names = names
        self._timestamps = timestamps
        self._book = book
        self._writers: list[WriterProducer] = []
        self._logs: dict[str, LogProducer] = {}
        self._lock = threading.Lock()
        self._is_open = True

    def check_open(self) -> None:
        """Raise WriteError if the session is closed."""
        if not self._is_open:
            raise WriteError(
                f"{self._book.path.parent}: the session is closed. Begin another Acquisition."
            )

    def shut(self) -> bool:
        """Take no more devices from now on; return whether they were taken until now."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
            return was_open

    # ------------------------------------------------------------ writers

    def add_writer(
        self,
        device: str,
        suffix: str,
        data_type: str,
        own_loop: bool,
        writer_class: type[MDAWriter] | None,
        options: dict[str, Any],
    ) -> MDAWriter:
        """Return a writer with a name of its own; see `Acquisition.writer`."""
        self.check_open()
        make = writer_class or class_for(suffix)
        writer = make(self._names.path(device, suffix, data_type), **options)
        producer = WriterProducer(
            device, data_type, writer, own_loop, self._timestamps, self._book.changed
        )
        with self._lock:
            self.check_open()
            self._writers.append(producer)
        self._book.add_source(producer)
        return writer

    @contextmanager
    def taken(
        self, writers: MDAWriter | Iterable[MDAWriter] | None
    ) -> Iterator[list[WriterProducer]]:
        """Give those who save a run, so that no other run is given them within the block.

        Raises
        ------
        ValueError
            If there is none, one is of another session, or one is recording already.
        """
        chosen = self._take(writers)
        try:
            yield chosen
        finally:
            for producer in chosen:
                producer.is_taken = False

    def cancel_runs(self) -> None:
        """Cancel the runs that feed the writers, and no other."""
        for producer in list(self._writers):
            producer.writer._cancel_run()

    def _take(self, writers: MDAWriter | Iterable[MDAWriter] | None) -> list[WriterProducer]:
        with self._lock:
            chosen = self._asked_for(writers)
            if not chosen:
                raise ValueError('record: no writer. Call acq.writer("camera", ".ome.tiff") first.')
            busy = [p.device for p in chosen if p.is_recording or p.is_taken]
            if busy:
                raise ValueError(
                    f"record: {', '.join(busy)} is recording already. Give own_loop=True to a "
                    "writer whose camera has a loop of its own, or pass writers=."
                )
            for producer in chosen:
                producer.is_taken = True
        return chosen

    def _asked_for(self, writers: MDAWriter | Iterable[MDAWriter] | None) -> list[WriterProducer]:
        if writers is None:
            return [producer for producer in self._writers if not producer.own_loop]
        known = {id(producer.writer): producer for producer in self._writers}
        each = [writers] if isinstance(writers, MDAWriter) else list(writers)
        if any(id(writer) not in known for writer in each):
            raise ValueError("record: every writer must be one that acq.writer() returned.")
        return [known[id(writer)] for writer in each]

    # ------------------------------------------------------------ logs

    def log(self, device: str, now: Moment) -> LogProducer:
        """Return the log of a device; the first call makes it."""
        return self._logs.get(device) or self._new_log(device, now)

    def _new_log(self, device: str, now: Moment) -> LogProducer:
        with self._lock:
            self.check_open()
            if device not in self._logs:
                path = self._names.path(device, ".csv", "beh")
                log = LogProducer(device, "beh", path, self._timestamps, now)
                self._book.add_source(log)
                self._logs[device] = log
            return self._logs[device]

    # ------------------------------------------------------------ the end

    def closes(self) -> list[Callable[[], None]]:
        """Return how each of them is closed, writers first."""
        return [p.close for p in self._writers] + [log.close for log in self._logs.values()]
