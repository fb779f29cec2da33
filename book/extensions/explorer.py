"""The directive `explorer`: the knobs, what view.js reads, and the static table.

The markup is templates/explorer.html. Its numbers come from `d2l_dense` when the book
is built, by explorer_figures.py; the browser counts on from there, by cost.js.
"""

from pathlib import Path

import jinja2
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


class Explorer(SphinxDirective):
    """The Explorer, once on a page."""

    def run(self):
        import explorer_figures  # it takes seconds, and is wanted on one page

        self.env.metadata[self.env.docname]["explorer"] = "yes"
        loader = jinja2.FileSystemLoader(TEMPLATES)
        templates = jinja2.Environment(loader=loader, autoescape=True)
        html = templates.get_template("explorer.html").render(explorer_figures.page())
        return [nodes.raw("", html, format="html")]


def add_files(app, pagename, templatename, context, doctree):
    if "explorer" in app.env.metadata.get(pagename, {}):
        app.add_css_file("explorer/style.css")
        for name in ("cost", "draw", "view"):
            app.add_js_file(f"explorer/{name}.js")


def link(app, doctree):
    """Let pages link to a state of the Explorer, `explorer.md?key=value#explorer`.

    MyST looks for a file of that name, question mark and all.
    """
    for node in [*doctree.findall(addnodes.pending_xref)]:
        path, found, query = node.get("reftarget", "").partition(".md?")
        if found:
            where = {"refuri": f"{path}.html?{query}", "internal": True}
            node.replace_self(nodes.reference("", "", *node.children, **where))


def setup(app):
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", add_files)
    app.connect("doctree-read", link)
    return {"version": "1", "parallel_read_safe": True}
