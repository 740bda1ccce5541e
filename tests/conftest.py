"""What all tests share: a core with simulated hardware, and proof that no thread is left behind."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

# Before the first import of pymmcore-plus: otherwise each event of each run is written, with its
# whole sequence, to a log file in the developer's home directory.
os.environ.setdefault("PYMM_LOG_FILE", "0")

import pytest

pytest.register_assert_rewrite("contracts")

from pymmcore_plus import CMMCorePlus  # noqa: E402 - after the log file is switched off

import mda_writers  # noqa: E402 - the same

if TYPE_CHECKING:
    from collections.abc import Iterator

# of the package that is tested: installed with it, or beside it in a checkout
_CONFIGS = [
    Path(mda_writers.__file__).parent / "mm_configs",
    Path(__file__).parent.parent / "mm_configs",
]
MM_CONFIGS = next(folder for folder in _CONFIGS if folder.exists())

# pytest formats every record for its report; the runner logs each event, sequence and all, as INFO
logging.getLogger("pymmcore-plus").setLevel(logging.WARNING)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="all cases of the products, no sample")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases of large products: others for each class that inherits a test."""
    named = any("[" in argument for argument in config.args)
    if config.getoption("whole") or named:
        return
    products = defaultdict(list)
    for item in items:
        if mark := item.get_closest_marker("sample"):
            products[item.nodeid.partition("[")[0], mark.args[0]].append(item)
    left_out = set()
    for (name, step), cases in products.items():
        first = sum(name.encode()) % min(step, len(cases))
        left_out |= set(cases) - set(cases[first::step])
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


@pytest.fixture
def core() -> Iterator[CMMCorePlus]:
    """Give a fresh core with one camera (mm_configs/demo.cfg)."""
    core = CMMCorePlus()
    core.loadSystemConfiguration(MM_CONFIGS / "demo.cfg")
    yield core
    let_go(core)


def let_go(core: CMMCorePlus) -> None:
    """Unload all devices and stop the core's callbacks.

    MMCore 12 delivers its notifications from a C++ thread of its own. If that thread still has
    one to deliver while the interpreter shuts down, the whole process aborts ("FATAL: exception
    not rethrown", exit code 134), after all tests have passed. Child processes must do this, too.
    """
    core.unloadAllDevices()
    super(CMMCorePlus, core).registerCallback(None)  # the method of CMMCorePlus itself refuses


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """Fail the test when a thread that it started is still there two seconds after its end."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 2
    while (left := _ours(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left behind: {sorted(thread.name for thread in left)}"


def _ours(threads: list[threading.Thread]) -> set[threading.Thread]:
    """Leave out zarr-python's event loop and its workers: made once, kept for the whole process."""
    return {t for t in threads if not t.name.startswith(("zarr_io", "asyncio_"))}
