"""The exported notebooks, the buttons, and the builds beside the book."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import HTML, ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import address
import buttons
import export
import plain
import solutions

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
EXPORTED = HTML / "notebooks"
MYST = re.compile(r"\{[a-z][\w:.-]*\}`|^\s*[`~:]{3,}\{|:::|^\(.+\)=$", re.MULTILINE)
HUB = address.Address("some-one", "dense.net")


@pytest.fixture
def references():
    """References of the page chapters/a, as Sphinx has them for a small book."""
    titles = {"chapters/a": "Page A", "chapters/b": "Page B"}
    formula, exercise = {"equation-eq-b": (3,)}, {"ex-b": (2,)}
    slugs = {"at": (1, "id", "At")}
    env = SimpleNamespace(
        toc_fignumbers={"chapters/b": {"displaymath": formula, "exercise": exercise}},
        metadata={"chapters/a": {}, "chapters/b": {"myst_slugs": slugs}},
        titles={k: SimpleNamespace(astext=lambda v=v: v) for k, v in titles.items()},
        config=SimpleNamespace(bibtex_bibfiles=["references.bib"]),
        srcdir=ROOT,
        doc2path=lambda docname: str(ROOT / f"{docname}.ipynb"),
    )
    references = export.References(env, "chapters/a", HUB.pages)
    references.unknown = []
    references.warn = references.unknown.append
    return references


PAGE_B = f"{HUB.pages}chapters/b.html"
HUANG = "[Huang et al. (2017)](https://doi.org/10.1109/CVPR.2017.243)"
EXERCISE = "```{exercise} Name\n:label: ex-b\nDo [it](b.ipynb).\n```\n"
OWN_EXERCISE = "```{exercise} Name\n:label: ex-c\n:nonumber:\nDo it.\n```\n"
BOXES = "````{admonition} T\n```{tip}\nb\n```\n````"


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        ("{cite}`huang2017densely`.", f"[{HUANG}]."),
        ("{cite:t}`huang2017densely`", HUANG),
        ("by {eq}`eq-b`", f"by [(3)]({PAGE_B}#equation-eq-b)"),
        ("[text](b.ipynb)", f"[text]({PAGE_B})"),
        ("[](b.ipynb)", f"[Page B]({PAGE_B})"),
        ("[a `b`](b.md#at)", f"[a `b`]({PAGE_B}#id)"),
        ("[](b.md#at)", f"[At]({PAGE_B}#id)"),
        ("[text](b.html?k=12#at)", f"[text]({PAGE_B}?k=12#id)"),
        ("[text](#here)", f"[text]({HUB.pages}chapters/a.html#here)"),
        ("| [a](b.ipynb) |\n|-|", f"| [a]({PAGE_B}) |\n|-|"),
        ("$$\nx\n$$ (eq-b)", r"$$x \tag{3}$$"),
        ("(label)=\n# Title\n", "# Title\n"),
        (EXERCISE, f"**Exercise 2 (Name).**\n\nDo [it]({PAGE_B}).\n"),
        (OWN_EXERCISE, "**Exercise (Name).**\n\nDo it.\n"),
        (":::{note}\nSee `it`.\n:::\n", "> **Note.**\n> \n> See `it`.\n"),
        (BOXES, "> **T.**\n> \n> > **Tip.**\n> > \n> > b"),
        ("```{raw} html\n<b>b</b>\n```\n", "<b>b</b>\n\n"),
        ("[text](https://d2l.ai)", None),
        ("$$x$$ and (y) and $a$", None),
        ("```python\nx = '{eq}`a`'\n```\n", None),
        ("A code span, `` {eq}`a` ``, stays.", None),
        ("<details><summary>Hint</summary>\n\nb\n\n</details>", None),
    ],
)
def test_markdown_of_myst(references, myst, markdown):
    assert plain.convert(myst, references) == (myst if markdown is None else markdown)
    assert references.unknown == []


def test_what_is_not_known_is_said(references):
    for myst, unknown in {
        "{kbd}`Tab`": "the role kbd",
        "```{figure} a.png\n```\n": "the directive figure",
        "{eq}`none`": "the label none",
        "[text](none.ipynb)": "the link to none.ipynb",
        "![An a](a.png)": "a picture by path: ![An a](a.png)",
    }.items():
        plain.convert(myst, references)
        assert references.unknown.pop() == unknown


def test_citations_and_text_without_an_address(references):
    who = references.cite("ioffe2015batch")
    assert who.startswith("[Ioffe and Szegedy (2015)](https://")
    assert references.cite("decock2011ames").startswith("[De Cock (2011)](https://")
    references.pages = None
    assert plain.convert("[t](b.ipynb), {eq}`eq-b`", references) == "t, (3)"


def test_solutions_can_be_left_out():
    text = (
        "Ask.\n\n<details><summary>Hint: a</summary>\n\nThink.\n\n</details>\n\n"
        "<details><summary>Answer: a</summary>\n\nSo <b>it</b>.\n\n</details>\n\n"
        "<details>\n<summary>Solution</summary>\nDone.\n</details>\n"
    )
    shown = {"mystnb": {"code_prompt_show": "Show a solution"}}
    code = new_code_cell("1"), new_code_cell("2", metadata=shown)
    alone = new_markdown_cell("<details><summary>Solution</summary>So</details>")
    notebook = new_notebook(cells=[new_markdown_cell(text), *code, alone])
    kept = solutions.without(notebook).cells
    hint = "Ask.\n\n<details><summary>Hint: a</summary>\n\nThink.\n\n</details>\n\n"
    assert [cell.source for cell in kept] == [hint, "1"]


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/some-one/dense.net.git",
        "https://user:secret@github.com/some-one/dense.net/",
        "git@github.com:some-one/dense.net.git",
        "ssh://git@github.com/some-one/dense.net",
    ],
)
def test_github_counts_by_https_and_by_ssh(url):
    assert address.parse(url) == HUB
    assert HUB.repository == "https://github.com/some-one/dense.net"
    assert HUB.pages == "https://some-one.github.io/dense.net/"
    assert address.Address("A", "a.github.io").pages == "https://a.github.io/"


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/a/b",
        "https://example.org/a/b",
        "git@example.org:a/b.git",
        "https://github.com.example.org/a/b",
        "https://github.com:8443/a/b",
        "https://github.com/a/b/c",
        'https://github.com/a/b"><script>',
        "/a/folder",
        "",
    ],
)
def test_nothing_else_counts(url):
    assert address.parse(url) is None


def git(folder, *arguments):
    """What git says in a folder."""
    return subprocess.check_output(["git", "-C", folder, *arguments], text=True)


def test_address_comes_from_ci_or_else_from_origin(monkeypatch, tmp_path):
    monkeypatch.setattr(address, "ROOT", tmp_path)
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert address.find() is None
    git(tmp_path, "init", "-q")
    assert address.find() is None
    git(tmp_path, "remote", "add", "origin", "git@github.com:a/b.git")
    assert address.find() == address.Address("a", "b")
    monkeypatch.setenv("GITHUB_REPOSITORY", "c/d")
    assert address.find() == address.Address("c", "d")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://example.org")
    assert address.find() is None


def labels(monkeypatch, found, source="chapters/a.ipynb"):
    """Which buttons a page gets, by their labels, with their addresses."""
    monkeypatch.setattr(address, "find", lambda: found)
    old = {"type": "link", "label": "download-source-button", "url": "_sources/a"}
    pdf = {"type": "javascript", "label": "download-pdf-button"}
    groups = [{"label": "download-buttons", "buttons": [old, pdf]}]
    env = SimpleNamespace(doc2path=lambda name: source)
    app = SimpleNamespace(env=env, wheel="d2l_dense.whl")
    context = {"header_buttons": groups, "pathto": lambda name, resource: f"../{name}"}
    buttons.amend(app, "chapters/a", "page.html", context, None)
    shown = [b for group in context["header_buttons"] for b in group["buttons"]]
    return {button["label"]: button.get("url") for button in shown}


def test_buttons_offer_and_launch_the_exported_notebook(monkeypatch):
    path = "some-one/dense.net/blob/gh-pages/notebooks/a.ipynb"
    source = f"https://github.com/{path}".replace(":", "%3A").replace("/", "%2F")
    downloads = {
        "download-notebook-button": "../notebooks/a.ipynb",
        "download-package-button": "../notebooks/d2l_dense.whl",
        "download-pdf-button": None,
    }
    launches = {
        "launch-colab": f"https://colab.research.google.com/github/{path}",
        "launch-kaggle": f"https://kaggle.com/kernels/welcome?src={source}",
    }
    assert labels(monkeypatch, None) == downloads
    assert labels(monkeypatch, HUB) == downloads | launches
    assert labels(monkeypatch, HUB, "a.md") == {"download-pdf-button": None}


@pytest.mark.parametrize("found", [None, HUB], ids=["no address", "GitHub"])
def test_theme_and_first_cell_name_the_repository_if_there_is_one(monkeypatch, found):
    monkeypatch.setattr(address, "find", lambda: found)
    config = SimpleNamespace(html_theme_options={"use_issues_button": False})
    buttons.set_address(None, config)
    options = config.html_theme_options
    assert options["repository_url"] == (found.repository if found else "")
    names = ("use_issues_button", "use_edit_page_button", "use_repository_button")
    assert [options[name] for name in names] == [bool(found)] * 3
    notebook = new_notebook(cells=[new_code_cell("1")])
    export.with_setup(notebook, "a.whl", found, "d2l==1.0.3")
    prose, code, last = notebook.cells
    assert (prose.cell_type, last.source) == ("markdown", "1")
    compile(code.source, "set-up", "exec")
    assert max(map(len, code.source.splitlines())) <= 79
    assert ('"git+https://github.com/some-one/dense.net"' in code.source) == bool(found)


def test_set_up_says_what_is_missing(tmp_path):
    code = export.SETUP.format(wheel="x.whl", address=None, d2l="d2l")
    code = code.replace("d2l_dense", "no-such-package")
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FileNotFoundError: Lay x.whl beside this notebook." in done.stderr


def test_publishing_pushes_the_pages_alone(tmp_path, monkeypatch):
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a")
    book, html = tmp_path / "book", tmp_path / "book" / "_build" / "html"
    git(tmp_path, "init", "-q", "--bare", "hub.git")
    git(tmp_path, "clone", "-q", "hub.git", "book")
    git(book, "commit", "-q", "--allow-empty", "-m", "Book")
    publish = ["make", "-s", "-C", book, "-f", ROOT / "Makefile", "publish"]
    publish.append(f"py={sys.executable}")
    done = subprocess.run(publish, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith("There are no pages yet: run make book first.\n")
    html.mkdir(parents=True)
    for text in ("one", "two"):
        (html / "index.html").write_text(text)
        subprocess.run(publish, check=True)
        assert git(tmp_path / "hub.git", "show", "gh-pages:index.html") == text
    names = git(tmp_path / "hub.git", "ls-tree", "-r", "--name-only", "gh-pages")
    assert names == ".nojekyll\nindex.html\n"


@pytest.fixture(scope="module")
def built():
    if not (HTML / "index.html").exists():
        pytest.skip("the pages are not built: run make book")


@pytest.mark.pages
def test_the_wheel_brings_every_record(built, tmp_path):
    (wheel,) = EXPORTED.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    package = tmp_path / "d2l_dense"
    for folder, copies in (("d2l_dense", package), ("results", package / "results")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = copies / path.relative_to(ROOT / folder)
                assert copy.read_bytes() == path.read_bytes()
    code = "from d2l_dense import records; print(records.RESULTS)"
    run = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = subprocess.check_output(run, cwd=tmp_path, env=environment, text=True)
    assert Path(found.strip()) == package / "results"


@pytest.mark.pages
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_built_notebooks_are_the_chapters(built, path):
    notebook = nbformat.read(EXPORTED / path.name, as_version=4)
    nbformat.validate(notebook)
    chapter = nbformat.read(path, as_version=4)
    for was, cell in zip(chapter.cells, notebook.cells[2:], strict=True):
        if cell.cell_type == "markdown":
            assert MYST.findall(cell.source) == []
        elif export.FOLDED & {*was.metadata.get("tags", [])}:
            title, source = cell.source.split("\n", 1)
            assert title.startswith("# @title ") and source == was.source
            assert cell.metadata.cellView == "form"
            assert cell.metadata.jupyter.source_hidden
        else:
            assert cell.source == was.source
        # What a cell prints in the book must be plain when it runs elsewhere.
        printed = [output.get("data", {}) for output in cell.get("outputs", [])]
        assert MYST.findall("".join(d.get("text/markdown", "") for d in printed)) == []


@pytest.mark.pages
def test_built_notebooks_cite_number_and_name(built):
    text = (EXPORTED / "densenet.ipynb").read_text("utf-8")
    assert "[[Huang et al. (2017)](https://doi.org/10.1109/CVPR.2017.243)]" in text
    assert "**Exercise 1 (Average or max pooling).**" in text
    assert r"\\tag{1}" in text and "ex-pooling" not in text.replace("#ex-pooling", "")


@pytest.mark.pages
@pytest.mark.parametrize(
    "page", sorted((HTML / "chapters").glob("*.html")), ids=lambda page: page.stem
)
def test_built_pages_offer_what_there_is(built, page):
    text = page.read_text("utf-8")
    is_notebook = (ROOT / "chapters" / f"{page.stem}.ipynb").exists()
    links = re.findall(r'href="\.\./notebooks/([^"]+)"', text)
    expected = [f"{page.stem}.ipynb", *(path.name for path in EXPORTED.glob("*.whl"))]
    assert links == (expected if is_notebook else [])
    assert all((EXPORTED / name).is_file() for name in links)
    known = address.find() is not None
    assert ("source-issues-button" in text) == ("source-edit-button" in text) == known
    assert ("launch-colab" in text) == (known and is_notebook)
    assert "_sources/" not in text


@pytest.mark.pages
@pytest.mark.slow
def test_book_prints_as_one_pdf(built):
    subprocess.run([sys.executable, "-m", "book.pdf"], cwd=ROOT, check=True)
    pdf = (ROOT / "_build" / "pdf" / "book.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.count(b"/Type /Page\n") > 2 * len(CHAPTERS)
    assert b"127.0.0.1" not in pdf


@pytest.mark.slow
def test_build_without_solutions_holds_none(tmp_path):
    run = "from jupyter_book.cli.main import main; main()"
    build = [sys.executable, "-c", run, "build", "-q", "-n", "-W"]
    environment = os.environ | {"SOLUTIONS": "0"}
    command = [*build, "--path-output", tmp_path, ROOT]
    subprocess.run(command, check=True, env=environment)
    html = tmp_path / "_build" / "html"
    assert len(list((html / "notebooks").glob("*.ipynb"))) == len(CHAPTERS)
    for path in html.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".md"):
            text = path.read_text("utf-8")
            assert not solutions.TEXT.search(text), path
            assert "Show a solution" not in text and "_solution(" not in text, path
