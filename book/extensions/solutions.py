"""Leave the solutions out where SOLUTIONS=0 (`make book SOLUTIONS=0`).

A solution is folded on its page: text in <details> whose summary begins with Answer or
Solution, and code in a cell whose prompt says that it shows one. (sphinx-exercise's
hide_solutions knows its own directives alone, and no code.) Nothing is executed then:
the pages show the outputs that the notebooks are committed with.
"""

import os
import re

import nbformat

WANTED = os.environ.get("SOLUTIONS") != "0"
TEXT = re.compile(
    r"<details[^>]*>\s*<summary[^>]*>\s*(?:answer|solution).*?</details>\n*",
    re.DOTALL | re.IGNORECASE,
)
PROMPT = re.compile("answer|solution", re.IGNORECASE)


def without(notebook):
    """Return a notebook without its solutions."""
    kept = []
    for cell in notebook.cells:
        prompt = cell.metadata.get("mystnb", {}).get("code_prompt_show", "")
        cell.source = TEXT.sub("", cell.source)
        if cell.source.strip() and not PROMPT.search(prompt):
            kept.append(cell)
    notebook.cells = kept
    return notebook


def execute_nothing(app, config):
    config.nb_execution_mode = "off"


def strip(app, docname, source):
    if app.env.doc2path(docname).endswith(".ipynb"):
        notebook = nbformat.reads(source[0], as_version=4)
        source[0] = nbformat.writes(without(notebook))
    else:
        source[0] = TEXT.sub("", source[0])


def setup(app):
    if not WANTED:
        app.connect("config-inited", execute_nothing)
        app.connect("source-read", strip)
    return {"version": "1", "parallel_read_safe": True}
