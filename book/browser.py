"""Find a Chromium for the built pages, and serve it a folder.

`python -m book.browser` installs one where none is found: from Debian's packages where
this user may, else with Playwright's own installer. Where neither is to be had, it says
so; the page tests then skip themselves.
"""

import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading

from playwright.sync_api import sync_playwright

FLAGS = ["--disable-gpu", "--disable-quic", "--disable-sync"]  # beside Playwright's


def find():
    """Path of a Chromium that starts, or None."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    for path in [*map(shutil.which, ("chromium", "google-chrome")), own]:
        if path and runs(path, "--version"):  # Ubuntu's chromium may be a stub
            return path
    return None


def install():
    """Try each way to install one until one is found; return its path, or None."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
    ways = [
        [*root, "apt-get", "install", "-qy", "--no-install-recommends", "chromium"],
        [*playwright, "--with-deps"],
        playwright,
    ]
    runs(*root, "apt-get", "update", "-q")
    for way in ways:
        if runs(*way) and (path := find()):
            return path
    return None


def runs(*command):
    """Whether a command runs and exits with 0."""
    try:
        return not subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Say nothing of each request."""


@contextlib.contextmanager
def serve(folder):
    """Serve a folder from a free port; the address ends in a slash."""
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


if __name__ == "__main__":
    if path := find() or install():
        print(f"The page tests use {path}.")
    else:
        print("There is no Chromium to be had: the page tests are skipped.")
