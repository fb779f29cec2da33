"""What the test files share: untimed examples, the built pages, and a browser."""

from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from book import browser as chromium

# No example has a time limit: the machine may be busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def site():
    """Address of the built pages, served from a free port."""
    if not (HTML / "index.html").exists():
        pytest.skip("the pages are not built: run make book")
    with chromium.serve(HTML) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    path = chromium.find()
    if path is None:
        pytest.skip("no Chromium here, and none could be installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
        yield browser
        browser.close()


@contextmanager
def empty_page(browser, **options):
    """A page in a context (with these options) of its own, without errors."""
    context, errors = browser.new_context(**options), []
    context.set_default_timeout(120_000)  # the machine may be busy
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def new_page(browser):
    """A function: an empty page."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(empty_page(browser, **options))


@pytest.fixture
def open_page(new_page, site):
    """A function: the built page of this name, opened."""

    def open_page(name, **options):
        page = new_page(**options)
        page.goto(site + name)
        return page

    return open_page


# Unfolds what is folded, at once: half-way its colours are too pale. Of code, one token
# of each kind keeps its colour: axe-core takes minutes for thousands of the same.
PREPARE = """() => {
    document.querySelectorAll("details").forEach(e => { e.open = true; });
    const seen = new Set();
    for (const token of document.querySelectorAll("pre span")) {
        const kind = token.className + token.closest("div[class^=cell_]")?.className;
        if (seen.has(kind)) token.replaceWith(token.textContent);
        seen.add(kind);
    }
}"""


def barriers(page):
    """What axe-core finds on a page."""
    page.add_style_tag(content="* { animation: none !important; }")
    page.evaluate(PREPARE)
    page.wait_for_timeout(500)  # the theme makes wide code a tab stop, a moment later
    found = Axe().run(page).response["violations"]
    return [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]]
