"""Formulas as MathML, written when the book is built.

The browser lays them out by itself: no script, no request, readable with
JavaScript off and by a screen reader. A formula that cannot be converted is a
warning, which fails the build.
"""

import html
import re

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
converter = LatexToMathML(fancy_error=False)

# Numbered by Sphinx (where a label asks for it), not by the environment.
NUMBERED = re.compile(r"(\\(?:begin|end)\{(?:align|equation|gather))\}")

# The font's primes are raised already; a superscript would raise them again.
PRIME = re.compile(r"<msup>(<mi>[^<]*</mi>)<mo>([′″‴])</mo></msup>")


def convert(node, display):
    latex = NUMBERED.sub(r"\1*}", node.astext())
    try:
        mathml = converter.convert_with_local_state(latex, displaystyle=display)
        return PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>', mathml)
    except LatexError as error:
        logger.warning("no MathML for %r: %s", latex, error, location=node)
        return f"<code>{html.escape(latex)}</code>"


def visit_inline(translator, node):
    translator.body.append(
        translator.starttag(node, "span", "", CLASS="math notranslate")
        + convert(node, display=False)
        + "</span>"
    )
    raise nodes.SkipNode


def visit_block(translator, node):
    body = translator.body
    body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        body.append("</span>")
    body.append(convert(node, display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True}
