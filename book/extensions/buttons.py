"""The buttons above a page: its notebook, the places to run it, the repository.

Those that need the repository's address are left out where it is not known.
"""

import address


def set_address(app, config):
    """Fill in the theme's options that _config.yml cannot know."""
    found = address.find()
    config.html_theme_options |= {
        "repository_url": found.repository if found else "",
        "repository_branch": "main",
        "use_repository_button": bool(found),
        "use_edit_page_button": bool(found),
        "use_issues_button": bool(found),
    }


def link(label, text, tooltip, url, icon):
    button = {"type": "link", "label": label, "text": text}
    return button | {"tooltip": tooltip, "url": url, "icon": icon}


def amend(app, pagename, templatename, context, doctree):
    """Offer the exported notebook, not the source; launch that one as well."""
    groups = {group.get("label"): group for group in context["header_buttons"]}
    downloads = groups.get("download-buttons")
    if downloads is None:
        return
    # What prints the page stays. The sources are MyST, which no other program shows,
    # and hold what a build without solutions leaves out.
    kept = [b for b in downloads["buttons"] if b["type"] == "javascript"]
    downloads["buttons"] = kept
    if not app.env.doc2path(pagename).endswith(".ipynb"):
        return
    notebook = pagename.rpartition("/")[2] + ".ipynb"
    folder = context["pathto"]("notebooks", 1)
    downloads["buttons"] = [
        link(
            "download-notebook-button",
            "Notebook (.ipynb)",
            "Download this page as a notebook",
            f"{folder}/{notebook}",
            "fas fa-code",
        ),
        link(
            "download-package-button",
            "Package (.whl)",
            "Download the package, to lie beside the notebook",
            f"{folder}/{app.wheel}",
            "fas fa-box-archive",
        ),
        *kept,
    ]
    if found := address.find():
        colab, kaggle = found.colab(notebook), found.kaggle(notebook)
        icons = "_static/images/logo_colab.png", "fab fa-kaggle"
        launch = {
            "type": "group",
            "label": "launch-buttons",
            "tooltip": "Run this page elsewhere",
            "icon": "fas fa-rocket",
            "buttons": [
                link("launch-colab", "Colab", "Run on Colab", colab, icons[0]),
                link("launch-kaggle", "Kaggle", "Run on Kaggle", kaggle, icons[1]),
            ],
        }
        context["header_buttons"].insert(0, launch)


def setup(app):
    app.connect("config-inited", set_address)
    app.connect("html-page-context", amend, priority=900)  # after the theme
    return {"version": "1", "parallel_read_safe": True}
