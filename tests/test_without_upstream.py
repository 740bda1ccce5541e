"""When pymmcore-plus has removed its handlers, everything goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# makes the module unimportable, as it will be one day, and then runs the core of the suite
WITHOUT = """
import sys
sys.modules["pymmcore_plus.mda.handlers"] = None
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("file", ["test_every_plan.py::TestBigTiff", "test_bigtiff_writer.py"])
def test_the_core_of_the_suite_passes_on_our_own_base_class(file: str) -> None:
    tests = Path(__file__).parent
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT, "-q", "-p", "no:cacheprovider", f"{tests}/{file}"),
            *("-n", "0"),  # in this very process, where the module is missing
            # this one is about upstream's class; a thousand positions do not depend on it
            *("-k", "not upstreams_writer and not grow_with_the_positions"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tests.parent,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_the_base_class_is_our_own_then() -> None:
    code = (
        "import sys; sys.modules['pymmcore_plus.mda.handlers'] = None\n"
        "from mda_writers import BigTiffWriter\n"
        "from mda_writers.pymmcore import HandlerBase\n"
        "assert issubclass(BigTiffWriter, HandlerBase)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
