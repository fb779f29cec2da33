"""The reference pages: contents, errata, API, glossary, and links between pages."""

import ast
import inspect
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils import nodes

import api
import d2l_dense
import head
from d2l_dense import cost, exercises, memory, plots, records
from experiments import __main__ as experiments

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
NOTEBOOKS = sorted(CHAPTERS.glob("*.ipynb"))
PAGES = [*NOTEBOOKS, *sorted(CHAPTERS.glob("*.md"))]
MODULES = {"cost", "exercises", "memory", "plots", "records"}


def text(path):
    """The prose of a page, as it was written."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        return "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return path.read_text("utf-8")


def headings(path):
    """The headings of a page, without the comments in its code."""
    prose = re.sub(r"```.*?```", "", text(path), flags=re.DOTALL)
    return re.findall(r"^#+ (.+)$", prose, re.MULTILINE)


def test_every_page_is_in_the_contents_once():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    listed = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    pages = [f"chapters/{p.stem}" for p in CHAPTERS.iterdir() if p.suffix != ".toml"]
    assert sorted([toc["root"], *listed]) == sorted(p for p in pages if "/." not in p)
    assert all(part["caption"] for part in toc["parts"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_to_sections_name_one_that_is_there(path):
    def slug(title):  # MyST's rule, which is GitHub's
        return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")

    source = path.read_text("utf-8")
    for page, section in re.findall(r"\]\((\w+)\.ipynb#([\w-]+)\)", source):
        titles = headings(CHAPTERS / f"{page}.ipynb")
        assert section in map(slug, titles), (page, section)


def test_commands_on_the_pages_are_commands():
    found = []
    for path in PAGES:
        found += re.findall(r"python -m experiments (\w+)", text(path))
    assert found and set(found) <= set(experiments.ARMS)


def test_each_erratum_has_its_parts_and_leads_to_a_chapter():
    source = "\n\n".join(
        cell.source
        for cell in nbformat.read(CHAPTERS / "errata.ipynb", as_version=4).cells
    )
    entries = source.split("\n### ")[1:]
    assert len(entries) >= 12
    for entry in entries:
        entry = entry.split("\n## ")[0]
        for part in ("**Claim:**", "**In fact:**"):
            assert entry.count(part) == 1, entry
        assert "**How we know:**" in entry
        assert re.search(r"\w+\.ipynb(#[\w-]+)?\)", entry), entry


def public(module):
    """The names of a module that do not begin with _, and that it does not import."""
    names = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if module is d2l_dense and isinstance(node, ast.ImportFrom):
            names |= {name.name for name in node.names} - {"find_spec", *MODULES}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and module is not d2l_dense:
            names |= {target.id for target in node.targets}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", [d2l_dense, cost, exercises, memory, plots, records])
def test_the_api_page_has_every_public_name_and_no_other(module):
    page = (CHAPTERS / "api.md").read_text("utf-8")
    found = set()
    for part in page.split(".. currentmodule:: ")[1:]:
        if part.split("\n")[0] == module.__name__:
            directive = r"^\.\. (?:auto|py:)\w+:: (\w+)$"
            found |= set(re.findall(directive, part, re.MULTILINE))
    assert found == public(module)


def test_docstrings_name_headings_that_are_there():
    known = {title for path in NOTEBOOKS for title in headings(path)}
    found = []
    for path in (ROOT / "d2l_dense").glob("*.py"):
        found += api.CHAPTER.findall(" ".join(path.read_text("utf-8").split()))
    assert len(found) >= 15
    assert {title for title in found if title.removeprefix("★ ") not in known} == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_says_what_it_needs(path):
    needs = nbformat.read(path, as_version=4).metadata["d2l_dense"]["needs"]
    assert len(needs) > 5 and not needs.endswith(".")


def test_minutes_are_those_of_what_is_open():
    def cell(**options):
        code = nodes.literal_block("", "", nodes.Text("x = 1\n" * 12))
        inside = nodes.container("", code, classes=["cell_input"])
        return nodes.container("", inside, **options)

    def section(*parts):
        return nodes.section("", nodes.title("", "Title"), *parts)

    def words(text="word " * 400):
        return nodes.paragraph("", text)

    def raw(text):
        return nodes.raw("", text, format="html")

    deeper = section(words("★ Goes deeper."), words())
    quiz = section(words(), raw("<details>"), words(), raw("</details>"))
    box = nodes.admonition("", words(), classes=["dropdown"])
    page = section(words(), cell(), cell(hide_mode="input"), quiz, box, deeper)
    assert [head.minutes(part) for part in (page, deeper)] == [4, 2]
    head.mark(deeper)
    assert deeper[1].astext() == "★ Goes deeper. About 2 minutes."
    assert not head.starred(page) and head.starred(deeper)


# The built pages


@pytest.mark.pages
def test_the_head_stands_below_the_title(open_page):
    page = open_page("chapters/densenet.html")
    lines = page.locator("h1 + ul.chapter-head li").all_inner_texts()
    assert [line.split(":")[0] for line in lines[:2]] == ["You need", "To read"]
    assert re.search(r"about \d+ minutes without .*; sections .* [1-9] more", lines[1])
    marks = page.locator(":is(h2, h3) + p > em:last-child").all_inner_texts()
    assert all(re.fullmatch(r"About [1-9]\d* minutes?\.", mark) for mark in marks)
    starred = page.locator("p", has_text="★ Goes deeper").all_inner_texts()
    assert len(marks) > len(starred) == 4 and starred[0].endswith(" minutes.")
    links = page.locator("article a[href^='references.html#']")
    assert links.count() > 5
    assert all(len(link.get_attribute("title") or "") > 30 for link in links.all())
    captions = page.locator(".bd-sidebar-primary p.caption").all_inner_texts()
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    assert captions == [part["caption"] for part in toc["parts"]]


@pytest.mark.pages
def test_the_api_page_shows_names_and_leads_to_chapters(open_page):
    page = open_page("chapters/api.html")
    for name in public(d2l_dense):
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


def test_the_lines_of_the_readme_print_what_it_shows(capsys):
    readme = (ROOT / "README.md").read_text("utf-8")
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", readme, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == printed
