"""A process: what is done to recordings, as plain data that travels to other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mda_writers.batch.parts import Block


class Process:
    """Makes results out of recordings. A process inherits from this, and says where it differs.

    Attributes
    ----------
    name : str
        What it is called in the record beside each result.
    busy_alone : bool
        Whether one worker keeps a machine busy: then only a cluster shares a large recording.
    """

    name: ClassVar[str]
    busy_alone: ClassVar[bool] = False

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All that its result depends on besides its inputs, as plain values."""
        return {}

    def further_inputs(self) -> Sequence[Path]:
        """Return files that it reads besides the recordings."""
        return ()

    def run(self, inputs: Sequence[Path], result: Path) -> str:
        """Make the file `result`, and any further ones beside it; return a remark, or nothing.

        Raises
        ------
        FaultsFoundError
            If the result was made, and tells of faults.
        Exception
            Saying why it cannot be made.
        """
        raise NotImplementedError

    def parts(self, inputs: Sequence[Path], output: Path) -> list[Block]:
        """Return the parts in which it can be done; none if it is done as a whole."""
        return []

    def run_part(self, inputs: Sequence[Path], part: Block, target: Path) -> None:
        """Make one part: the file or folder `target`. Asked of a process with parts only."""
        raise NotImplementedError

    def join(
        self, inputs: Sequence[Path], parts: Sequence[tuple[Block, Path]], result: Path
    ) -> str:
        """Make the result out of its parts, the same that `run` makes, bit for bit."""
        raise NotImplementedError
