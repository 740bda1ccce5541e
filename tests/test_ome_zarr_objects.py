"""OME-Zarr in an object store: an S3 server on this machine, started by the tests."""

from __future__ import annotations

import shutil
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import useq
import zarr

from engine import StampedEngine
from mda_writers import OMEZarrWriter, WriteError, record, recover
from mda_writers.formats.zarr.pyramid import mean_of, sums_of
from s3_server import LEFT_OPEN, Server, close_connections, options_of, s3fs
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytestmark = LEFT_OPEN


class Network:
    """The way to a server: everything goes through it until it is cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = 0
        self.restore()

    def restore(self) -> None:
        """Let connections through; the port stays what it was."""
        entrance = socket.create_server(("127.0.0.1", self.port))
        self.port = entrance.getsockname()[1]
        self._sockets.append(entrance)
        self._start(self._accept, entrance)

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()
        self._sockets, self._threads = [], []

    def _start(self, target: Any, *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self, entrance: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = entrance.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                self._start(_pass_on, near, far)
                self._start(_pass_on, far, near)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.kill()


@pytest.fixture
def options(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)  # the server on this machine answers
    yield options_of(server)
    close_connections()


def array(url: str, options: dict[str, Any], level: str = "0") -> np.ndarray:
    return np.asarray(zarr.open_array(f"{url}/{level}", mode="r", storage_options=options)[...])


@pytest.mark.parametrize("how", [{}, {"compression": "zstd", "levels": 2}, {"ngff_version": "0.4"}])
def test_run_is_saved_in_a_bucket(
    how: dict[str, Any], core: CMMCorePlus, tmp_path: Path, options: dict[str, Any]
) -> None:
    core.mda.set_engine(StampedEngine(core))
    url = "s3://bucket/folder/exp.ome.zarr"
    writer = OMEZarrWriter(url, storage_options=options, **how)
    sequence = useq.MDASequence(
        stage_positions=[(0, 0, 0), (5, 5, 5)],
        channels=["DAPI", "FITC"],
        time_plan={"interval": 0, "loops": 3},
    )
    (report,) = record(core, sequence, [writer], progress=False)
    assert report.complete
    for p in range(2):
        found = array(f"{url}/{p}", options)
        assert found.shape == (3, 2, 32, 32)
        for t, c in np.ndindex(3, 2):
            check_stamp(found[t, c], {"t": t, "p": p, "c": c})
    if "levels" in how:
        assert array(f"{url}/1", options, "1").shape == (3, 2, 16, 16)
    beside = {file.name for file in tmp_path.iterdir()}
    assert beside == {"exp.ome.zarr_frame_metadata.json", "exp.ome.zarr_recording.json"}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        OMEZarrWriter(url, storage_options=options)


def test_recording_of_open_length_grows_and_can_be_replaced(options: dict[str, Any]) -> None:
    url = "s3://bucket/exp.ome.zarr"
    for frames in (7, 4):
        writer = OMEZarrWriter(url, storage_options=options, overwrite=True)
        writer.begin(32, 32)
        for t in range(frames):
            writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
        check_stamp(writer.isel(t=frames - 1).squeeze(), {"t": frames - 1})
        writer.finish()
        found = array(url, options).squeeze()
        assert found.shape == (frames, 32, 32)
        for t in range(frames):
            check_stamp(found[t], {"t": t})


@pytest.fixture
def network(server: Server, options: dict[str, Any]) -> Iterator[Network]:
    network = Network(server.port)
    yield network
    close_connections()
    network.cut()


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "open"])
def test_an_outage_ends_the_run_loudly_and_what_was_written_stays(
    planned: bool, server: Server, network: Network, options: dict[str, Any], tmp_path: Path
) -> None:
    url = "s3://bucket/exp.ome.zarr"
    through = {**options, "endpoint_url": f"http://127.0.0.1:{network.port}"}
    writer = OMEZarrWriter(url, storage_options=through, queue_bytes=4 * 32 * 32 * 2)
    writer.begin(32, 32, sizes={"t": 100} if planned else None)
    for t in range(5):
        writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
    writer.isel(t=4)
    network.cut()
    with pytest.raises(WriteError, match=r"could not|failed"):
        for t in range(5, 100):
            writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
    with pytest.raises(WriteError):
        writer.finish()
    assert writer.frames_written == 5
    network.restore()
    for how in (options, through):
        found = array(url, how).reshape(-1, 32, 32)
        assert len(found) == (100 if planned else 5)
        for t in range(5):
            check_stamp(found[t], {"t": t})
        assert not found[5:].any()
    assert (tmp_path / "exp.ome.zarr_frames.jsonl").exists()
    report = recover(tmp_path / "exp.ome.zarr", storage_options=options)
    assert (report.frames_written, report.complete) == (5, False)
    assert array(url, options).squeeze().shape == (5, 32, 32)
    assert not (tmp_path / "exp.ome.zarr_frames.jsonl").exists()
    assert (tmp_path / "exp.ome.zarr_frame_metadata.json").exists()


def test_recover_finds_credentials_in_the_environment(
    server: Server, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = OMEZarrWriter("s3://bucket/exp.ome.zarr", storage_options=options)
    writer.begin(32, 32, sizes={"t": 9})
    for t in range(3):
        writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
    writer.isel(t=2)
    (tmp_path / "torn").mkdir()
    journal = tmp_path / "exp.ome.zarr_frames.jsonl"
    content = journal.read_bytes()
    assert b"endpoint_url" not in content
    assert b"127.0.0.1" not in content
    shutil.copy(journal, tmp_path / "torn")
    writer.finish()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    close_connections()
    assert recover(tmp_path / "torn" / "exp.ome.zarr").frames_written == 3


@pytest.mark.parametrize("how", [{}, {"compression": "zstd"}, {"ngff_version": "0.4"}], ids=str)
@pytest.mark.parametrize("order", ["tz", "zt", ""])
def test_levels_that_are_smaller_in_z_are_put_into_a_bucket(
    how: dict[str, Any], order: str, options: dict[str, Any]
) -> None:
    url = "s3://bucket/exp.ome.zarr"
    lengths = {"t": 2, "z": 5}
    writer = OMEZarrWriter(url, storage_options=options, levels=3, z_factor=2, **how)
    writer.begin(17, 18, is_color=False, sizes={a: lengths[a] for a in order} or None)
    volume = np.random.default_rng(0).integers(0, 65535, (2, 5, 18, 17), "uint16")
    axes = order or "tz"
    taken = [place for place in np.ndindex(*(lengths[a] for a in axes)) if any(place)]
    for place in taken:  # all but the first
        named = dict(zip(axes, place, strict=True))
        index = named if order else {"c": 0, **named}
        writer.add_frame(volume[named["t"], named["z"]], index=index)
    writer.finish()
    planes = {(t, z): volume[t, z] for t, z in np.ndindex(2, 5) if (t, z) != (0, 0)}
    for level in range(3):
        found = array(url, options, str(level)).squeeze()
        for place in np.ndindex(found.shape[:2]):
            np.testing.assert_array_equal(found[place], planes.get(place, 0))
        slabs: dict[tuple[int, int], list[np.ndarray]] = {}
        for (t, z), plane in sorted(planes.items(), key=lambda each: each[0]):
            slabs.setdefault((t, z // 2), []).append(plane)
        planes = {
            place: mean_of(sum(sums_of(plane, 2) for plane in some), len(some), 2, volume.dtype)
            for place, some in slabs.items()
        }


def test_shards_in_an_object_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="object stores have none"):
        OMEZarrWriter("s3://bucket/exp.ome.zarr", shards={"t": 4})


def test_storage_options_need_a_url(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        OMEZarrWriter(tmp_path / "exp.ome.zarr", storage_options={"key": "x"})
