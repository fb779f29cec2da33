"""Print the built pages, in the order of the contents, as one PDF: `make pdf`.

Every page is opened in Chromium and its text taken as a reader sees it, with all that
is folded opened; the texts are then one document, whose links lead inside it.
"""

import sys
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright

from book.browser import FLAGS, find, serve

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "pdf" / "book.pdf"

# Gives every id its page's name, and links inside the book such ids.
TAKE = """() => {
    const name = url => "#" + url.pathname.replace(/[^a-z0-9]+/gi, "-").slice(1)
        + (url.hash.length > 1 ? "--" + url.hash.slice(1) : "");
    const article = document.querySelector("article.bd-article");
    article.querySelectorAll("details").forEach(e => { e.open = true; });
    article.querySelectorAll("button, script, .headerlink").forEach(e => e.remove());
    article.querySelectorAll("img[src]").forEach(e => {
        e.src = e.src;
        e.loading = "eager";
    });
    article.querySelectorAll("[href]").forEach(e => {
        const url = new URL(e.getAttribute("href"), location);
        const inside = url.origin === location.origin;
        e.setAttribute("href", inside ? name(url) : url.href);
    });
    article.querySelectorAll("[id]").forEach(e => {
        e.id = name(new URL("#" + e.id, location)).slice(1);
    });
    article.id = name(location).slice(1);
    return [article.outerHTML, document.querySelector("a.right-next")?.href];
}"""

# Puts the texts where the first page's was, behind a title and the contents.
JOIN = """([articles, title, lines]) => {
    document.title = title;
    document.documentElement.classList.add("whole-book");
    document.querySelector("article.bd-article").outerHTML =
        `<div class="front-page"><p class="title">${title}</p>
        ${lines.map(line => `<p>${line}</p>`).join("")}<ol></ol></div>`
        + articles.join("");
    for (const article of document.querySelectorAll("article.bd-article")) {
        const heading = article.querySelector("h1").textContent;
        document.querySelector(".front-page ol").insertAdjacentHTML(
            "beforeend", `<li><a href="#${article.id}">${heading}</a></li>`);
    }
    document.querySelectorAll("article a[href^='#']").forEach(e => {
        if (!document.getElementById(e.hash.slice(1))) e.removeAttribute("href");
    });
    return document.fonts.ready.then(() => Promise.all(
        [...document.images].map(image => image.decode().catch(() => null))));
}"""

FOOTER = """<div style="width: 100%; font-size: 8px; text-align: center;">
<span class="pageNumber"></span></div>"""


def write(page, site):
    """Print the site's pages into the file."""
    page.set_default_timeout(300_000)
    page.goto(site)
    page.wait_for_selector("article.bd-article")  # it leads on to the first page
    first, articles = page.url, []
    url = first
    while url:
        page.goto(url)
        article, url = page.evaluate(TAKE)
        articles.append(article)
    page.goto(first)
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    lines = [config["author"], f"© {config['copyright']}"]
    page.evaluate(JOIN, [articles, config["title"], lines])
    page.pdf(
        path=PDF,
        format="A4",
        margin=dict.fromkeys(("top", "bottom", "left", "right"), "18mm"),
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
        print_background=True,
        outline=True,
        tagged=True,
    )


def main():
    if not (HTML / "index.html").exists():
        sys.exit("There are no pages yet: run make book first.")
    if not (chromium := find()):
        sys.exit("There is no Chromium to print with: run python -m book.browser.")
    with serve(HTML) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        write(browser.new_page(color_scheme="light"), f"{site}index.html")
        browser.close()
    print(f"The book is in {PDF}")


if __name__ == "__main__":
    main()
