"""The built pages, as a reader's browser shows them."""

import functools
import gzip
import re
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag

import pytest
from conftest import HTML, PHONE, barriers, empty_page

pytestmark = pytest.mark.pages

ROOT = "chapters/densenet.html"

# index.html only sends the reader on; _static holds parts of the theme.
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if path != HTML / "index.html" and HTML / "_static" not in path.parents
)
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]
chapters_alone = pytest.mark.parametrize("visit", CHAPTERS, indirect=True)


@pytest.fixture(scope="module", params=PAGES)
def visit(request, browser, site):
    """A page in a desktop browser, opened once for all tests, and what loading it took.

    Tests that only look come first, then those that change its size and colours.
    """
    seen, wrong, bad = [], [], ("error", "warning")
    with empty_page(browser, color_scheme="light") as page:
        page.on("request", lambda request: seen.append(request.url))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("console", lambda line: line.type in bad and wrong.append(line.text))
        page.on("response", lambda a: a.status >= 400 and wrong.append(a.url))
        page.goto(site + request.param)
        page.wait_for_load_state("networkidle")
        yield SimpleNamespace(name=request.param, page=page, seen=seen, wrong=wrong)


@functools.cache
def compressed(path):
    """How many bytes a web host sends for a file."""
    return len(gzip.compress(path.read_bytes()))


def evaluate_all(page, selector, function):
    return page.eval_on_selector_all(selector, f"e => e.map({function})")


def test_loads_from_here_alone_and_without_errors(visit, site):
    own = {url.removeprefix(site) for url in visit.seen if url.startswith(site)}
    elsewhere = [url for url in visit.seen if not url.startswith((site, "data:"))]
    assert own and elsewhere == [] and visit.wrong == []
    files = [HTML / unquote(url).split("?")[0] for url in own]
    assert sum(map(compressed, files)) < 600_000


def test_every_icon_is_drawn_here(visit):
    styles = (HTML / "_static/icons.css").read_text("utf-8")
    drawn = re.findall(r"\.(fa-[a-z-]+)", styles)
    names = evaluate_all(visit.page, "i.fa-solid, i.fas, i.fab", "e => e.className")
    used = set(re.findall(r"fa-[a-z-]+", " ".join(names)))
    assert used - {"fa-fw", "fa-lg", *drawn} == set()
    mask = "e => getComputedStyle(e, '::before').maskImage"
    masks = evaluate_all(visit.page, "i.fas", mask)
    assert all(mask.startswith('url("data:image/svg') for mask in masks)


@chapters_alone
def test_formulas_are_laid_out_by_the_browser(visit):
    area = """e => {
        const box = e.querySelector("math")?.getBoundingClientRect();
        return [e.textContent, box ? box.width * box.height : 0];
    }"""
    boxes = evaluate_all(visit.page, ".math", area)
    assert [text for text, area in boxes if area < 20] == []
    if boxes:
        assert visit.page.evaluate("document.fonts.check('1em STIX Two Math subset')")
    # Nothing of TeX left in the prose.
    without_code = """article => {
        const copy = article.cloneNode(true);
        copy.querySelectorAll("pre, code").forEach(e => e.remove());
        return copy.textContent;
    }"""
    prose = visit.page.eval_on_selector("article", without_code)
    assert re.findall(r"\$\$|\\\(|\\\[|\\[a-z]{3,}|\{[a-z:]+\}`", prose) == []


def test_images_load_and_have_alternative_text(visit):
    look = "e => [e.src, e.naturalWidth, e.getAttribute('alt')]"
    images = evaluate_all(visit.page, "img", look)
    assert [src for src, width, _ in images if not width] == []
    # Outside the text an empty one is right: the words stand beside the logo.
    assert [src for src, _, alt in images if alt is None] == []
    inside = evaluate_all(visit.page, "article img", look)
    assert [src for src, _, alt in inside if len(alt or "") < 10] == []


def test_headings_are_in_order(visit):
    seen = "e => e.checkVisibility() ? Number(e.tagName[1]) : 0"
    levels = evaluate_all(visit.page, "h1, h2, h3, h4, h5, h6", seen)
    levels = [level for level in levels if level]
    assert levels.count(1) == 1 and levels[0] == 1
    steps = zip(levels, levels[1:], strict=False)
    assert [step for step in steps if step[1] - step[0] > 1] == []


def test_internal_links_resolve(visit, site):
    broken = []
    for url in set(evaluate_all(visit.page, "a[href]", "e => e.href")):
        if not url.startswith(site):
            continue
        path, fragment = urldefrag(url.removeprefix(site))
        target = HTML / unquote(path.split("?")[0])
        if not target.is_file():
            broken.append(url)
        elif target.suffix == ".html" and fragment:
            ids = re.findall(r'\bid="([^"]+)"', target.read_text("utf-8"))
            if unquote(fragment) not in ids:
                broken.append(url)
    assert broken == []


@chapters_alone
def test_can_be_read_without_javascript(visit, open_page):
    without = open_page(visit.name, java_script_enabled=False)
    assert without.locator("h1").inner_text()
    for selector in ("article p", "article pre", "math", "article img"):
        all_of = without.locator(selector)
        assert all_of.count() == visit.page.locator(selector).count()
    # Without the script that unfolds them, nothing may stay folded.
    hidden = "e => e.checkVisibility() || e.closest('details') ? '' : e.textContent"
    found = evaluate_all(without, "article p", hidden)
    assert [text for text in found if text] == []


def test_keyboard_can_skip_to_the_text(visit):
    visit.page.keyboard.press("Tab")
    skip = visit.page.locator(":focus")
    assert skip.inner_text() == "Skip to main content"
    visit.page.wait_for_function(  # it slides in
        "document.activeElement.getBoundingClientRect().top >= 0"
    )
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url(re.compile("#main-content$"))


# Both colour schemes and both layouts; their product would take twice the time.
def test_has_no_barrier_on_a_desk(visit):
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "light"
    assert barriers(visit.page) == []


def test_fits_a_phone_and_has_no_barrier_in_the_dark(visit):
    visit.page.set_viewport_size(PHONE)
    visit.page.emulate_media(color_scheme="dark")
    visit.page.wait_for_function("document.documentElement.dataset.theme == 'dark'")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert barriers(visit.page) == []


def test_the_reader_can_change_the_theme(open_page, site):
    page = open_page("index.html", color_scheme="light")
    page.wait_for_url(site + ROOT)  # the index leads to the root
    theme = "document.documentElement.dataset.theme"
    page.locator("button.theme-switch-button:visible").click()
    assert page.evaluate(theme) == "dark"
    page.reload()
    assert page.evaluate(theme) == "dark"


def test_keyboard_opens_the_search(open_page, site):
    page = open_page(ROOT)
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.locator(":focus").get_attribute("aria-label") == "Search":
            break
    page.keyboard.press("Enter")
    page.locator("#pst-search-dialog").wait_for()
    page.keyboard.type("connected")
    page.keyboard.press("Enter")
    page.wait_for_url(site + "search.html?q=connected")
    page.wait_for_selector("#search-results li a[href*='densenet']")


def test_the_figure_answers_to_pointer_and_keyboard(open_page):
    page = open_page(ROOT)
    first, second = (page.locator(".dense .layer").nth(i) for i in range(2))
    seen = "e => e.querySelector('.says').checkVisibility({opacityProperty: true})"
    assert not first.evaluate(seen)
    first.locator(".target").hover()
    assert first.evaluate(seen) and not second.evaluate(seen)
    page.mouse.move(0, 0)
    first.focus()
    page.keyboard.press("Tab")
    assert second.evaluate(seen) and not first.evaluate(seen)
    assert second.get_attribute("aria-label")


@pytest.mark.parametrize("name", ["densenet", "memory"])
def test_a_page_is_shown_as_slides_and_back(open_page, name):
    page = open_page(f"chapters/{name}.html", viewport={"width": 1280, "height": 720})
    prose = page.locator("article section > p:visible")
    before = prose.count()
    page.get_by_role("link", name="As slides").click()
    assert prose.count() == 0 < before
    inside = "article section > :not(section, h1, h2, h3):visible"
    heights = evaluate_all(page, inside, "e => e.getBoundingClientRect().height")
    assert len(heights) > 20 and min(heights) >= 720 and max(heights) < 800
    # Nothing that is folded, and nothing empty.
    assert page.locator("details:visible, .tag_hide-cell:visible").count() == 0
    texts = evaluate_all(page, inside, "e => e.querySelector('img') || e.innerText")
    assert all(texts)
    page.keyboard.press("PageDown")
    page.wait_for_function("scrollY >= 720")
    page.get_by_role("link", name="Leave the slides").click()
    assert prose.count() == before
