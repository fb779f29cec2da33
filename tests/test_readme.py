"""What the README says is what the project holds."""

import re

from tools import readme

TEXT = readme.README.read_text("utf-8")
ROOT = readme.README.parent


def test_figures_are_those_of_the_records():
    assert readme.filled(TEXT) == TEXT, "run python -m tools.readme"


def test_names_files_and_commands_that_exist():
    table = TEXT.partition("## Map of the code")[2].partition("\n## ")[0]
    for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        folder = ROOT
        for name in re.findall(r"`([^`]+)`", cell):
            path = ROOT / name if "/" in name else folder / name
            assert path.exists(), name
            folder = path.parent
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"`?make ([a-z]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
