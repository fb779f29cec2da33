"""The chapters as files: run, readable as they are, and light."""

import base64
import re

import nbformat
import pytest
from conftest import ROOT

PATHS = sorted((ROOT / "chapters").glob("*.ipynb"))
IGNORED = {"nbval-ignore-output", "nbval-skip"}
HOME_OR_TEMPORARY = re.compile(r"/home/|/root/|/Users/|/tmp/|C:\\\\Users")


@pytest.fixture(params=PATHS, ids=lambda path: path.name)
def notebook(request):
    notebook = nbformat.read(request.param, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [out for cell in code_cells(notebook) for out in cell.outputs]


def images(cell):
    """Bytes of the pictures that a cell shows."""
    return [
        base64.b64decode(content) if kind != "image/svg+xml" else content
        for output in cell.outputs
        for kind, content in output.get("data", {}).items()
        if kind.startswith("image/")
    ]


def test_ran_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_ran_without_errors_and_warnings(notebook):
    for output in outputs(notebook):
        assert output.output_type != "error", output.get("evalue")
        assert output.get("name") != "stderr", output.text


def test_metadata_do_not_change_from_run_to_run(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    assert not any("execution" in cell.metadata for cell in notebook.cells)


def test_cells_are_short_and_narrow(notebook):
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= 20, cell.source
        assert [line for line in lines if len(line) > 76] == []


def test_most_outputs_are_compared(notebook):
    cells = code_cells(notebook)
    ignored = [c for c in cells if IGNORED & set(c.metadata.get("tags", []))]
    assert len(ignored) <= len(cells) / 3


def test_images_are_light_and_described(notebook):
    for cell in code_cells(notebook):
        shown = images(cell)
        assert [len(image) for image in shown if len(image) > 100_000] == []
        if shown:
            options = cell.metadata.get("mystnb", {}).get("image", {})
            assert len(options.get("alt", "")) >= 10, cell.source
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert re.findall(r"!\[\s*\]\(", cell.source) == []


def test_outputs_hold_no_path_of_the_machine(notebook):
    for output in outputs(notebook):
        shown = [output.get("text", ""), *output.get("data", {}).values()]
        for text in map(str, shown):
            assert not HOME_OR_TEMPORARY.search(text), text[:500]


def test_what_the_pages_hide_is_folded_in_jupyter(notebook):
    hidden = {"hide-input", "hide-cell", "remove-input"}
    for cell in code_cells(notebook):
        if tags := hidden & {*cell.metadata.get("tags", [])}:
            assert cell.metadata.get("jupyter") == {"source_hidden": True}, cell.source
            prompt = cell.metadata.get("mystnb", {}).get("code_prompt_show")
            assert prompt or "hide-cell" not in tags, cell.source


def test_only_the_five_exercises_of_d2l_have_numbers(notebook, request):
    """So that "Exercise 1" is one exercise: the pages' own have names alone."""
    text = "\n".join(cell.source for cell in notebook.cells)
    heads = re.findall(r"```\{exercise\} \S.*\n((?::.*\n)+)", text)
    assert len(heads) == text.count("```{exercise}")
    numbered = [head for head in heads if ":nonumber:" not in head]
    of_d2l = "densenet.ipynb" in request.node.name
    assert len(numbered) == (5 if of_d2l else 0)
