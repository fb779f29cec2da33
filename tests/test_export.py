"""The exported notebooks, the buttons, and the builds beside the book."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import HTML

import address
import buttons
import export
import plain

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
EXPORTED = HTML / "notebooks"
MYST = re.compile(r"\{[a-z][\w:.-]*\}`|^\s*[`~:]{3,}\{|:::|^\(.+\)=$", re.MULTILINE)
HUB = address.Address("some-one", "dense.net")

every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def refer(role, target, title):
    return title or f"{role} {target}", f"https://book/{target}"


def convert(text, folder=ROOT / "chapters"):
    return plain.Plain(refer, lambda label: "7" if label else "", folder).convert(text)


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        ("a {ref}`b` c", "a [ref b](https://book/b) c"),
        ("{numref}`Figure %s <b>`", "[Figure %s](https://book/b)"),
        ("{cite}`a, b`", "[[cite a](https://book/a); [cite b](https://book/b)]"),
        ("{cite:t}`a`", "[cite:t a](https://book/a)"),
        ("{math}`x^2` and {kbd}`Tab`", "$x^2$ and <kbd>Tab</kbd>"),
        ("{doc}`text <b>`\nnext", "[text](https://book/b)\nnext"),
        (
            "| {ref}`a` | {ref}`a` |\n|-|-|",
            "| [ref a](https://book/a) | [ref a](https://book/a) |\n|-|-|",
        ),
        ("[text](b.ipynb)", "[text](https://book/b.ipynb)"),
        ("[text](#b), [](#c)", "[text](https://book/#b), [link #c](https://book/#c)"),
        ("[text](https://d2l.ai)", "[text](https://d2l.ai)"),
        ("$$x$$ (eq-b)", r"$$x \tag{7}$$"),
        ("(label)=\n# Title\n", "# Title\n"),
        ("% a comment\ntext\n", "text\n"),
        (
            "```{exercise} Name\n:label: b\nDo {ref}`b`.\n```\n",
            "**Exercise 7 (Name).**\n\nDo [ref b](https://book/b).\n",
        ),
        ("```{solution} b\nSo.\n```", "**Solution of ref b.**\n\nSo."),
        (
            ":::{note}\nSee {eq}`b`.\n:::\n",
            "> **Note.**\n>\n> See [eq b](https://book/b).\n",
        ),
        ("- a\n  ```{tip}\n  b\n  ```\n- c\n", "- a\n  > **Tip.**\n  >\n  > b\n- c\n"),
        (
            "````{admonition} T\n```{note}\nb\n```\n````",
            "> **T.**\n>\n> > **Note.**\n> >\n> > b",
        ),
        ("```{raw} html\n<b>b</b>\n```\n", "<b>b</b>\n"),
        ("\\begin{align}\na\n\\end{align}", None),
        ("```{bibliography}\n:cited:\n```\n", ""),
        ("```python\nx = '{ref}`a`'\n```\n", "```python\nx = '{ref}`a`'\n```\n"),
        ("A code span, `` {ref}`a` ``, stays.", "A code span, `` {ref}`a` ``, stays."),
        ("<details><summary>Hint</summary>\n\nb\n\n</details>", None),
    ],
)
def test_markdown_of_myst(myst, markdown):
    assert convert(myst) == (myst if markdown is None else markdown)


def test_included_code_and_pictures_come_along(tmp_path):
    (tmp_path / "code.py").write_text("import os\n\ndef f():\n    return 1\n")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    page = plain.Plain(refer, lambda label: "", tmp_path)
    code = "```{literalinclude} code.py\n:pyobject: f\n```"
    assert page.convert(code) == "```python\ndef f():\n    return 1\n```"
    assert page.convert("![An a](a.png)") == "![An a](attachment:a.png)"
    figure = "```{figure} a.png\n:alt: An a\nCaption.\n```"
    assert page.convert(figure) == "![An a](attachment:a.png)\n\nCaption."
    assert page.attachments == {"a.png": {"image/png": "iVBORw=="}}


@every_chapter
def test_chapters_lose_their_myst_and_nothing_else(path):
    chapter = nbformat.read(path, as_version=4)
    notebook = export.convert(deepcopy(chapter), refer, str, path.parent)
    nbformat.validate(notebook)
    for was, cell in zip(chapter.cells, notebook.cells, strict=True):
        if cell.cell_type == "markdown":
            assert MYST.findall(cell.source) == []
        else:
            assert cell == was
        # What a cell prints in the book must be plain when it runs elsewhere.
        printed = [output.get("data", {}) for output in cell.get("outputs", [])]
        assert MYST.findall("".join(d.get("text/markdown", "") for d in printed)) == []


@pytest.fixture
def references():
    """References of a small book, on the page chapters/a."""
    std = SimpleNamespace(
        anonlabels={"ex-b": ("chapters/b", "ex-b"), "sec": ("chapters/b", "sec-id")},
        labels={"sec": ("chapters/b", "sec-id", "A section")},
        objects={("term", "growth rate"): ("chapters/g", "term-growth-rate")},
    )
    math = SimpleNamespace(equations={"eq-b": ("chapters/b", 3)})
    title = SimpleNamespace(astext=lambda: "Page B")
    env = SimpleNamespace(
        get_domain={"std": std, "math": math}.get,
        toc_fignumbers={
            "chapters/b": {
                "exercise": {"ex-b": (2,)},
                "displaymath": {"equation-eq-b": (3,)},
            }
        },
        all_docs={"chapters/a", "chapters/b", "chapters/g"},
        titles={"chapters/b": title},
        config=SimpleNamespace(bibtex_bibfiles=["references.bib"]),
        srcdir=ROOT,
    )
    return export.References(env, "chapters/a", HUB)


@pytest.mark.parametrize(
    ("role", "target", "title", "text", "place"),
    [
        ("ref", "ex-b", "", "Exercise 2", "b.html#ex-b"),
        ("ref", "sec", "", "A section", "b.html#sec-id"),
        ("numref", "ex-b", "Task %s", "Task 2", "b.html#ex-b"),
        ("eq", "eq-b", "", "(3)", "b.html#equation-eq-b"),
        ("doc", "b", "", "Page B", "b.html"),
        ("doc", "/chapters/b", "this", "this", "b.html"),
        ("term", "Growth rate", "", "Growth rate", "g.html#term-growth-rate"),
        ("link", "b.ipynb", "there", "there", "b.html"),
        ("link", "b.md#part", "there", "there", "b.html#part"),
        ("link", "#ex-b", "", "Exercise 2", "b.html#ex-b"),
        ("link", "code.py", "there", "there", None),
    ],
)
def test_references_lead_to_the_published_pages(
    references, role, target, title, text, place
):
    url = place and f"{HUB.pages}chapters/{place}"
    assert references.refer(role, target, title) == (text, url)
    references.found = None
    assert references.refer(role, target, title) == (text, None)


@pytest.mark.parametrize(
    ("key", "text", "url"),
    [
        (
            "huang2017densely",
            "Huang et al. (2017)",
            "https://doi.org/10.1109/CVPR.2017.243",
        ),
        ("ioffe2015batch", "Ioffe and Szegedy (2015)", None),
        ("decock2011ames", "De Cock (2011)", None),
    ],
)
def test_citations_name_authors_and_year(references, key, text, url):
    found = references.refer("cite", key, "")
    assert found[0] == text
    assert found[1].startswith(url or "https://")


def test_answers_can_be_left_out():
    text = (
        "Ask.\n\n<details><summary>Hint: a</summary>\n\nThink.\n\n</details>\n\n"
        "<details><summary>Answer: a</summary>\n\nSo <b>it</b>.\n\n</details>\n\n"
        "```{solution} a\nSo it is.\n```\n\n"
        "```{dropdown} Answer\nSo it was.\n```\n\n"
        ":::{exercise}\nDo.\n\n<details><summary>Solution</summary>\nDone.\n</details>\n:::\n"
    )
    cells = [
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell("1"),
        nbformat.v4.new_markdown_cell("```{solution-start} b\n```\nSo"),
        nbformat.v4.new_code_cell("2"),
        nbformat.v4.new_markdown_cell("So\n\n```{solution-end}\n```\n\nEnd."),
    ]
    kept = plain.without_solutions(cells)
    assert [cell.source.split() for cell in kept] == [
        [
            *["Ask.", "<details><summary>Hint:", "a</summary>", "Think.", "</details>"],
            *[":::{exercise}", "Do.", ":::"],
        ],
        ["1"],
        ["End."],
    ]


@pytest.mark.parametrize(
    ("url", "owner_and_name"),
    [
        ("https://github.com/some-one/dense.net.git", ("some-one", "dense.net")),
        ("https://github.com/a/b/", ("a", "b")),
        ("https://user:secret@github.com/a/b.git", ("a", "b")),
        ("git@github.com:a/b.git", None),
        ("http://github.com/a/b", None),
        ("https://example.org/a/b", None),
        ("https://github.com.example.org/a/b", None),
        ("https://github.com:8443/a/b", None),
        ("https://github.com:x/a/b", None),
        ("https://github.com/a/b/c", None),
        ('https://github.com/a/b"><script>', None),
        ("/a/folder", None),
        ("", None),
        (None, None),
    ],
)
def test_only_github_counts(url, owner_and_name):
    found = address.parse(url)
    assert found == (owner_and_name and address.Address(*owner_and_name))
    assert "secret" not in f"{found and found.repository}"


def test_address_comes_from_ci_or_else_from_origin(monkeypatch, tmp_path):
    monkeypatch.setattr(address, "ROOT", tmp_path)
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert address.find() is None
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert address.find() is None
    url = "https://user:secret@github.com/a/b.git"
    command = ["git", "-C", tmp_path, "remote", "add", "origin", url]
    subprocess.run(command, check=True)
    assert address.find() == address.Address("a", "b")
    monkeypatch.setenv("GITHUB_REPOSITORY", "c/d")
    assert address.find() == address.Address("c", "d")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://example.org")
    assert address.find() is None


def test_pages_have_their_address():
    assert HUB.pages == "https://some-one.github.io/dense.net/"
    assert address.Address("A", "a.github.io").pages == "https://a.github.io/"


def labels(monkeypatch, found, source="chapters/a.ipynb"):
    """Which buttons a page gets, by their labels, with their addresses."""
    monkeypatch.setattr(address, "find", lambda: found)
    old = {"type": "link", "label": "download-source-button", "url": "_sources/a"}
    pdf = {"type": "javascript", "label": "download-pdf-button"}
    issue = {"type": "link", "label": "source-issues-button", "text": "open issue"}
    groups = [
        {"label": "download-buttons", "buttons": [old, pdf]},
        {"label": "source-buttons", "buttons": [issue]},
    ]
    env = SimpleNamespace(doc2path=lambda name: source)
    app = SimpleNamespace(env=env, wheel="d2l_dense.whl")
    context = {"header_buttons": groups, "pathto": lambda name, resource: f"../{name}"}
    buttons.amend(app, "chapters/a", "page.html", context, None)
    assert issue["text"] == "Report an error"
    return {
        button["label"]: button.get("url")
        for group in context["header_buttons"]
        for button in group["buttons"]
    }


def test_buttons_without_an_address(monkeypatch):
    found = labels(monkeypatch, None)
    assert found.pop("download-notebook-button") == "../notebooks/a.ipynb"
    assert found.pop("download-package-button") == "../notebooks/d2l_dense.whl"
    assert found.keys() == {"download-pdf-button", "source-issues-button"}
    assert labels(monkeypatch, None, "a.md").keys() == found.keys()


def test_buttons_launch_the_exported_notebook(monkeypatch):
    found = labels(monkeypatch, HUB)
    path = "some-one/dense.net/blob/gh-pages/notebooks/a.ipynb"
    assert found["launch-colab"] == f"https://colab.research.google.com/github/{path}"
    source = f"https://github.com/{path}".replace(":", "%3A").replace("/", "%2F")
    assert found["launch-kaggle"] == f"https://kaggle.com/kernels/welcome?src={source}"
    assert "launch-colab" not in labels(monkeypatch, HUB, "a.md")


@pytest.mark.parametrize("found", [None, HUB], ids=["no address", "GitHub"])
def test_theme_links_to_the_repository_if_there_is_one(monkeypatch, found):
    monkeypatch.setattr(address, "find", lambda: found)
    config = SimpleNamespace(html_theme_options={"use_issues_button": False})
    buttons.set_address(None, config)
    options = config.html_theme_options
    assert options["repository_url"] == (found.repository if found else "")
    names = ("use_issues_button", "use_edit_page_button", "use_repository_button")
    assert [options[name] for name in names] == [bool(found)] * 3


@pytest.mark.parametrize("found", [None, HUB], ids=["no address", "GitHub"])
def test_first_code_cell_installs(monkeypatch, found):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
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


def test_wheel_brings_every_record(tmp_path):
    wheel = tmp_path / export.build_wheel(ROOT, tmp_path)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    for name in ("results", "d2l_dense"):
        folder = installed / "d2l_dense" / ("results" if name == "results" else "")
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = folder / path.relative_to(ROOT / name)
                assert copy.read_bytes() == path.read_bytes()
    code = "from d2l_dense import records; print(records.RESULTS)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    run = [sys.executable, "-c", code]
    found = subprocess.check_output(run, cwd=tmp_path, env=environment, text=True)
    assert Path(found.strip()) == installed / "d2l_dense" / "results"


def test_publishing_pushes_the_pages_alone(tmp_path):
    book, hub = tmp_path / "book", tmp_path / "hub.git"
    (book / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "publish.sh", book / "tools")
    git = ["git", "-C", str(book), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "--bare", hub], check=True)
    for command in (
        ["init", "-q"],
        ["add", "--all"],
        ["commit", "-q", "-m", "Book"],
        ["remote", "add", "origin", hub],
    ):
        subprocess.run([*git, *command], check=True)
    publish = ["sh", book / "tools" / "publish.sh"]
    done = subprocess.run(publish, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "There are no pages yet: run make book first.\n"
    html = book / "_build" / "html"
    html.mkdir(parents=True)
    for text in ("one", "two"):
        (html / "index.html").write_text(text)
        subprocess.run(publish, check=True)
        show = ["git", "-C", hub, "show", "gh-pages:index.html"]
        assert subprocess.check_output(show, text=True) == text
    tree = ["git", "-C", hub, "ls-tree", "-r", "--name-only", "gh-pages"]
    assert subprocess.check_output(tree, text=True).split() == [
        ".nojekyll",
        "index.html",
    ]


@pytest.fixture(scope="module")
def built():
    if not (HTML / "index.html").exists():
        pytest.skip("the pages are not built: run make book")


@pytest.mark.pages
@every_chapter
def test_built_notebooks_are_the_chapters(built, path):
    notebook = nbformat.read(EXPORTED / path.name, as_version=4)
    nbformat.validate(notebook)
    chapter = nbformat.read(path, as_version=4)
    assert [cell.source for cell in chapter.cells if cell.cell_type == "code"] == [
        cell.source for cell in notebook.cells[2:] if cell.cell_type == "code"
    ]
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert MYST.findall("\n".join(text)) == []


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
    assert ("Report an error" in text) == ("Edit this page" in text) == known
    assert ("launch-colab" in text) == (known and is_notebook)
    assert "_sources/" not in text


@pytest.mark.pages
@pytest.mark.slow
def test_book_prints_as_one_pdf(built, tmp_path):
    done = subprocess.run([sys.executable, ROOT / "tools" / "pdf.py"], cwd=tmp_path)
    assert done.returncode == 0
    pdf = (ROOT / "_build" / "pdf" / "book.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") > 2 * len(CHAPTERS)
    assert b"127.0.0.1" not in pdf


@pytest.mark.slow
def test_build_without_solutions_holds_none(tmp_path):
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", "-q", "-n", "-W", "--path-output", tmp_path, ROOT]
    environment = os.environ | {"SOLUTIONS": "0"}
    subprocess.run(command, check=True, env=environment)
    built = tmp_path / "_build" / "html"
    assert len(list((built / "notebooks").glob("*.ipynb"))) == len(CHAPTERS)
    for path in built.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".md"):
            text = path.read_text("utf-8")
            assert not plain.OPENS_SOLUTION.search(text), path
