"""Every plan, in every format: the frame stored at an index is the frame acquired at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import xxhash

from contracts.kind import Kind, on_record
from mda_writers import WriteError, record
from plans import PLANS, REPEATING_PLANS, Plan, engine_for, expected_indices, expected_stamps
from stamps import check_stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from pymmcore_plus import CMMCorePlus


class IdentityContract(Kind):
    """Contract 5: identity."""

    refuses: Mapping[str, str] = {}
    """Plans whose pixels the format cannot hold, and what it says then."""

    def options(self, plan: Plan) -> dict[str, Any]:
        """Return what the writer has to be told to take this plan."""
        return {}

    def as_acquired(self, pixels: np.ndarray, plan: Plan) -> np.ndarray:
        """Return the camera's pixels for those that a stock reader gives."""
        return pixels

    @pytest.mark.sample(5)
    @pytest.mark.parametrize("plan", PLANS + REPEATING_PLANS, ids=str)
    def test_every_frame_of_a_plan_is_where_its_event_says(
        self, plan: Plan, core: CMMCorePlus, tmp_path: Path
    ) -> None:
        self.check_plan(plan, core, tmp_path, **self.options(plan))

    def check_plan(self, plan: Plan, core: CMMCorePlus, folder: Path, **options: Any) -> None:
        core.mda.set_engine(engine_for(plan, core))
        writer = self.make_writer(folder, **options)
        refusal = {"no_events": "The sequence is empty", **self.refuses}.get(plan.name)
        if refusal is not None:
            with pytest.raises(WriteError, match=refusal):
                record(core, plan.events(), writer, progress=False)
            assert not list(folder.iterdir())
            return
        (report,) = record(core, plan.events(), writer, progress=False)
        self.check_acquired(plan, folder)
        assert report.frames_written == len(expected_indices(plan))
        assert report.complete is (plan.skip is None), report
        check_paths(folder, writer.paths)

    def check_acquired(self, plan: Plan, folder: Path) -> None:
        """Compare what is on record, and what a stock reader finds there, with the events."""
        assert not list(folder.glob("*.jsonl"))  # the sidecar has taken over
        frames = on_record(folder / self.file_name)
        assert [frame.index for frame in frames] == expected_indices(plan)
        read = self.reader(folder)
        for frame, stamped in zip(frames, expected_stamps(plan), strict=True):
            pixels = self.as_acquired(read(frame.ours), plan)
            check_stamp(pixels, stamped)
            assert xxhash.xxh3_64_hexdigest(pixels.tobytes()) == frame.ours["xxh3_64"]
        for file in {frame.ours["file"] for frame in frames}:
            self.check_opens(folder, file)
        if not frames:
            assert {file.suffix for file in folder.iterdir()} <= {".json"}


def check_paths(folder: Path, paths: Iterable[Path]) -> None:
    """Check that the writer names every file that there is, and no other."""
    named = set(paths)
    assert all(path.exists() for path in named)
    for file in folder.rglob("*"):
        assert file.is_dir() or named & {file, *file.parents}, f"{file} is of nobody"
