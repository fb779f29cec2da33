"""Find a Chromium for the built pages, or install one; serve it a folder.

Run as a program it installs one where none is found: from Debian's or
Ubuntu's packages where this user may, else from Playwright's download. Where
neither is to be had, it says so; the page tests then skip themselves.
"""

import contextlib
import functools
import gzip
import http.server
import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

TEXTS = ("text/", "application/javascript", "application/json", "image/svg")
NAMES = ("chromium", "chromium-browser", "google-chrome")

# The sandbox and the GPU are not there in containers; the rest keeps the
# browser from asking other hosts for things of its own.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find():
    """Path of a Chromium that starts, or None."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    for path in [*map(shutil.which, NAMES), own]:
        if path and os.path.exists(path) and _run(path, "--version"):
            return path
    return None


@functools.lru_cache
def _compressed(path, changed):
    """The file with gzip; `changed`, its time, tells one version from the next."""
    return gzip.compress(path.read_bytes())


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves as web hosts do: compressed, but for what is so already."""

    def log_message(self, *arguments):
        """Say nothing of each request."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        kind = self.guess_type(path)
        if not path.is_file() or not kind.startswith(TEXTS):
            return super().send_head()
        body = _compressed(path, path.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


@contextlib.contextmanager
def serve(folder):
    """Serve a folder from a free port, with gzip; the address ends in a slash."""
    handler = functools.partial(_Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def install():
    """Try each way to install one; which worked, `find` tells."""
    playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    ways = [playwright]
    if shutil.which("apt-get") and _run(*root, "true"):
        apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        _run(*apt, "update", "-q")
        chromium = [*apt, "install", "-qy", "--no-install-recommends", "chromium"]
        # Ubuntu has no such package, but the libraries that the download needs.
        ways = [chromium, [*playwright, "--with-deps"], playwright]
    for way in ways:
        if not find():
            _run(*way)


def _run(*command):
    """Whether the command ran and exited 0."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main():
    if not find():
        print("No Chromium found: trying to install one.", flush=True)
        install()
    path = find()
    if path:
        print(f"The page tests use {path}.")
    else:
        print("There is no Chromium to be had: the page tests are skipped.")


if __name__ == "__main__":
    main()
