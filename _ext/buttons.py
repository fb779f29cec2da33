"""The buttons above a page: its notebook, the places to run it, the repository.

Those that need the repository's address are left out where it is not known.
"""

from sphinx.util import logging

import address

logger = logging.getLogger(__name__)


def set_address(app, config):
    """Fill in the theme's options that _config.yml cannot know."""
    found = address.find()
    config.html_theme_options |= {
        "repository_url": found.repository if found else "",
        "repository_branch": address.BRANCH,
        "use_repository_button": bool(found),
        "use_edit_page_button": bool(found),
        "use_issues_button": bool(found),
    }
    logger.info("The repository: %s", found.repository if found else "not known")


def link(url, text, tooltip, icon, label):
    return {
        "type": "link",
        "url": url,
        "text": text,
        "tooltip": tooltip,
        "icon": icon,
        "label": label,
    }


def amend(app, pagename, templatename, context, doctree):
    """Offer the exported notebook, not the source; launch that one as well."""
    groups = {group.get("label"): group for group in context["header_buttons"]}
    pages = groups.get("download-buttons")
    if pages is None:
        return
    # What prints the page stays. The sources are MyST, which no other program
    # shows, and hold what a build without solutions leaves out.
    pages["buttons"] = [b for b in pages["buttons"] if b["type"] == "javascript"]
    if app.env.doc2path(pagename).endswith(".ipynb"):
        notebook = pagename.rpartition("/")[2] + ".ipynb"
        folder = context["pathto"]("notebooks", 1)
        pages["buttons"][:0] = [
            link(
                f"{folder}/{notebook}",
                "Notebook (.ipynb)",
                "Download this page as a notebook",
                "fas fa-code",
                "download-notebook-button",
            ),
            link(
                f"{folder}/{app.wheel}",
                "Package (.whl)",
                "Download the package, to lie beside the notebook",
                "fas fa-box-archive",
                "download-package-button",
            ),
        ]
        if found := address.find():
            context["header_buttons"].insert(0, launch(found, notebook))
    for group in groups.values():
        for button in group.get("buttons", []):
            rename(button)


def launch(found, notebook):
    return {
        "type": "group",
        "label": "launch-buttons",
        "tooltip": "Run this page elsewhere",
        "icon": "fas fa-rocket",
        "buttons": [
            link(
                found.colab(notebook),
                "Colab",
                "Run this page on Colab",
                "_static/images/logo_colab.png",
                "launch-colab",
            ),
            link(
                found.kaggle(notebook),
                "Kaggle",
                "Run this page on Kaggle",
                "fab fa-kaggle",
                "launch-kaggle",
            ),
        ],
    }


def rename(button):
    """Say what a reader comes for: the theme says "open issue"."""
    words = {
        "source-issues-button": "Report an error",
        "source-edit-button": "Edit this page",
    }
    if text := words.get(button.get("label")):
        button |= {"text": text, "tooltip": text}


def setup(app):
    app.connect("config-inited", set_address)
    app.connect("html-page-context", amend, priority=900)  # after the theme
    return {"version": "1", "parallel_read_safe": True}
