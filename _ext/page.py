"""Two things in the theme's pages to set right."""


def amend(app, pagename, templatename, context, doctree):
    # Docutils gives the entries of the bibliography a role that may not stand
    # in a list: screen readers then announce a list without items.
    if "body" in context:
        context["body"] = context["body"].replace(
            'role="doc-biblioentry"', 'role="listitem"'
        )
    # Jupyter Book loads Thebe (run cells on a remote server) whether it is
    # used or not, twice, so that its second script ends in an error.
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes}".lower()
    ]


def setup(app):
    app.connect("html-page-context", amend)
    return {"version": "1", "parallel_read_safe": True}
