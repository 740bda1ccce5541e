"""`verify` reads everything back and names what is not as it was written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.kind import Kind, on_record
from mda_writers import verify
from mda_writers.errors import CorruptRecordingError, RecordingError
from stamps import stamp

SIZES = {"p": 2, "t": 3, "c": 2}
SHAPE = (40, 32)
FRAME_BYTES = 40 * 32 * 2


class VerifyContract(Kind):
    """Contract 8: a checksum a frame."""

    @pytest.fixture
    def recording(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return the folder of a whole recording of 12 frames, not to be changed."""
        folder = tmp_path_factory.mktemp("recording")
        self.record(folder, finish=True)
        return folder

    @pytest.fixture
    def copy(self, recording: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(recording, tmp_path / "copy"))

    def record(self, folder: Path, finish: bool) -> None:
        writer = self.make_writer(folder)
        writer.begin(SHAPE[1], SHAPE[0], sizes=SIZES)
        for p in range(2):
            for t in range(3):
                for c in range(2):
                    writer.add_frame(stamp({"p": p, "t": t, "c": c}, SHAPE, "uint16"))
        writer.isel(p=0)
        if finish:
            writer.finish()

    def test_whole_recording_is_intact_by_any_of_its_files(self, recording: Path) -> None:
        for path in [recording / self.file_name, *recording.iterdir()]:
            result = verify(path, progress=False)
            assert (result.ok, result.intact, result.complete) == (True, True, True)
            assert (result.frames_checked, result.frames_faulty) == (12, 0)
            assert result.bytes_read == 12 * FRAME_BYTES

    def test_interrupted_recording_is_intact_and_incomplete(self, tmp_path: Path) -> None:
        live = tmp_path / "live"
        writer = self.make_writer(live)
        writer.begin(32, 32, sizes={"t": 5})
        writer.add_frame(stamp({"t": 0}, (32, 32), "uint16"))
        writer.isel(t=0)
        result = verify(live / self.file_name)
        assert (result.intact, result.interrupted, result.complete, result.ok) == (
            True,
            True,
            False,
            False,
        )
        writer.finish()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        number=st.integers(0, 11),
        byte=st.integers(0, FRAME_BYTES - 1),
        flip=st.integers(1, 255),
    )
    def test_one_changed_byte_is_found_in_its_frame(
        self, recording: Path, number: int, byte: int, flip: int
    ) -> None:
        frame = on_record(recording / self.file_name)[number]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(recording, Path(folder) / "copy"))
            file, offset = self.pixel_byte(copy, frame.ours, byte)
            change(file, offset, flip)
            result = verify(copy / self.file_name, progress=False)
        assert not result.intact
        (fault,) = result.faults
        assert (fault.number, fault.index, fault.key) == (number, frame.index, frame.key)
        assert "differ" in fault.what
        assert result.frames_checked == 12

    def test_missing_file_is_named(self, copy: Path) -> None:
        frame = on_record(copy / self.file_name)[0]
        file, _ = self.pixel_byte(copy, frame.ours, 0)
        file.unlink()
        result = verify(copy / self.file_name, progress=False)
        assert result.files_missing == [file.name]
        assert result.frames_faulty == 6
        assert {fault.key for fault in result.faults} == {frame.key}

    @pytest.mark.parametrize("kept", ["all_but_one_byte", "half", "nothing"])
    def test_cut_file_is_named(self, kept: str, copy: Path) -> None:
        frame = on_record(copy / self.file_name)[0]
        file, _ = self.pixel_byte(copy, frame.ours, 0)
        size = file.stat().st_size
        os.truncate(file, {"all_but_one_byte": size - 1, "half": size // 2, "nothing": 0}[kept])
        result = verify(copy / self.file_name, progress=False)
        assert list(result.files_damaged) == [file.name]
        assert result.frames_faulty == {"all_but_one_byte": 0, "nothing": 6}.get(
            kept, result.frames_faulty
        )
        assert not result.ok

    def test_damaged_records_are_reported(self, recording: Path, tmp_path: Path) -> None:
        for number, file in enumerate(
            ["_frame_metadata.json", "_frame_metadata.json", "_recording.json", "_recording.json"]
        ):
            copy = Path(shutil.copytree(recording, tmp_path / str(number)))
            path = copy / f"{self.file_name}{file}"
            if number % 2:
                path.write_bytes(path.read_bytes()[:-30])
            else:
                path.write_bytes(path.read_bytes().replace(b'"', b"", 1))
            with pytest.raises(CorruptRecordingError, match=file) as raised:
                verify(copy / self.file_name)
            assert isinstance(raised.value, RecordingError)


def change(file: Path, offset: int, flip: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        before = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([before ^ flip]))
