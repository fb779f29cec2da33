"""Below a chapter's title: what it asks of its reader, and how long it takes to read.

The first stands in the notebook's metadata (`d2l_dense: needs`); words are counted.
"""

import json
from pathlib import Path

from docutils import nodes

WORDS_A_MINUTE = 200
# Read at another speed than prose, and so not counted.
NOT_PROSE = (nodes.literal_block, nodes.math, nodes.math_block, nodes.table, nodes.raw)


def count_words(doctree):
    words = 0
    for text in doctree.findall(nodes.Text):
        node = text
        while node is not None and not isinstance(node, NOT_PROSE):
            node = node.parent
        words += 0 if node else len(text.split())
    return words


def insert(app, doctree):
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    metadata = json.loads(source.read_text("utf-8"))["metadata"]
    words = count_words(doctree)
    minutes = max(1, round(words / WORDS_A_MINUTE))
    lines = {
        "You need": metadata.get("d2l_dense", {}).get("needs", "nothing but Python"),
        "To read": f"about {minutes} minutes ({words:,} words), and the code besides",
    }
    head = nodes.bullet_list(classes=["chapter-head"])
    for name, text in lines.items():
        line = nodes.paragraph("", "", nodes.strong("", f"{name}: "))
        line += nodes.Text(f"{text}.")
        head += nodes.list_item("", line)
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, head)


def setup(app):
    app.connect("doctree-read", insert)
    return {"version": "1", "parallel_read_safe": True}
