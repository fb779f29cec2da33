"""Docstrings as they stand in the code, made readable as pages.

The package writes its docstrings for people who read code: `name` for code, and lines
such as "Shape: ..." or 'Chapter: "..."'. Here the first becomes code, the second a
field, and the chapter a link to the section of that name.
"""

import re
from pathlib import Path

import nbformat
from docutils.nodes import make_id
from sphinx.util import logging

logger = logging.getLogger(__name__)
CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"

LABELS = "Shape|Batches|Attributes|Keys|Returns|Raises|Source|Chapter"
LABEL = re.compile(rf"({LABELS}): (?=\S)")
CHAPTER = re.compile(r'Chapter: "([^"]+)"\.?')
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def headings():
    """The page, and the place on it, of each heading of the chapters."""
    found = {}
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for level, title in HEADING.findall(cell.source):
                    place = "" if level == "#" else f"#{make_id(title)}"
                    found.setdefault(title, f"{path.stem}.html{place}")
    return found


def escape(line):
    """Keep `code`, and nothing else, from being read as plain text."""
    parts = line.split("`")
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"``{part}``"
        else:
            part = re.sub(r"([*|\\])", r"\\\1", part)
            parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", part)
    return "".join(parts)


def as_fields(lines):
    """Turn paragraphs that begin with a label into fields, one a label."""
    out, inside = [], False
    for line in lines:
        if LABEL.match(line):
            if not inside and out and out[-1]:
                out.append("")
            out.append(LABEL.sub(r":\1: ", line, count=1))
            inside = True
        else:
            inside = inside and bool(line.strip())
            out.append(f"    {line.strip()}" if inside else line)
    return out


def process(app, what, name, obj, options, lines):
    text = "\n".join(lines)
    chapters = CHAPTER.findall(text.replace("\n", " "))
    # The name may be broken over two lines; it gets a line of its own.
    text = re.sub(r'\s*Chapter:\s"([^"]+)"\.?', "", text)
    new = as_fields([escape(line) for line in text.splitlines()])
    for title in chapters:
        title = " ".join(title.split())
        place = app.env.temp_data.setdefault("headings", headings()).get(title)
        if place is None:
            logger.warning("%s: no chapter has the heading %r", name, title)
            continue
        # A field of its own, after those that are there.
        if not (new and new[-1].startswith((":", "    "))):
            new.append("")
        new.append(f":Chapter: `{title} <{place}>`__")
    lines[:] = [*new, ""]


def amend(app, pagename, templatename, context, doctree):
    """Sphinx sets long signatures as lists of definitions without a term."""
    for signature in set(SIGNATURE.findall(context.get("body", ""))):
        lines = signature.replace("<dl>", "").replace("</dl>", "")
        lines = lines.replace("<dd>", '<span class="sig-line">')
        lines = lines.replace("</dd>", "</span>")
        context["body"] = context["body"].replace(signature, lines)


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    # Before Napoleon (500), which takes care of "Args:" and "Raises:".
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("html-page-context", amend)
    return {"version": "1", "parallel_read_safe": True}
