"""The reference pages: results, errata, API, glossary, status, heads of chapters."""

import ast
import inspect
import json
import re
import sys
from functools import partial
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from IPython.display import Markdown
from matplotlib import pyplot as plt
from nbclient.exceptions import CellExecutionError

import d2l_dense
from _ext import api, head
from d2l_dense import cost, memory, plots, records
from experiments import __main__ as experiments
from tools import notebooks

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
NOTEBOOKS = sorted(CHAPTERS.glob("*.ipynb"))
PAGES = [*NOTEBOOKS, *sorted(CHAPTERS.glob("*.md"))]


def cells(name, kind):
    notebook = nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def text(path):
    """The prose of a page, as it was written."""
    if path.suffix == ".ipynb":
        return "\n\n".join(cells(path.stem, "markdown"))
    return path.read_text("utf-8")


# The contents, and links to sections


def test_every_page_is_in_the_contents_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    listed = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    pages = [f"chapters/{p.stem}" for p in CHAPTERS.iterdir() if p.suffix != ".toml"]
    assert sorted([toc["root"], *listed]) == sorted(p for p in pages if "/." not in p)
    assert all(part["caption"] for part in toc["parts"])


def slug(title):
    """A heading as links name it: MyST's rule, which is GitHub's."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_to_sections_name_one_that_is_there(path):
    source = path.read_text("utf-8")
    for page, section in re.findall(r"\]\((\w+)\.ipynb#([\w-]+)\)", source):
        titles = api.HEADING.findall(text(CHAPTERS / f"{page}.ipynb"))
        assert section in {slug(title) for _, title in titles}, (page, section)


# Results, for any records

LOAD = records.load


def write(folder, experiment, arm, *accuracies, first=0, device="cpu"):
    for seed, accuracy in enumerate(accuracies, start=first):
        run = {
            "experiment": experiment,
            "arm": arm,
            "seed": seed,
            "configuration": {},
            "device": {"type": device, "name": "A machine", "precision": "32-true"},
            "versions": {"python": "3.11.7", "torch": "2.9.0"},
            "commit": "abc",
            "date": "2026-01-02",
            "seconds": 600.0,
            "history": [{"epoch": 1, "seconds": 600.0}],
            "test_accuracy": accuracy,
        }
        records.write(run, folder)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A function: what the page of results shows, with the records in tmp_path."""

    def results():
        monkeypatch.setattr(records, "load", partial(LOAD, folder=tmp_path))
        monkeypatch.setattr(records, "RESULTS", tmp_path)
        names, shown = {}, []
        for source in cells("results", "code"):
            *before, last = ast.parse(source).body
            exec(compile(ast.Module(before, []), "results", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "", "eval"), names)
                shown += [value.data] if isinstance(value, Markdown) else []
            else:
                exec(compile(ast.Module([last], []), "results", "exec"), names)
        plt.close("all")
        return "\n\n".join(shown)

    return results


def test_without_records_the_results_say_so_and_how_to_record(results):
    shown = results()
    assert "the data do not decide" not in shown and "±" not in shown
    for experiment in (
        "densenet",
        "parameters",
        "pooling",
        "details",
        "sparse",
        "memory",
    ):
        assert f"`python -m experiments {experiment} --arms" in shown
    assert shown.count("not recorded yet") > 20
    assert "not recorded yet; `make bench`" in shown


@pytest.mark.parametrize(
    ("average", "maximum", "expected"),
    [
        ([0.93, 0.94, 0.92], [0.90, 0.91, 0.89], "average is better"),
        ([0.90, 0.91, 0.89], [0.93, 0.94, 0.92], "maximum is better"),
        ([0.93, 0.90, 0.92], [0.90, 0.93, 0.92], "the data do not decide"),
        ([0.93], [0.90, 0.91], "+0.0300 from the one seed that both have"),
    ],
)
def test_results_decide_by_the_interval(results, tmp_path, average, maximum, expected):
    write(tmp_path, "parameters", "densenet", *average)
    write(tmp_path, "pooling", "max", *maximum)
    (line,) = re.findall(r"- \*\*average against maximum.*", results())
    assert expected in line and "not recorded" not in line


def test_results_keep_devices_and_seeds_apart(results, tmp_path):
    write(tmp_path, "parameters", "densenet", 0.9, 0.9)
    write(tmp_path, "pooling", "max", 0.8, 0.8, first=2)
    write(tmp_path, "pooling", "stride", 0.8, 0.8, device="cuda")
    shown = results()
    for kind in ("maximum", "every second pixel"):
        (line,) = re.findall(rf"- \*\*average against {kind}.*", shown)
        assert "not recorded yet" in line  # together, with one seed on one device
    write(tmp_path, "parameters", "densenet", 0.9, 0.9, device="cuda")
    (line,) = re.findall(r"- \*\*average against every second.*", results())
    gap = "+0.1000 (95 % interval +0.1000 to +0.1000, n = 2)"
    assert f"(cuda): {gap}: average is better" in line


def test_results_have_every_experiment_and_arm():
    source = "\n".join(cells("results", "code"))
    for name in experiments.NAMES:
        module = pytest.importorskip(f"experiments.{name}")
        for arm in module.ARMS:
            assert f'"{arm}"' in source, (name, arm)


def test_commands_on_the_results_page_are_commands():
    prose = text(CHAPTERS / "results.ipynb")
    commands = set(re.findall(r"python -m experiments (\w+)", prose))
    assert commands == set(experiments.NAMES)


# Errata


def test_each_erratum_has_its_parts_and_leads_to_a_chapter():
    source = "\n\n".join(cell.source for cell in _errata().cells)
    entries = source.split("\n### ")[1:]
    assert len(entries) >= 12
    for entry in entries:
        entry = entry.split("\n## ")[0]
        for part in ("**Claim:**", "**Right:**"):
            assert entry.count(part) == 1, entry
        assert "**How we know:**" in entry
        assert re.search(r"\w+\.ipynb(#[\w-]+)?\)", entry), entry


def _errata():
    return nbformat.read(CHAPTERS / "errata.ipynb", as_version=4)


# The API page


def public(module):
    """The names of a module that do not begin with _, and that it does not import."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    names = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", [d2l_dense, cost, memory, plots, records])
def test_the_api_page_has_every_public_name_and_no_other(module):
    page = (CHAPTERS / "api.md").read_text("utf-8")
    found = set()
    for part in page.split(".. currentmodule:: ")[1:]:
        if part.split("\n")[0] == module.__name__:
            found |= set(
                re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", part, re.MULTILINE)
            )
    rooms = {"cost", "memory", "plots", "records"} if module is d2l_dense else set()
    assert found == public(module) - rooms


def test_docstrings_name_headings_that_are_there():
    found = []
    for path in (ROOT / "d2l_dense").rglob("*.py"):
        found += api.CHAPTER.findall(" ".join(path.read_text("utf-8").split()))
    assert len(found) > 15
    assert set(found) - set(api.headings()) == set()


def test_a_docstring_becomes_fields_code_and_links():
    class App:
        class env:
            temp_data = {}

    lines = [
        "Do it with *args, as in `a_b`; see train_ too.",
        "",
        "Shape: (N, *size) ->",
        "(N,)",
        "",
        "Source: Somebody (2017), who",
        'wrote it. Chapter: "Dense',
        'blocks".',
    ]
    api.process(App, "function", "f", None, None, lines)
    assert lines == [
        r"Do it with \*args, as in ``a_b``; see train\_ too.",
        "",
        r":Shape: (N, \*size) ->",
        "    (N,)",
        "",
        ":Source: Somebody (2017), who",
        "    wrote it.",
        ":Chapter: `Dense blocks <densenet.html#dense-blocks>`__",
        "",
    ]


# Heads of chapters, and what a run took


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_says_what_it_needs(path):
    metadata = nbformat.read(path, as_version=4).metadata
    needs = metadata["d2l_dense"]["needs"]
    assert len(needs) > 5 and not needs.endswith(".")


def test_words_are_those_of_the_prose():
    document = new_document("page")
    document += nodes.paragraph("", "three words here", nodes.strong("", " and two"))
    document += nodes.literal_block("", "no = 1")
    document += nodes.paragraph("", "", nodes.math("", "x + y"))
    assert head.count_words(document) == 5


RUN = {
    "seconds": 72.4,
    "peak_bytes": 1_230_000_000,
    "device": {"type": "cpu", "name": "A CPU", "cores": 2, "precision": "32-true"},
    "versions": {"torch": "2.9.0"},
    "date": "2026-01-02",
}


def test_the_head_tells_time_and_memory_by_device():
    assert head.running({}) == "not recorded yet"
    both = head.running({"cpu": RUN, "cuda": RUN | {"note": "busy", "seconds": 600}})
    assert "72 seconds on a CPU (A CPU, 2 cores)" in both
    assert ", with at most 1.2 GB of main memory" in both
    assert "10 minutes on CUDA" in both and "(busy)" in both
    assert "not recorded on CUDA yet" in head.running({"cpu": RUN})
    assert "memory" not in head.running({"cpu": RUN | {"peak_bytes": None}})


def small_notebook(folder, source):
    path = folder / "small.ipynb"
    cell = nbformat.v4.new_code_cell(source)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_executing_a_notebook_measures_it(tmp_path):
    path = small_notebook(tmp_path, "x = bytearray(300_000_000)\nlen(x)")
    seconds, memory = notebooks.execute(path)
    assert 0 < seconds < 120
    if memory is not None:  # there is /proc
        assert 300e6 < memory < 1e9
    (cell,) = nbformat.read(path, as_version=4).cells
    assert cell.outputs[0].data["text/plain"] == "300000000"


def test_a_notebook_that_is_not_there(tmp_path, monkeypatch, capsys):
    path = tmp_path / "none.ipynb"
    monkeypatch.setattr(sys, "argv", ["notebooks", str(path)])
    with pytest.raises(SystemExit) as error:
        notebooks.main()
    assert error.value.code == 2
    assert f"{path}: there is no such notebook" in capsys.readouterr().err


def test_a_notebook_that_fails_stays_as_it_was(tmp_path):
    path = small_notebook(tmp_path, "1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebooks.execute(path)
    assert path.read_bytes() == before


def test_runs_are_kept_by_chapter_and_device(tmp_path):
    place = tmp_path / "notebooks.json"
    cuda = RUN | {"device": RUN["device"] | {"type": "cuda"}}
    for name, run in [("a", RUN), ("a", cuda), ("b", RUN), ("a", RUN | {"seconds": 1})]:
        notebooks.record(Path(f"{name}.ipynb"), run, place)
    found = json.loads(place.read_text("utf-8"))
    assert {name: sorted(runs) for name, runs in found.items()} == {
        "a": ["cpu", "cuda"],
        "b": ["cpu"],
    }
    assert found["a"]["cpu"]["seconds"] == 1
    assert list(tmp_path.iterdir()) == [place]


def test_recorded_runs_are_those_of_chapters_and_complete():
    found = json.loads(notebooks.RECORD.read_text("utf-8"))
    assert set(found) <= {path.stem for path in NOTEBOOKS}
    for runs in found.values():
        for kind, run in runs.items():
            assert run["device"]["type"] == kind and run["seconds"] > 0
            assert {"peak_bytes", "versions", "date"} <= run.keys()


# The built pages


@pytest.mark.pages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_head_stands_below_the_title(open_page, path):
    page = open_page(f"chapters/{path.stem}.html")
    shown = page.locator("h1 + ul.chapter-head")
    assert shown.count() == 1
    lines = shown.locator("li").all_inner_texts()
    heads = [line.split(":")[0] for line in lines]
    assert heads == ["You need", "To read", "To run"]
    assert re.search(r"about [1-9]\d* minutes \([1-9][\d,]* words\)", lines[1])


@pytest.mark.pages
def test_the_status_page_has_every_chapter(open_page):
    page = open_page("chapters/status.html")
    recorded, built = page.locator("article table").all()
    for path in NOTEBOOKS:
        link = recorded.locator(f"a[href='{path.stem}.html']")
        assert link.count() >= 1 and link.first.inner_text() != path.name
        assert path.stem in built.inner_text()


@pytest.mark.pages
def test_the_api_page_shows_names_and_leads_to_chapters(open_page):
    page = open_page("chapters/api.html")
    for name in public(d2l_dense) - {"cost", "memory", "plots", "records"}:
        assert page.locator(f"dt[id='d2l_dense.{name}']").count() == 1, name
    block = page.locator("dl:has(> dt[id='d2l_dense.DenseBlock'])")
    assert "Shape" in block.inner_text() and "growth_rate" in block.inner_text()
    assert block.locator("a[href='densenet.html#dense-blocks']").count() == 1
    assert "`" not in page.locator("article").inner_text()


@pytest.mark.pages
def test_terms_of_the_glossary_can_be_linked_to(open_page):
    page = open_page("chapters/glossary.html")
    terms = page.locator("dl.glossary > dt")
    assert terms.count() >= 20
    assert all(term.get_attribute("id") for term in terms.all())


@pytest.mark.pages
def test_a_citation_says_what_it_cites(open_page):
    page = open_page("chapters/densenet.html")
    links = page.locator("article a[href^='references.html#']")
    assert links.count() > 5
    assert all(len(link.get_attribute("title") or "") > 30 for link in links.all())


@pytest.mark.pages
def test_the_sidebar_is_in_parts(open_page):
    page = open_page("chapters/densenet.html")
    captions = page.locator(".bd-sidebar-primary p.caption").all_inner_texts()
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    assert captions == [part["caption"] for part in toc["parts"]]
