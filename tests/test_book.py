"""book/build.py: what it is asked for, and where it builds."""

import subprocess
import sys
from pathlib import Path

import pytest

from book import build

TOOL = Path(build.__file__)


@pytest.mark.parametrize("wanted", ["false", "no", "00", " 0", ""])
def test_an_answer_that_is_none_does_not_give_the_solutions_away(wanted):
    done = subprocess.run(
        [sys.executable, TOOL],
        env={"SOLUTIONS": wanted},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        f"SOLUTIONS={wanted}: expected 0, for a book without answers, or 1.\n"
    )
