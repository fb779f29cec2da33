"""Where the book's repository is, if it is known: the one place that decides.

Only GitHub counts, since Colab and Kaggle open notebooks from there. The address comes
from CI's environment or from git's remote `origin`. Owner and name alone are taken from
it, so that no credentials in it reach a page.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
REMOTE = re.compile(
    r"(?:https://(?:[^@/]*@)?github\.com/|(?:ssh://)?git@github\.com[:/])"
    r"([\w-]+)/([\w.-]+?)(?:\.git)?/?",
    re.ASCII,
)


class Address(NamedTuple):
    owner: str
    name: str

    @property
    def repository(self) -> str:
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def pages(self) -> str:
        """Address of the published pages, with a slash at its end."""
        host = f"{self.owner.lower()}.github.io"
        folder = "" if self.name.lower() == host else f"{self.name}/"
        return f"https://{host}/{folder}"

    def colab(self, notebook: str) -> str:
        path = f"{self.owner}/{self.name}/blob/gh-pages/notebooks/{notebook}"
        return f"https://colab.research.google.com/github/{path}"

    def kaggle(self, notebook: str) -> str:
        source = f"{self.repository}/blob/gh-pages/notebooks/{notebook}"
        return f"https://kaggle.com/kernels/welcome?src={quote(source, safe='')}"


def parse(url: str) -> Address | None:
    """The address that a remote's URL names; None if it is not one for us."""
    match = REMOTE.fullmatch(url)
    return Address(*match.groups()) if match else None


def find() -> Address | None:
    """The address of this checkout's repository."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        return parse(f"{server}/{name}")
    return parse(git("config", "--get", "remote.origin.url"))


def git(*arguments: str) -> str:
    """What git says; nothing where there is no git or no repository."""
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
