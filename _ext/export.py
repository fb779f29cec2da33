"""Every chapter as a notebook that runs anywhere: `notebooks/` in the pages.

Beside the notebooks lies the package as a wheel, with the records in it. A
notebook's first cell installs that, or the repository's where its address is
known.
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

import address
import plain
import solutions

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

KINDS = {
    "code-block": "Listing",
    "displaymath": "Equation",
    "exercise": "Exercise",
    "figure": "Figure",
    "section": "Section",
    "table": "Table",
}


class References:
    """What labels, pages and citations of the built book stand for."""

    def __init__(self, env, docname, found):
        self.env, self.docname, self.found = env, docname, found
        self.entries = {}
        for file in env.config.bibtex_bibfiles:
            self.entries |= parse_file(str(Path(env.srcdir, file))).entries

    def number(self, label):
        docname, anchor = self._place(label)
        return self._numbered(docname, anchor)[1]

    def refer(self, role, target, title):
        if role.startswith("cite"):
            return self._cite(target)
        docname, anchor = self._place(target)
        if docname is None:
            return title or target, None
        kind, number = self._numbered(docname, anchor)
        if role == "eq":
            text = f"({number})"
        elif role == "numref" and title:
            text = title.replace("{number}", number).replace("%s", number)
        elif number:
            text = title or f"{KINDS.get(kind, kind)} {number}"
        else:
            text = title or self._title(target, docname, anchor)
        if not self.found:
            return text, None
        return text, f"{self.found.pages}{docname}.html{anchor and f'#{anchor}'}"

    def _place(self, target):
        """The page and the anchor that a label, term, path or path#label names."""
        std = self.env.get_domain("std")
        equations = self.env.get_domain("math").equations
        label = target.removeprefix("#")
        for name in (label, label.lower()):
            if name in std.anonlabels:
                return std.anonlabels[name][:2]
            if ("term", name) in std.objects:
                return std.objects["term", name]
            if name in equations:
                return equations[name][0], f"equation-{name}"
        path, _, anchor = target.partition("#")
        if not path:
            return self.docname, anchor
        folder = "" if path.startswith("/") else posixpath.dirname(self.docname)
        docname = posixpath.normpath(posixpath.join(folder, path.lstrip("/")))
        for name in (docname, posixpath.splitext(docname)[0]):
            if name in self.env.all_docs:
                return name, anchor
        return None, ""

    def _numbered(self, docname, anchor):
        for kind, numbers in self.env.toc_fignumbers.get(docname, {}).items():
            if anchor in numbers:
                return kind, ".".join(map(str, numbers[anchor]))
        return "", ""

    def _title(self, target, docname, anchor):
        if not anchor:
            return self.env.titles[docname].astext()
        labels = self.env.get_domain("std").labels.values()
        return {label[:2]: label[2] for label in labels}.get((docname, anchor), target)

    def _cite(self, key):
        entry = self.entries[key]
        people = entry.persons.get("author") or entry.persons["editor"]
        names = [
            str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names])))
            for person in people
        ]
        several = names[0] if len(names) == 1 else " and ".join(names)
        who = f"{names[0]} et al." if len(names) > 2 else several
        doi, year = entry.fields.get("doi"), entry.fields["year"]
        url = f"https://doi.org/{doi}" if doi else entry.fields.get("url")
        return f"{who} ({year})", url


def convert(notebook, refer, number, folder):
    """Turn a notebook's Markdown into plain Markdown, and nothing else."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            page = plain.Plain(refer, number, folder)
            cell.source = page.convert(cell.source)
            if page.attachments:
                cell.attachments = page.attachments
    return notebook


def with_setup(notebook, wheel, found, d2l):
    """Put the cells that install what it needs first."""
    package = "None"
    if found:
        package = f'(\n    "git+{found.repository}"\n    "@{address.commit()}"\n)'
    where = f", from [its repository]({found.repository})" if found else ""
    code = SETUP.format(wheel=wheel, address=package, d2l=d2l)
    cells = [
        nbformat.v4.new_markdown_cell(PROSE.format(where=where), id="set-up-prose"),
        nbformat.v4.new_code_cell(code.rstrip("\n"), id="set-up"),
    ]
    notebook.cells[:0] = cells
    return notebook


def build_wheel(root, folder):
    """Build the package into the folder; return the file's name.

    From a copy: setuptools leaves its work in the folder that it builds from,
    and takes it up again.
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


def d2l_requirement(root):
    lines = Path(root, "requirements-d2l.txt").read_text("utf-8").splitlines()
    (requirement,) = (line for line in lines if line and not line.startswith("#"))
    return requirement


def start(app):
    """Build the wheel first: the pages link to it by its name."""
    if app.builder.format == "html":
        folder = Path(app.outdir, "notebooks")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        app.wheel = build_wheel(Path(app.srcdir), folder)


def finish(app, exception):
    """Write the notebooks, when every label is known."""
    if exception or app.builder.format != "html":
        return
    found = address.find()
    for docname in sorted(app.env.found_docs):
        path = Path(app.env.doc2path(docname))
        if path.suffix != ".ipynb":
            continue
        notebook = nbformat.read(path, as_version=4)
        if not solutions.WANTED:
            notebook.cells = plain.without_solutions(notebook.cells)
        references = References(app.env, docname, found)
        convert(notebook, references.refer, references.number, path.parent)
        with_setup(notebook, app.wheel, found, d2l_requirement(app.srcdir))
        nbformat.write(notebook, Path(app.outdir, "notebooks", path.name))


def setup(app):
    app.connect("builder-inited", start)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True}
