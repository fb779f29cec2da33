"""Every chapter as a notebook that runs anywhere: `notebooks/` in the pages.

Beside the notebooks lies the package as a wheel, with the records in it. A notebook's
first cell installs that, or the repository's where its address is known.
"""

import posixpath
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from pybtex.database import parse_file
from pybtex.richtext import Text
from sphinx.util import logging

import address
import plain
import solutions

logger = logging.getLogger(__name__)

SETUP = """\
# Installs the book's package and what it needs, where they are missing. The
# torch, numpy and other packages that are here stay as they are.
import re
import subprocess
import sys
from importlib import invalidate_caches, metadata
from pathlib import Path

WHEEL = "{wheel}"
ADDRESS = {address}


def install(*packages):
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *packages], check=True)
    invalidate_caches()


def versions(requirement):
    name = re.match(r"[\\w.-]+", requirement)[0]
    return [f"{{name}}=={{d.version}}" for d in metadata.distributions(name=name)]


if not versions("d2l_dense"):
    if not Path(WHEEL).exists() and not ADDRESS:
        raise FileNotFoundError(f"Lay {{WHEEL}} beside this notebook.")
    install("--no-deps", WHEEL if Path(WHEEL).exists() else ADDRESS)
needs = [r for r in metadata.requires("d2l_dense") if "extra ==" not in r]
if missing := [need for need in needs if not versions(need)]:
    install(*missing, *(v for need in needs for v in versions(need)[:1]))
if not versions("{d2l}"):
    install("--no-deps", "{d2l}")  # it asks for packages of 2023
"""
PROSE = """\
**Set-up.** The next cell installs what this notebook needs{where}. Run it first;
on Kaggle, switch the notebook's internet on before.
"""
FOLDED = {"hide-input", "hide-cell", "remove-input"}


class References:
    """What labels, pages and citations of the built book stand for, as Markdown."""

    def __init__(self, env, docname, pages):
        self.env, self.docname, self.pages = env, docname, pages
        self.folder = Path(env.doc2path(docname)).parent
        files = (Path(env.srcdir, file) for file in env.config.bibtex_bibfiles)
        self.entries = {k: v for f in files for k, v in parse_file(f).entries.items()}

    def warn(self, what):
        message = "not known to the exported notebooks (plain.py): %s"
        logger.warning(message, what, location=self.docname)

    def numbered(self, label):
        """Page, anchor and number of an exercise or a formula."""
        for docname, kinds in self.env.toc_fignumbers.items():
            numbers = {k: n for kind in kinds.values() for k, n in kind.items()}
            for anchor in (label, f"equation-{label}"):
                if anchor in numbers:
                    return docname, anchor, ".".join(map(str, numbers[anchor]))
        self.warn(f"the label {label}")
        return self.docname, label, label

    def formula(self, label):
        docname, anchor, number = self.numbered(label)
        return self._linked(f"({number})", docname, anchor)

    def link(self, target, text):
        """A page of this book, as `page.ipynb#a-heading` or `page.html?key=value`."""
        path, _, slug = target.partition("#")
        path, _, query = path.partition("?")
        beside = posixpath.join(posixpath.dirname(self.docname), path)
        docname = posixpath.splitext(beside)[0] if path else self.docname
        if docname not in self.env.titles:
            self.warn(f"the link to {target}")
            return text
        headings = self.env.metadata[docname].get("myst_slugs", {})
        _, anchor, title = headings.get(slug, (None, slug, slug))
        title = text or title or self.env.titles[docname].astext()
        return self._linked(title, docname, anchor, query)

    def cite(self, key):
        entry = self.entries[key]
        people = entry.persons.get("author") or entry.persons["editor"]
        names = [
            str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names])))
            for person in people
        ]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        doi = entry.fields.get("doi")
        url = f"https://doi.org/{doi}" if doi else entry.fields.get("url")
        text = f"{who} ({entry.fields['year']})"
        return f"[{text}]({url})" if url else text

    def _linked(self, text, docname, anchor, query=""):
        if not self.pages:
            return text
        place = docname + ".html" + (query and f"?{query}") + (anchor and f"#{anchor}")
        return f"[{text}]({self.pages}{place})"


def convert(notebook, references):
    """Make the Markdown plain, and fold the code that the pages fold."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain.convert(cell.source, references)
        elif FOLDED & {*cell.metadata.get("tags", [])}:
            prompt = cell.metadata.get("mystnb", {}).get("code_prompt_show", "Code")
            cell.source = f"# @title {prompt}\n{cell.source}"  # Colab shows this line
            cell.metadata["cellView"] = "form"
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def with_setup(notebook, wheel, found, d2l):
    """Put the cells that install what it needs first."""
    package, where = "None", ""
    if found:
        commit = address.git("rev-parse", "HEAD")
        package = f'(\n    "git+{found.repository}"\n    "@{commit}"\n)'
        where = f", from [its repository]({found.repository})"
    code = SETUP.format(wheel=wheel, address=package, d2l=d2l)
    notebook.cells[:0] = [
        nbformat.v4.new_markdown_cell(PROSE.format(where=where), id="set-up-prose"),
        nbformat.v4.new_code_cell(code.rstrip("\n"), id="set-up"),
    ]
    return notebook


def build_wheel(root, folder):
    """Build the package into the folder; return the file's name.

    From a copy: setuptools leaves its work in the folder that it builds from, and takes
    it up again.
    """
    with tempfile.TemporaryDirectory() as copy:
        for name in ("d2l_dense", "results"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, Path(copy, name), ignore=ignored)
        for name in ("pyproject.toml", "LICENSE"):
            shutil.copy(root / name, copy)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        options = ["--no-build-isolation", "--wheel-dir", folder]
        subprocess.run([*pip, *options, copy], check=True)
    (wheel,) = Path(folder).glob("d2l_dense-*.whl")
    return wheel.name


def start(app):
    """Build the wheel first: the pages link to it by its name."""
    if app.builder.name == "html":
        folder = Path(app.outdir, "notebooks")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        app.wheel = build_wheel(Path(app.srcdir), folder)


def finish(app, exception):
    """Write the notebooks, when every label is known."""
    if exception or app.builder.name != "html":
        return
    found = address.find()
    lines = Path(app.srcdir, "requirements-d2l.txt").read_text("utf-8").splitlines()
    for docname in sorted(app.env.found_docs):
        path = Path(app.env.doc2path(docname))
        if path.suffix == ".ipynb":
            notebook = nbformat.read(path, as_version=4)
            if not solutions.WANTED:
                notebook = solutions.without(notebook)
            convert(notebook, References(app.env, docname, found and found.pages))
            with_setup(notebook, app.wheel, found, d2l=lines[-1])
            nbformat.write(notebook, Path(app.outdir, "notebooks", path.name))


def setup(app):
    app.connect("builder-inited", start)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True}
