#!/bin/sh
# Make .venv and install what the book and its tests need. What goes wrong is said in
# one sentence; run again, it goes on where it stopped.
set -u
cd "$(dirname "$0")/.." || exit 1
log=.venv/install.log
check='import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

fail() {
    echo "$*" >&2
    exit 1
}

make_venv() {
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        "$python" -c "$check" >/dev/null 2>&1 || continue
        if "$python" -c 'import ensurepip' 2>/dev/null; then
            "$python" -m venv --clear .venv && return
        # Debian without python3-venv, and Colab, do not have the pip that goes in.
        elif "$python" -m pip --python "$python" --version >/dev/null 2>&1; then
            "$python" -m venv --clear --without-pip .venv &&
                "$python" -m pip --python .venv/bin/python install -q pip && return
        fi
        fail "$python cannot make a virtual environment: install its venv module" \
            "(Debian, Ubuntu: apt-get install python3-venv)."
    done
    fail "No Python 3.11, 3.12 or 3.13 found: install one, or name it with" \
        "make PYTHON=/path/to/python."
}

pip_install() {
    .venv/bin/python -m pip install -q --no-input --disable-pip-version-check \
        $progress "$@" 2>>"$log" && return
    grep '^ERROR' "$log" | tail -n 1 >&2
    reason="pip failed"
    if grep -qi 'no space left' "$log"; then
        reason="the disk is full"
    elif grep -qiE 'connection|timed? ?out|from versions: none' "$log"; then
        reason="the package registry cannot be reached"
    fi
    fail "The installation stopped because $reason; see pip's log, $log, and" \
        "run the same command again to go on."
}

.venv/bin/python -c "import pip; $check" >/dev/null 2>&1 || make_venv
rm -f "$log"
progress=
[ -t 1 ] || progress="--progress-bar off"
echo "Installing into .venv; the first time, torch alone is several GB."
pip_install -r requirements.txt
pip_install --no-deps -r requirements-d2l.txt
pip_install --no-deps --no-build-isolation -e .

# Kernels warn that they talk over unencrypted TCP. They listen on this machine's
# loopback alone, and the line would stand in every log.
mkdir -p .venv/etc/ipython
echo '{"IPKernelApp": {"log_level": "ERROR"}}' \
    >.venv/etc/ipython/ipython_kernel_config.json
