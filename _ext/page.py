"""Some things in the theme's pages to set right."""


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
    # No script is needed to show a page, so none holds it up: they run in their
    # order when the page is there. The search page's own scripts need them at once.
    if pagename != "search":
        context["script_files"] = [deferred(s) for s in context["script_files"]]


def deferred(script):
    if not script.filename:
        return script
    attributes = {"defer": "defer", **script.attributes}
    return type(script)(script.filename, priority=script.priority, **attributes)


def setup(app):
    app.connect("html-page-context", amend)
    return {"version": "1", "parallel_read_safe": True}
