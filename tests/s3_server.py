"""An S3 server on this machine, for the tests of recordings in an object store."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from zarr.core.sync import sync

pytest.importorskip("moto.server")
fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs")

# botocore and moto's web server leave sockets to the garbage collector
LEFT_OPEN = [
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
