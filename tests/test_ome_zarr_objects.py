"""OME-Zarr in an object store: an S3 server on this machine, started by the tests."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import useq
import zarr
from zarr.core.sync import sync

from engine import StampedEngine
from mda_writers import OMEZarrWriter, WriteError, record
from stamps import check_stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

pytest.importorskip("moto.server")
fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs")

# botocore and moto's web server leave sockets to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Server:
    """An S3 server in a process of its own, so that it can be killed."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("the S3 server of the tests did not start")


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


def options_of(server: Server) -> dict[str, Any]:
    """Return the options of a fresh bucket."""
    found = {
        "key": "test",
        "secret": "test",
        "endpoint_url": f"http://127.0.0.1:{server.port}",
        "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 2},
    }
    store = s3fs.S3FileSystem(**found)
    if store.exists("bucket"):
        store.rm("bucket", recursive=True)
    store.mkdir("bucket")
    return found


def close_connections() -> None:
    """Close what s3fs leaves to the garbage collector, which would complain in another test."""
    for system in list(s3fs.S3FileSystem._cache.values()):
        client = system._s3
        if client is not None and system.asynchronous:
            sync(client.close())
        elif client is not None:
            fsspec.asyn.sync(system.loop, client.close)
    s3fs.S3FileSystem.clear_instance_cache()
    gc.collect()


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


def test_network_error_ends_the_run_loudly_and_keeps_what_was_written(
    options: dict[str, Any],
) -> None:
    own = Server()
    try:
        url, options = "s3://bucket/exp.ome.zarr", options_of(own)
        writer = OMEZarrWriter(url, storage_options=options, queue_bytes=4 * 32 * 32 * 2)
        writer.begin(32, 32, sizes={"t": 1000})
        for t in range(5):
            writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
        writer.isel(t=4)
        found = array(url, options)
        own.kill()
        with pytest.raises(WriteError, match=r"could not|failed"):
            for t in range(5, 1000):
                writer.add_frame(stamp({"t": t}, (32, 32), "uint16"))
        with pytest.raises(WriteError):
            writer.finish()
    finally:
        own.kill()
    assert writer.frames_written == 5
    for t in range(5):
        check_stamp(found[t], {"t": t})


def test_storage_options_need_a_url(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        OMEZarrWriter(tmp_path / "exp.ome.zarr", storage_options={"key": "x"})
