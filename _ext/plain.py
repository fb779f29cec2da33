"""MyST Markdown as the plain Markdown that any notebook program shows.

MyST's own parser says where roles, directives and links stand; what it finds is
replaced in the source, and every other character stays as it was.
"""

import base64
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from docutils.parsers.rst.directives.misc import TestDirective
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.directives import parse_directive_text
from myst_parser.parsers.mdit import create_md_parser
from sphinx.directives.code import LiteralInclude, LiteralIncludeReader

EXTENSIONS = {"amsmath", "colon_fence", "dollarmath"}  # those of _config.yml
PARSER = create_md_parser(
    MdParserConfig(enable_extensions=EXTENSIONS, dmath_double_inline=False),
    RendererHTML,
)

DIRECTIVE = re.compile(r"\{([\w:.-]+)\}\s*(.*)", re.DOTALL)
TITLED = re.compile(r"(.+?)\s*<([^<>]+)>", re.DOTALL)  # a role's `title <target>`
OPENS_SOLUTION = re.compile(
    r"<details[^>]*>\s*<summary[^>]*>\s*(answer|solution)", re.IGNORECASE
)
FOLDED_SOLUTION = re.compile(
    r"\{(admonition|dropdown)\}\s*(answer|solution)", re.IGNORECASE
)

# Directives that show nothing in a notebook, or whose contents are code.
SILENT = {"bibliography", "contents", "exercise-end", "solution-end", "tableofcontents"}
SILENT |= {"index", "toctree"}
CODE = {"code", "code-block", "code-cell", "sourcecode"}
PICTURES = {"figure", "image"}


@dataclass
class Plain:
    """Converts the Markdown of one page.

    Args:
        refer: from a role's name ("ref", "cite:t", "link" for a Markdown link
            inside the book, ...), target and title ("" if it has none) to the
            text that stands for it and an address or None.
        number: from a label of an exercise or equation to its number, or "".
        folder: where the page lies; pictures and included code are found from it.
    """

    refer: Callable[[str, str, str], tuple[str, str | None]]
    number: Callable[[str], str]
    folder: Path
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)

    def convert(self, text: str) -> str:
        """Return the text as plain Markdown; pictures go to `attachments`."""
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        edits: list[tuple[int, int, str]] = []
        for token in PARSER.parse(text):
            if token.map is None:
                continue
            start, end = (starts[min(line, len(starts) - 1)] for line in token.map)
            if token.type == "inline":
                # Two cells of a table are two tokens of one line.
                start = max([start, *(edit[1] for edit in edits[-1:])])
                edits += self._inline(text, start, end, token.children or [])
            elif (new := self._block(token)) is not None:
                line = text[start:end]
                marker = len(re.match(r"[\s>]*(?:[-*+]\s+|\d+[.)]\s+)?", line)[0])
                margin = re.sub(r"[^\s>]", " ", line[:marker])
                new = new.replace("\n", f"\n{margin}") if margin else new
                tail = "\n" if new and line.endswith("\n") else ""
                edits.append((start + marker, end, new + tail))
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _inline(self, text, cursor, end, tokens):
        """The edits of one paragraph, heading or cell of a table."""
        for position, token in enumerate(tokens):
            if token.type in ("code_inline", "math_inline"):
                found = text.find(token.content, cursor, end)
                cursor = found + len(token.content) if found >= 0 else cursor
            elif token.type == "myst_role":
                name = token.meta["name"]
                content = r"\s+".join(map(re.escape, token.content.split()))
                pattern = rf"\{{{re.escape(name)}\}}(`+)\s*{content}\s*\1"
                if match := re.compile(pattern).search(text, cursor, end):
                    yield match.start(), match.end(), self._role(name, token.content)
                    cursor = match.end()
            elif token.type == "image":
                match = _destination(text, cursor, end, token.attrs["src"])
                if match and (new := self._picture(token.attrs["src"])):
                    yield match.start(1), match.end(1), new
                cursor = match.end() if match else cursor
            elif token.type == "link_open":
                for edit in self._link(text, cursor, end, tokens[position:]):
                    yield edit
                    cursor = edit[1]

    def _link(self, text, cursor, end, tokens):
        """A link inside the book, `[title](target)` or `<project:target>`."""
        href = tokens[0].attrs["href"]
        target = re.sub(r"^(project|path|doc|std|myst):", "", href)
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target):
            return
        automatic = tokens[0].markup == "autolink"
        close = next(i for i, t in enumerate(tokens) if t.type == "link_close")
        children = [] if automatic else tokens[1:close]
        pattern = rf"\[([^\[\]]*)\]\({re.escape(href)}[^()]*\)"
        if automatic:
            pattern = f"<{re.escape(href)}>()"
        if match := re.compile(pattern).search(text, cursor, end):
            title = match[1]
            if any(child.type == "myst_role" for child in children):
                title = self.convert(title)
            new = _linked(*self.refer("link", target, title))
            yield match.start(), match.end(), new

    def _role(self, name, content):
        match = TITLED.fullmatch(content)
        title, target = match.groups() if match else ("", content)
        kind = name.rpartition(":")[2]
        if name.startswith("cite"):
            parts = [
                _linked(*self.refer(name, key.strip(), ""))
                for key in content.split(",")
            ]
            textual = kind.startswith("t")
            return ", ".join(parts) if textual else f"[{'; '.join(parts)}]"
        if kind in ("ref", "numref", "eq", "doc", "term", "download", "any"):
            return _linked(*self.refer(kind, target, title))
        if kind == "math":
            return f"${content}$"
        if kind in ("sub", "sup", "kbd", "abbr"):
            text = re.sub(r"\s*\(.*\)$", "", content) if kind == "abbr" else content
            return f"<{kind}>{text}</{kind}>"
        return f"`{title or target}`"

    def _block(self, token: Token) -> str | None:
        """What stands in place of a block; None if it stays as it is."""
        if token.type in ("myst_target", "myst_line_comment", "myst_block_break"):
            return ""
        if token.type == "math_block_label":
            return _formula(token.content, self.number(token.info))
        if token.type in ("fence", "colon_fence"):
            match = DIRECTIVE.fullmatch(token.info.strip())
            if match:
                return self._directive(match[1], match[2], token.content)
            if token.type == "colon_fence":
                return self.convert(token.content).strip()
        return None

    def _directive(self, name, argument, content):
        parsed = parse_directive_text(TestDirective, argument, content)
        options, body = parsed.options, "\n".join(parsed.body).strip("\n")
        if name in SILENT:
            return ""
        if name in CODE:
            return _fenced(body, argument)
        if name == "raw":
            return body
        if name == "math":
            return _formula(body, self.number(options.get("label") or ""))
        if name == "literalinclude":
            return self._included(argument, content)
        if name in PICTURES:
            source = self._picture(argument) or argument
            image = f"![{options.get('alt', '')}]({source})"
            return f"{image}\n\n{self.convert(body)}".strip()
        body = self.convert(body)
        if name.startswith("exercise"):
            number = self.number(options.get("label") or "")
            head = f"Exercise {number}".strip()
            head += f" ({argument})" if argument else ""
        elif name.startswith("solution"):
            head = f"Solution of {self.refer('ref', argument, '')[0]}"
        elif name in ("admonition", "dropdown", "topic", "sidebar", "table"):
            head = self.convert(argument)
        else:
            # Note, tip, warning and their like; one unknown here is no worse.
            head = name.capitalize()
            head += f": {self.convert(argument)}" if argument else ""
        text = f"**{head}.**\n\n{body}".strip() if head else body
        if name.startswith(("exercise", "solution")) or name == "table":
            return text
        return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))

    def _included(self, argument, content):
        """The code that a literalinclude shows, read as Sphinx reads it."""
        options = parse_directive_text(LiteralInclude, argument, content).options
        config = SimpleNamespace(source_encoding="utf-8-sig")
        path = str(self.folder / argument)
        text, _ = LiteralIncludeReader(path, options, config).read()
        return _fenced(text.rstrip("\n"), options.get("language", "python"))

    def _picture(self, source):
        """Attach a picture of the book's; None if it lies elsewhere."""
        path = self.folder / source
        if re.match(r"[a-z]+:", source) or not path.is_file():
            return None
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        data = base64.b64encode(path.read_bytes()).decode()
        self.attachments[path.name] = {kind: data}
        return f"attachment:{path.name}"


def without_solutions(cells: list[dict]) -> list[dict]:
    """Drop what answers an exercise: a directive, or details titled so.

    Between solution-start and solution-end whole cells are dropped as well. The
    cells that stay are the same objects, their sources replaced.
    """
    kept, gated = [], False
    for cell in cells:
        if cell["cell_type"] == "markdown":
            was = cell["source"]
            cell["source"], gated = _without_solutions(was, gated)
            if cell["source"].strip() or not was.strip():
                kept.append(cell)
        elif not gated:
            kept.append(cell)
    return kept


def _without_solutions(text, gated=False):
    """The text that is left, and whether a solution is still open at its end."""
    dropped, gated = _solutions(text, gated)
    lines = enumerate(text.splitlines(keepends=True))
    return "".join(line for i, line in lines if i not in dropped), gated


def _solutions(text, gated):
    """The numbers of the lines to drop; whether a solution is open at the end."""
    depth, dropped = 0, set()
    for token in PARSER.parse(text):
        if token.map is None:
            continue
        drop = gated or depth > 0
        if token.type == "html_block" and (drop or OPENS_SOLUTION.match(token.content)):
            depth += token.content.count("<details") - token.content.count("</details")
            drop = True
        if match := DIRECTIVE.fullmatch(token.info.strip()):
            if FOLDED_SOLUTION.match(token.info.strip()):
                drop = True
            elif match[1].startswith("solution"):
                gated = {"solution-start": True, "solution-end": False}.get(
                    match[1], gated
                )
                drop = True
            else:
                inner, _ = _solutions(token.content, False)
                dropped |= {token.map[0] + 1 + line for line in inner}
        if drop:
            dropped.update(range(*token.map))
    return dropped, gated


def _formula(latex, number):
    tag = f" \\tag{{{number}}}" if number else ""
    return f"$${latex.strip()}{tag}$$"


def _linked(text, url):
    return f"[{text}]({url})" if url else text


def _fenced(code, language):
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", code)), default=0))
    return f"{fence}{language}\n{code}\n{fence}"


def _destination(text, cursor, end, target):
    pattern = rf"\]\(\s*({re.escape(target)})[^()]*\)"
    return re.compile(pattern).search(text, cursor, end)
