"""Below a chapter's title: what it needs and how long it takes; the latter by section.

What it needs stands in the notebook's metadata (`d2l_dense: needs`). Minutes are
estimated from what is open on the page: words, and lines of code. A section whose first
paragraph begins with a star can be left out.
"""

import json
from pathlib import Path

from docutils import nodes

WORDS, LINES = 200, 6  # a minute
# Read at another speed than prose, and so not counted.
NOT_PROSE = (nodes.literal_block, nodes.math, nodes.math_block, nodes.table, nodes.raw)


def starred(node):
    first = node[1:2] if isinstance(node, nodes.section) else []
    return any(part.astext().startswith("★") for part in first)


def folds(section):
    return any("<details" in raw.astext() for raw in section.findall(nodes.raw))


def minutes(section):
    """Of a section, less what is folded and less starred sections inside it."""
    words = lines = 0
    for node in section.findall(include_self=False):
        around, part = [], node.parent
        while part is not section:
            around, part = [*around, part], part.parent
        if any(starred(p) or folds(p) or "dropdown" in p["classes"] for p in around):
            continue
        if isinstance(node, nodes.Text):
            prose = not any(isinstance(part, NOT_PROSE) for part in around)
            words += prose * len(node.split())
        elif "cell_input" in node.parent["classes"] and "hide_mode" not in around[1]:
            lines += sum(map(bool, node.astext().splitlines()))
    return max(1, round(words / WORDS + lines / LINES))


def says(number):
    return f"about {number} minute" + "s" * (number > 1)


def mark(section):
    """Write the minutes below the heading, if they are several or can be saved."""
    time = nodes.emphasis("", f"{says(minutes(section)).capitalize()}.")
    if starred(section):
        section[1] += [nodes.Text(" "), time]
    elif minutes(section) > 1 and not folds(section):
        section.insert(1, nodes.paragraph("", "", time))


def insert(app, doctree):
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    metadata = json.loads(source.read_text("utf-8"))["metadata"]
    page = next(doctree.findall(nodes.section))
    time = says(minutes(page)) + " without the exercises" * folds(page)
    if extra := sum(minutes(section) for section in page.findall(starred)):
        time += f"; sections with a ★ can be left out, and take {extra} more"
    for section in list(page.findall(nodes.section, include_self=False)):
        if section.parent is page or starred(section):
            mark(section)
    needs = metadata.get("d2l_dense", {}).get("needs", "nothing but Python")
    head = nodes.bullet_list(classes=["chapter-head"])
    for name, text in {"You need": needs, "To read": time}.items():
        line = nodes.paragraph("", "", nodes.strong("", f"{name}: "))
        line += nodes.Text(f"{text}.")
        head += nodes.list_item("", line)
    if metadata.get("d2l_dense", {}).get("slides"):
        head["ids"].append("slides")  # static/slides.css shows the page in another way
        line = nodes.paragraph("", "", classes=["slides"])
        for url, text in {"#slides": "As slides", "#": "Leave the slides"}.items():
            line += nodes.reference("", text, refuri=url, internal=True)
        head += nodes.list_item("", line)
    page.insert(1, head)


def setup(app):
    app.connect("doctree-read", insert)
    return {"version": "1", "parallel_read_safe": True}
