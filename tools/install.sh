#!/bin/sh
# Make .venv and install what the book and its tests need. What goes wrong is
# said in one sentence; run again, it goes on where it stopped.
set -u
cd "$(dirname "$0")/.." || exit 1
log=.venv/install.log

fail() {
    echo "$*" >&2
    exit 1
}

# Exits 0: fit, 3: the right version, but no way to make an environment.
# Debian without python3-venv and Colab have venv but not ensurepip, which
# brings the pip; a pip that can install into another environment does as well.
check='
import importlib.util as util, sys
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit(2)
if not util.find_spec("venv"):
    sys.exit(3)
if not util.find_spec("ensurepip"):
    if not util.find_spec("pip"):
        sys.exit(3)
    import pip
    if tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3):
        sys.exit(3)
'

find_python() {
    lacking=
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        "$python" -c "$check" >/dev/null 2>&1
        case $? in
            0) return ;;
            3) lacking=${lacking:-$python} ;;
        esac
    done
    [ -z "$lacking" ] || fail "$lacking cannot make a virtual environment:" \
        "install its venv module (Debian, Ubuntu: apt-get install python3-venv)."
    fail "No Python 3.11, 3.12 or 3.13 found: install one, or name it with" \
        "make PYTHON=/path/to/python."
}

make_venv() {
    find_python
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    else
        "$python" -m venv --clear --without-pip .venv &&
            "$python" -m pip --python .venv/bin/python install -q pip
    fi
}

pip_install() {
    .venv/bin/python -m pip install -q --no-input --disable-pip-version-check \
        $progress "$@" 2>>"$log" && return
    grep '^ERROR' "$log" | tail -n 1 >&2
    reason="pip failed"
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    if [ "$free" -lt 100000 ] || grep -qi 'no space left' "$log"; then
        reason="the disk is full"
    elif grep -qiE 'connection|timed? ?out|from versions: none' "$log"; then
        reason="the package registry cannot be reached"
    fi
    fail "The installation stopped because $reason; see pip's log, $log, and" \
        "run the same command again to go on."
}

.venv/bin/python -c "$check
import pip" >/dev/null 2>&1 ||
    make_venv || fail "The environment .venv could not be made (see above)."

rm -f "$log"
progress=
[ -t 1 ] || progress="--progress-bar off"
echo "Installing into .venv; the first time, torch alone is several GB."
pip_install -r requirements.txt
pip_install --no-deps -r requirements-d2l.txt
pip_install --no-deps --no-build-isolation -e .

# Kernels warn that they talk over unencrypted TCP. They listen on this
# machine's loopback alone, and the line would stand in every log.
mkdir -p .venv/etc/ipython
echo '{"IPKernelApp": {"log_level": "ERROR"}}' \
    >.venv/etc/ipython/ipython_kernel_config.json
