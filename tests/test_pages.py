"""The built pages, as a reader's browser shows them."""

import re
from urllib.parse import unquote, urldefrag

import pytest
from conftest import HTML
from helpers import serious_barriers

pytestmark = pytest.mark.pages

PHONE = {"viewport": {"width": 390, "height": 844}}
ROOT = "chapters/densenet.html"

# index.html only sends the reader on; _static holds parts of the theme.
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if path != HTML / "index.html" and HTML / "_static" not in path.parents
)
every_page = pytest.mark.parametrize("name", PAGES)
every_chapter = pytest.mark.parametrize(
    "name", [name for name in PAGES if name.startswith("chapters/")]
)


def evaluate_all(page, selector, function):
    return page.eval_on_selector_all(selector, f"e => e.map({function})")


def test_index_leads_to_the_root(open_page, site):
    page = open_page("index.html")
    page.wait_for_url(site + ROOT)


@every_page
def test_loads_from_here_alone_and_without_errors(new_page, site, name):
    page = new_page()
    seen, done, wrong = [], [], []
    page.on("request", lambda request: seen.append(request.url))
    page.on("requestfinished", lambda request: done.append(request))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda line: line.type in ("error", "warning") and wrong.append(line.text),
    )
    page.on(
        "response",
        lambda response: (
            response.status >= 400 and wrong.append(f"{response.status} {response.url}")
        ),
    )
    page.goto(site + name, wait_until="networkidle")
    assert seen
    assert [url for url in seen if not url.startswith((site, "data:"))] == []
    assert wrong == []
    sizes = [request.sizes() for request in done]
    transferred = sum(s["responseBodySize"] + s["responseHeadersSize"] for s in sizes)
    assert 20_000 < transferred < 600_000  # bytes, with gzip


@every_page
def test_every_icon_is_drawn_here(open_page, name):
    page = open_page(name)
    names = evaluate_all(page, "i.fa-solid, i.fas, i.fab", "i => i.className")
    point = page.evaluate(
        """() => {
            const i = document.body.appendChild(document.createElement("i"));
            i.className = "fas";
            return getComputedStyle(i, "::before").maskImage;
        }"""
    )
    drawn = evaluate_all(
        page,
        "i.fa-solid, i.fas, i.fab",
        'i => getComputedStyle(i, "::before").maskImage',
    )[:-1]
    assert point.startswith('url("data:image/svg')
    assert [n for n, mask in zip(names, drawn, strict=True) if mask == point] == []
    assert all(mask.startswith('url("data:image/svg') for mask in drawn)


@every_chapter
def test_formulas_are_laid_out_by_the_browser(open_page, name):
    page = open_page(name)
    boxes = evaluate_all(
        page,
        ".math",
        """e => {
            const math = e.querySelector("math");
            const box = math && math.getBoundingClientRect();
            return [e.textContent, box ? box.width * box.height : 0];
        }""",
    )
    assert [text for text, area in boxes if area < 20] == []
    if boxes:
        assert page.evaluate("document.fonts.check('1em STIX Two Math subset')")
    # Nothing of TeX left in the prose.
    prose = page.eval_on_selector(
        "article",
        """article => {
            const copy = article.cloneNode(true);
            copy.querySelectorAll("pre, code").forEach(e => e.remove());
            return copy.textContent;
        }""",
    )
    assert re.findall(r"\$\$|\\\(|\\\[|\\[a-z]{3,}|\{[a-z:]+\}`", prose) == []


@every_page
def test_images_load_and_have_alternative_text(open_page, name):
    page = open_page(name)
    images = evaluate_all(
        page,
        "img",
        "e => [e.src, e.naturalWidth, e.getAttribute('alt'),"
        " e.closest('article') !== null]",
    )
    assert [src for src, width, _, _ in images if not width] == []
    # Outside the text an empty one is right: the words stand beside the logo.
    assert [src for src, _, alt, _ in images if alt is None] == []
    bad = [s for s, _, alt, inside in images if inside and len(alt or "") < 10]
    assert bad == []


@every_page
def test_headings_are_in_order(open_page, name):
    page = open_page(name)
    levels = evaluate_all(
        page,
        "h1, h2, h3, h4, h5, h6",
        "e => e.checkVisibility() ? Number(e.tagName[1]) : 0",
    )
    levels = [level for level in levels if level]
    assert levels.count(1) == 1 and levels[0] == 1
    steps = zip(levels, levels[1:], strict=False)
    assert [step for step in steps if step[1] - step[0] > 1] == []


@every_page
def test_fits_a_phone(open_page, name):
    page = open_page(name, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@every_page
# Both colour schemes and both layouts; their product would take twice the time.
@pytest.mark.parametrize(
    "scheme, size", [("light", {}), ("dark", PHONE)], ids=["desk", "phone"]
)
def test_has_no_serious_barrier(open_page, name, scheme, size):
    page = open_page(name, color_scheme=scheme, **size)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    # What is folded away is read as well.
    for button in page.locator("button.toggle-button:visible").all():
        button.click()
    page.evaluate(
        "document.querySelectorAll('details').forEach(e => { e.open = true; })"
    )
    # It fades in: half-way, its colours are too pale.
    page.evaluate("Promise.all(document.getAnimations().map(a => a.finished))")
    assert serious_barriers(page) == []


def test_the_reader_can_change_the_theme(open_page):
    page = open_page(ROOT, color_scheme="light")
    theme = "document.documentElement.dataset.theme"
    page.locator("button.theme-switch-button:visible").click()
    assert page.evaluate(theme) == "dark"
    page.reload()
    assert page.evaluate(theme) == "dark"


@every_chapter
def test_can_be_read_without_javascript(open_page, name):
    with_script = open_page(name)
    without = open_page(name, java_script_enabled=False)
    assert without.locator("h1").inner_text()
    for selector in ("article p", "article pre", "math", "article img"):
        all_of = without.locator(selector)
        assert all_of.count() == with_script.locator(selector).count()
    # Without the script that unfolds them, nothing may stay folded.
    hidden = evaluate_all(
        without,
        "article p",
        "e => e.checkVisibility() || e.closest('details') ? '' : e.textContent",
    )
    assert [text for text in hidden if text] == []


@every_page
def test_internal_links_resolve(open_page, site, name):
    page = open_page(name)
    broken = []
    for url in set(evaluate_all(page, "a[href]", "e => e.href")):
        if not url.startswith(site):
            continue
        path, fragment = urldefrag(url.removeprefix(site).split("?")[0])
        target = HTML / unquote(path)
        if not target.is_file():
            broken.append(url)
        elif target.suffix == ".html" and fragment:
            ids = re.findall(r'\bid="([^"]+)"', target.read_text("utf-8"))
            if unquote(fragment) not in ids:
                broken.append(url)
    assert broken == []


@every_page
def test_keyboard_can_skip_to_the_text(open_page, name):
    page = open_page(name)
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to main content"
    page.wait_for_function(  # it slides in
        "document.activeElement.getBoundingClientRect().top >= 0"
    )
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")


def test_keyboard_opens_the_search(open_page, site):
    page = open_page(ROOT)
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.locator(":focus").get_attribute("aria-label") == "Search":
            break
    page.keyboard.press("Enter")
    assert page.locator("#pst-search-dialog").is_visible()
    page.keyboard.type("connected")
    page.keyboard.press("Enter")
    page.wait_for_url(site + "search.html?q=connected")
    page.wait_for_selector("#search-results li a[href*='densenet']")


@pytest.mark.parametrize(
    "name, part, target",
    [(ROOT, ".dense .layer", ".target"), ("chapters/reuse.html", ".reader", ".frame")],
)
def test_a_figure_answers_to_pointer_and_keyboard(open_page, name, part, target):
    page = open_page(name)
    first, second = (page.locator(part).nth(i) for i in range(2))
    seen = "e => e.querySelector('.says').checkVisibility({opacityProperty: true})"
    assert not first.evaluate(seen)
    first.locator(target).hover()
    assert first.evaluate(seen) and not second.evaluate(seen)
    page.mouse.move(0, 0)
    first.focus()
    page.keyboard.press("Tab")
    assert second.evaluate(seen) and not first.evaluate(seen)
    assert second.get_attribute("aria-label")
