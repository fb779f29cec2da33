"""Ask Lighthouse about every built page: `make lighthouse`.

Needs npm, whose registry has Lighthouse, and a Chromium. A page passes if it is fully
accessible and as fast as the bars below. Speed is measured, so nothing else should
run on the machine meanwhile.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.browser import FLAGS, find, serve

HTML = Path(__file__).resolve().parent.parent / "_build" / "html"
VERSION = "12"  # the last that runs on Node 20
# What a page must reach on each kind of device, out of 1.
BARS = {
    "desktop": {"accessibility": 1.0, "performance": 0.95},
    "mobile": {"accessibility": 1.0, "performance": 0.80},
}


def scores(url, kind, chromium):
    """Lighthouse's scores of a page, by category, and what failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            *("npx", "--yes", f"lighthouse@{VERSION}", url, "--quiet"),
            *("--output=json", f"--output-path={report}"),
            f"--only-categories={','.join(BARS[kind])}",
            f"--chrome-flags={' '.join(['--headless=new', *FLAGS])}",
            *(["--preset=desktop"] if kind == "desktop" else []),
        ]
        subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": chromium})
        found = json.loads(report.read_text("utf-8"))
    failed = [
        audit["title"]
        for reference in found["categories"]["accessibility"]["auditRefs"]
        if (audit := found["audits"][reference["id"]])["score"] == 0
    ]
    return {name: found["categories"][name]["score"] for name in BARS[kind]}, failed


def main(pages):
    if not (HTML / "index.html").exists():
        sys.exit("There are no pages yet: run make book first.")
    chromium = find()
    if chromium is None or shutil.which("npx") is None:
        sys.exit("Lighthouse needs npm, with its npx, and a Chromium. Install them.")
    pages = pages or sorted(path.stem for path in (HTML / "chapters").glob("*.html"))
    missed = False
    with serve(HTML) as site:
        for page in pages:
            for kind, bars in BARS.items():
                found, failed = scores(f"{site}chapters/{page}.html", kind, chromium)
                below = [name for name, bar in bars.items() if found[name] < bar]
                missed |= bool(below)
                text = ", ".join(f"{name} {score}" for name, score in found.items())
                words = [f"{page}, {kind}: {text}", *failed]
                print(
                    "; ".join(words) + (" BELOW THE BAR" if below else ""), flush=True
                )
    sys.exit(missed)


if __name__ == "__main__":
    main(sys.argv[1:])
