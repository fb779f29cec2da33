"""Leave the solutions out where SOLUTIONS=0 (`make book SOLUTIONS=0`).

Nothing is executed then: the pages show the outputs that the notebooks are
committed with, so that a cell that belongs to a solution can go as well.
"""

import os

import nbformat

import plain

WANTED = os.environ.get("SOLUTIONS") != "0"


def execute_nothing(app, config):
    config.nb_execution_mode = "off"


def strip(app, docname, source):
    if app.env.doc2path(docname).endswith(".ipynb"):
        notebook = nbformat.reads(source[0], as_version=4)
        notebook.cells = plain.without_solutions(notebook.cells)
        source[0] = nbformat.writes(notebook)
    else:
        cell = nbformat.v4.new_markdown_cell(source[0])
        source[0] = "".join(c.source for c in plain.without_solutions([cell]))


def setup(app):
    if not WANTED:
        app.connect("config-inited", execute_nothing)
        app.connect("source-read", strip)
    return {"version": "1", "parallel_read_safe": True}
