"""Where the book's repository is, if it is known: the one place that decides.

Only an https address on GitHub counts, since Colab and Kaggle open nothing
else. It comes from CI's environment or from git's remote `origin`. Owner and
name alone are taken from it, so that no credentials in it reach a page.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
GITHUB = "https://github.com"
BRANCH = "main"  # of the sources
PAGES_BRANCH = "gh-pages"  # of the built site: tools/publish.sh
PATH = re.compile(r"/([\w-]+)/([\w.-]+?)(?:\.git)?/?", re.ASCII)


@dataclass(frozen=True)
class Address:
    owner: str
    name: str

    @property
    def repository(self) -> str:
        return f"{GITHUB}/{self.owner}/{self.name}"

    @property
    def pages(self) -> str:
        """Address of the published pages, with a slash at its end."""
        host = f"{self.owner.lower()}.github.io"
        folder = "" if self.name.lower() == host else f"{self.name}/"
        return f"https://{host}/{folder}"

    def colab(self, notebook: str) -> str:
        path = f"{self.owner}/{self.name}/blob/{PAGES_BRANCH}/notebooks/{notebook}"
        return f"https://colab.research.google.com/github/{quote(path)}"

    def kaggle(self, notebook: str) -> str:
        source = f"{self.repository}/blob/{PAGES_BRANCH}/notebooks/{notebook}"
        return f"https://kaggle.com/kernels/welcome?src={quote(source, safe='')}"


def parse(url: str | None) -> Address | None:
    """The address that a remote's URL names; None if it is not one for us."""
    try:
        parts = urlsplit(url or "")
        at_github = parts.scheme == "https" and parts.hostname == "github.com"
        at_github = at_github and parts.port in (None, 443)
    except ValueError:  # a port that is no number, a broken IPv6 address
        return None
    match = PATH.fullmatch(parts.path)
    return Address(*match.groups()) if at_github and match else None


def find() -> Address | None:
    """The address of this checkout's repository."""
    name = os.environ.get("GITHUB_REPOSITORY")
    if name:
        return parse(f"{os.environ.get('GITHUB_SERVER_URL', GITHUB)}/{name}")
    return parse(_git("config", "--get", "remote.origin.url"))


def commit() -> str | None:
    """The commit that is checked out."""
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # there is no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None
