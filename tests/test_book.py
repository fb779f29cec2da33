"""book/build.py: what it is asked for, and where it builds."""

import subprocess
import sys
from pathlib import Path

import pytest

from book import build as book

TOOL = Path(book.__file__)


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


def test_a_link_is_emptied_and_stays_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "html").mkdir(parents=True)
    (elsewhere / "html" / "index.html").touch()
    (elsewhere / "stamp").touch()
    build = tmp_path / "_build"
    build.symlink_to(elsewhere)
    book.empty(build)
    assert build.is_symlink() and list(elsewhere.iterdir()) == []


def test_a_folder_is_made(tmp_path):
    book.empty(tmp_path / "_build")
    assert (tmp_path / "_build").is_dir()
