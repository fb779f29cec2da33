#!/bin/sh
# Push the built pages to the branch that GitHub shows and that Colab opens the
# notebooks from: one commit, the newest. GITHUB_TOKEN, where it is set, is read
# by git when it asks for a password, and stands on no command line.
set -eu
cd "$(dirname "$0")/.."
test -f _build/html/index.html ||
    { echo "There are no pages yet: run make book first." >&2; exit 1; }
address=$(git config --get remote.origin.url) ||
    { echo "There is no remote origin to publish to." >&2; exit 1; }
commit=$(git rev-parse --short HEAD)

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R _build/html/. "$copy"
cd "$copy"
touch .nojekyll # Jekyll would drop _static
git init --quiet --initial-branch=gh-pages
git add --all
git -c user.name=publish -c user.email=publish@localhost \
    commit --quiet --message="Pages of $commit"
if [ -n "${GITHUB_TOKEN:-}" ]; then
    # shellcheck disable=SC2016 # git's shell expands it
    git config credential.helper \
        '!f() { echo username=x-access-token; echo "password=$GITHUB_TOKEN"; }; f'
fi
git push --quiet --force "$address" gh-pages
