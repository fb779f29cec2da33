"""Print the built pages, in the order of the contents, as one PDF.

Every page is opened in Chromium and its text taken as a reader sees it, with
all that is folded opened; the texts are then one document, whose links lead
inside it.
"""

import sys
from pathlib import Path

import yaml
from browser import FLAGS, find, serve
from playwright.sync_api import sync_playwright

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
    const next = document.querySelector("a.right-next");
    return [article.outerHTML, next && next.href];
}"""

# Puts the texts where the first page's was, behind a title and the contents.
JOIN = """([articles, title, lines]) => {
    document.title = title;
    document.documentElement.classList.add("whole-book");
    const old = document.querySelector("article.bd-article");
    old.insertAdjacentHTML("beforebegin", articles.join(""));
    old.remove();
    const front = document.createElement("div");
    front.className = "front-page";
    const add = (parent, tag, text) => {
        const element = document.createElement(tag);
        element.textContent = text;
        return parent.appendChild(element);
    };
    add(front, "p", title).className = "title";
    lines.forEach(line => add(front, "p", line));
    const contents = add(front, "ol", "");
    const all = [...document.querySelectorAll("article.bd-article")];
    for (const article of all) {
        const link = add(add(contents, "li", ""), "a",
            article.querySelector("h1").textContent);
        link.href = "#" + article.id;
    }
    all[0].before(front);
    document.querySelectorAll("article a[href^='#']").forEach(e => {
        if (!document.getElementById(e.getAttribute("href").slice(1))) {
            e.removeAttribute("href");
        }
    });
    return document.fonts.ready.then(() => Promise.all(
        [...document.images].map(image => image.decode().catch(() => null))));
}"""

FOOTER = """<div style="width: 100%; font-size: 8px; text-align: center;">
<span class="pageNumber"></span></div>"""


def collect(page, url):
    """The texts of all pages, from this one on."""
    articles = []
    while url:
        page.goto(url, wait_until="networkidle")
        article, url = page.evaluate(TAKE)
        articles.append(article)
    return articles


def write(site, executable, path):
    """Print the site's pages into the file."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(site)
        page.wait_for_selector("article.bd-article")  # it leads on to the first page
        first = page.url
        articles = collect(page, first)
        page.goto(first, wait_until="networkidle")
        lines = [config["author"], f"© {config['copyright']}"]
        page.evaluate(JOIN, [articles, config["title"], lines])
        path.parent.mkdir(parents=True, exist_ok=True)
        page.pdf(
            path=path,
            format="A4",
            margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            print_background=True,
            outline=True,
            tagged=True,
        )
        browser.close()


def main():
    if not (HTML / "index.html").exists():
        sys.exit("There are no pages yet: run make book first.")
    executable = find()
    if executable is None:
        sys.exit("There is no Chromium to print with: run python tools/browser.py.")
    with serve(HTML) as site:
        write(f"{site}index.html", executable, PDF)
    print(f"The book is in {PDF}")


if __name__ == "__main__":
    main()
