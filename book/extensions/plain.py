"""The MyST of the pages as the plain Markdown that any notebook program shows.

What the pages use is known here. Anything else is a warning, which fails the build: add
it here, or write it in another way.
"""

import re
from pathlib import Path
from textwrap import indent

MYST = re.compile(
    r"^(?P<fence>`{3,}|:{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$"
    r"|\{(?P<role>[\w:-]+)\}`(?P<content>[^`]+)`"
    r"|(?P<code>`+)(?!`).*?(?<!`)(?P=code)(?!`)"
    r"|\$\$(?P<formula>[^$]+)\$\$ *\((?P<label>[\w-]+)\)"
    r"|(?P<picture>!\[[^\]]*\]\((?!https:)[^)]*\))"
    r"|(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>(?![a-z]+:)[^()\s]+)\)"
    r"|^\((?P<anchor>[\w-]+)\)=\n",
    re.DOTALL | re.MULTILINE,
)
OPTION = re.compile(r"^:([\w-]+):[ ]*(.*)\n", re.MULTILINE)
BOXES = ("note", "tip", "hint", "important", "warning", "admonition", "dropdown")


def convert(text: str, references) -> str:
    """Return the text with references, links, formulas and directives replaced.

    Args:
        references: what labels, citations and links stand for, as in export.py.
    """

    def replace(match):
        found = match.groupdict()
        if found["role"]:
            return _role(found["role"], found["content"], references)
        if found["info"] is not None:
            return _block(match, references)
        if found["label"]:
            number = references.numbered(found["label"])[2]
            return f"$${found['formula'].strip()} \\tag{{{number}}}$$"
        if found["target"]:
            return references.link(found["target"], convert(found["text"], references))
        if found["picture"]:
            references.warn(f"a picture by path: {match[0]}")
        return "" if found["anchor"] else match[0]

    return MYST.sub(replace, text)


def _role(name, content, references):
    if name == "cite:t":
        return references.cite(content)
    if name == "cite":
        cited = "; ".join(references.cite(key.strip()) for key in content.split(","))
        return f"[{cited}]"
    if name == "eq":
        return references.formula(content)
    references.warn(f"the role {name}")
    return content


def _block(match, references):
    """A fence: code stays as it is, a directive becomes text."""
    directive = re.fullmatch(r"\{([\w-]+)\} *(.*)", match["info"].strip())
    if not directive:
        return match[0]
    name, title = directive.groups()
    options, body = {}, match["body"]
    while option := OPTION.match(body):
        options[option[1]] = option[2]
        body = body[option.end() :]
    if name == "raw":
        file = options.get("file")
        return Path(references.folder, file).read_text("utf-8") if file else body
    body = convert(body, references).strip()
    if name == "exercise":
        of_its_own = "nonumber" in options
        number = "" if of_its_own else f" {references.numbered(options['label'])[2]}"
        return f"**Exercise{number} ({title}).**\n\n{body}"
    if name in BOXES:
        title = convert(title, references) or name.capitalize()
        return indent(f"**{title}.**\n\n{body}", "> ", lambda line: True)
    references.warn(f"the directive {name}")
    return match[0]
