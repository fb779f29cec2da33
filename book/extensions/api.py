"""Docstrings as they stand in the code, made readable as a page.

They say `name` for code (default_role in _config.yml), and have lines such as
"Shape: ..." or 'Chapter: "..."'. Those become fields, and a chapter's heading a link.
"""

import re

LABEL = re.compile(r"(Shape|Attributes|Keys|Returns|Raises|Source|Chapter): (?=\S)")
CHAPTER = re.compile(r'\s*\bChapter:\s"([^"]+)"\.?')


def process(app, what, name, obj, options, lines):
    # The heading may be broken over two lines, and follow on another label.
    text = CHAPTER.sub(
        lambda match: f"\nChapter: :ref:`{' '.join(match[1].split())}`",
        "\n".join(lines),
    )
    lines[:] = []
    inside = False
    for line in text.split("\n"):
        if match := LABEL.match(line):
            lines += ["", f":{match[1]}: {line[match.end() :]}"]
            inside = True
        else:
            inside = inside and bool(line.strip())
            lines.append(f"    {line.strip()}" if inside else line)


def setup(app):
    for name in ("autodoc", "autosectionlabel", "napoleon"):
        app.setup_extension(f"sphinx.ext.{name}")
    # Before Napoleon (500), which takes care of "Args:" and "Raises:".
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"version": "1", "parallel_read_safe": True}
