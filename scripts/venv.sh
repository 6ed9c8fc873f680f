# Sourced by the scripts beside it: makes .venv, if it is missing, and defines `install`.
# PYTHON names the interpreter; without it, python3 is taken.

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    command -v "$python" >/dev/null || fail "$python was not found; install Python 3.10 or newer, or set PYTHON to it"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$("$python" --version) is too old; mace-cl needs Python 3.10 or newer: set PYTHON to one"
    "$python" -m venv --clear .venv ||
        fail "$python can't make a virtual environment; on Debian or Ubuntu: apt install python3-venv"
fi

install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "pip could not install what mace-cl needs; the lines above say why"
}
