"""What a chapter asks of its reader, below its title; and the table of all runs.

A chapter's metadata say what it needs (`d2l_dense: needs`). Its words are counted, and
`tools/notebooks.py` has recorded what its last run took. A reader who has the notebook
open in Jupyter sees none of this, and needs none of it.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RECORD = Path(__file__).resolve().parent.parent / "results" / "notebooks.json"
DEVICES = {"cpu": "a CPU", "cuda": "CUDA", "mps": "Apple's GPU"}
WORDS_A_MINUTE = 200

# Read at another speed than prose, and so not counted.
NOT_PROSE = (nodes.literal_block, nodes.math, nodes.math_block, nodes.table, nodes.raw)


def recorded(app):
    """Runs by chapter and type of device; a page that shows them follows them."""
    app.env.note_dependency(str(RECORD))
    return json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}


def is_prose(text):
    node = text.parent
    while node is not None:
        if isinstance(node, NOT_PROSE):
            return False
        node = node.parent
    return True


def count_words(doctree):
    prose = (text for text in doctree.findall(nodes.Text) if is_prose(text))
    return sum(len(text.astext().split()) for text in prose)


def duration(seconds):
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def size(peak_bytes):
    return f"{peak_bytes / 1e9:.1f} GB" if peak_bytes else "unknown"


def machine(run):
    return f"{run['device']['name']}, {run['device']['cores']} cores"


def running(runs):
    """What the last run took on each type of device, in words."""
    parts = []
    for kind, device in DEVICES.items():
        if kind in runs:
            run = runs[kind]
            part = f"{duration(run['seconds'])} on {device} ({machine(run)})"
            if run["peak_bytes"]:
                part += f", with at most {size(run['peak_bytes'])} of main memory"
            parts.append(part + (f" ({run['note']})" if "note" in run else ""))
    text = "; ".join(parts) or "not recorded yet"
    return text if "cuda" in runs or not parts else f"{text}; not recorded on CUDA yet"


def insert(app, doctree):
    """Put the list below a chapter's title."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix != ".ipynb":
        return
    metadata = json.loads(source.read_text("utf-8"))["metadata"].get("d2l_dense", {})
    words = count_words(doctree)
    minutes = max(1, round(words / WORDS_A_MINUTE))
    lines = {
        "You need": metadata.get("needs"),
        "To read": f"about {minutes} minutes ({words:,} words), and the code besides",
        "To run": running(recorded(app).get(source.stem, {})),
    }
    head = nodes.bullet_list(classes=["chapter-head"])
    for name, text in lines.items():
        if text:
            line = nodes.paragraph("", "", nodes.strong("", f"{name}: "))
            line += nodes.Text(f"{text}.")
            head += nodes.list_item("", line)
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, head)


class ChapterRuns(SphinxDirective):
    """The last run of every chapter, as a table."""

    def run(self):
        runs = recorded(self.env.app)
        rows = ["| chapter | took | peak memory | machine | PyTorch | date |"]
        rows.append("| --- | ---: | ---: | --- | --- | --- |")
        notes = set()
        for page in self.config.external_site_map:  # in the order of the contents
            source = Path(self.env.doc2path(page))
            if source.suffix != ".ipynb":
                continue
            link = f"[]({source.name})"
            for run in runs.get(source.stem, {}).values():
                took, peak = duration(run["seconds"]), size(run["peak_bytes"])
                kind = f"{machine(run)}, {run['device']['precision']}"
                cells = [link, took, peak, kind, run["versions"]["torch"], run["date"]]
                rows.append(f"| {' | '.join(cells)} |")
                notes |= {f"\nNote: {run['note']}."} if "note" in run else set()
            if source.stem not in runs:
                rows.append(f"| {link} | not recorded yet | – | – | – | – |")
        return self.parse_text_to_nodes("\n".join([*rows, *sorted(notes)]))


def say(app, doctree, docname):
    """Write what MyST-NB's table of executions draws: not every font has it."""
    if docname == "chapters/status":
        for mark, word in (("✅", "ran through"), ("❌", "failed")):
            for text in list(doctree.findall(nodes.Text)):
                if text.astext() == mark:
                    text.parent.replace(text, nodes.Text(word))


def setup(app):
    app.connect("doctree-read", insert)
    app.connect("doctree-resolved", say)
    app.add_directive("chapter-runs", ChapterRuns)
    return {"version": "1", "parallel_read_safe": True}
