"""book/build.py and book/notebooks.py: what they are asked for, what they refuse."""

import subprocess
import sys
import tomllib

import nbformat
import pytest
from conftest import ROOT

from book import build, notebooks


@pytest.mark.parametrize("wanted", ["false", "00", ""])
def test_an_answer_that_is_none_does_not_give_the_solutions_away(wanted):
    done = subprocess.run(
        [sys.executable, "-m", "book.build"],
        cwd=ROOT,
        env={"SOLUTIONS": wanted},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        f"SOLUTIONS={wanted}: expected 0, for a book without answers, or 1.\n"
    )


def test_the_book_is_built_anew_where_its_inputs_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    found = [build.fingerprint()]
    for name, text in (("results", "1"), ("results", "2"), ("book/extensions", "2")):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "a.json").write_text(text)
        found.append(build.fingerprint())
    assert len(set(found)) == 4
    (tmp_path / "results" / "a.json").write_text("2")
    assert build.fingerprint() == found[-1]  # the same contents


def small_notebook(folder, source):
    path = folder / "small.ipynb"
    cell = nbformat.v4.new_code_cell(source)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_a_notebook_is_executed_in_place(tmp_path):
    path = small_notebook(tmp_path, "print(1 + 1)")
    notebooks.main([path])
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.outputs[0].text == "2\n" and cell.execution_count == 1


def test_a_notebook_that_fails_stays_as_it_was(tmp_path):
    path = small_notebook(tmp_path, "1 / 0")
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="(?s)ZeroDivisionError.*did not run through"):
        notebooks.main([path])
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match=f"{tmp_path}/none.ipynb: there is no such"):
        notebooks.main([tmp_path / "none.ipynb"])


def test_the_version_is_everywhere_the_same():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
