# Sets up the virtual environment of this checkout. Sourced by scripts/run, scripts/test and scripts/check (bash).
#
#   ROOT=/path/to/checkout; . "$ROOT/scripts/lib/setup-venv.sh"; setup_venv [EXTRAS]; "$VENV/bin/python" …
#
# A stamp in .venv says for which pyproject.toml and constraints.txt, where, and with which extras it was made: where it
# still holds, nothing is done. All output goes to standard error. Installs Debian packages only when run as root.

set -o pipefail

_say() { printf '%s\n' "$*" >&2; }
_fail() { _say "error: $1"; shift; for _line in "$@"; do _say "  $_line"; done; exit 1; }

# setup_venv [EXTRAS]: make $VENV ready for use, with these extras of pyproject.toml (such as "dev").
setup_venv() {
    VENV=$ROOT/.venv
    unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT # each would lead Python or pip out of .venv
    export PIP_USER=0
    local extras=${1:-}
    if _is_ready "$extras"; then return; fi
    if command -v flock >/dev/null; then # two set-ups at once would trip over each other
        exec 9<"$ROOT/pyproject.toml"
        flock 9
    fi
    if ! _is_ready "$extras"; then
        _make_venv
        _install "$extras"
        _stamp "$extras" >"$VENV/.cc-docker-stamp"
        _say "set-up: done"
    fi
    exec 9<&-
}

# The stamp's text: what the environment was made from, where, and with which extras.
_stamp() {
    local constraints=$ROOT/constraints.txt
    [ -f "$constraints" ] || constraints=/dev/null
    cat "$ROOT/pyproject.toml" "$constraints" | cksum
    printf '%s\n' "$VENV" "extras:$1"
}

# Whether the environment is there, whole, and made from what the checkout says now. More extras than asked for are fine.
_is_ready() {
    [ -x "$VENV/bin/python" ] && [ -f "$VENV/.cc-docker-stamp" ] || return 1
    local found
    found=$(cat "$VENV/.cc-docker-stamp")
    if [ "$found" != "$(_stamp "$1")" ]; then
        [ -z "$1" ] && [ "$found" = "$(_stamp dev)" ] || return 1
    fi
    "$VENV/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("typer") is None)' 2>/dev/null
}

_make_venv() {
    if [ -e "$VENV" ] && ! _is_usable; then
        _say "set-up: .venv is broken or was moved: making it anew"
        rm -rf "$VENV"
    fi
    if [ ! -e "$VENV" ]; then
        _find_python
        _say "set-up: making .venv with $PYTHON ($("$PYTHON" -V 2>&1))"
        "$PYTHON" -m venv "$VENV" || { rm -rf "$VENV"; _fail "the virtual environment could not be made"; }
    fi
}

# Whether .venv has a Python that runs, with pip, and stands where it was made (its commands name their place).
_is_usable() {
    "$VENV/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        grep -qF "$VENV" "$VENV/bin/activate" 2>/dev/null
}

# Sets PYTHON to a Python of at least 3.11 that can make virtual environments.
_find_python() {
    if ! _pick_python; then
        _has_apt_as_root || _fail "Python 3.11 or newer is needed, and none was found" "$(_how_to python3 python3-venv)"
        _say "set-up: installing Python from Debian's packages"
        _apt_install python3 python3-venv
        _pick_python || _fail "Python 3.11 or newer is needed; this system's package is older: $(python3 -V 2>&1)"
    fi
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null && return
    local package
    package=$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    _has_apt_as_root || _fail "$PYTHON cannot make virtual environments" "$(_how_to "$package")"
    _say "set-up: installing $package"
    _apt_install "$package"
}

_pick_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$(command -v "$name")
            return 0
        fi
    done
    return 1
}

_has_apt_as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

_how_to() {
    if command -v apt-get >/dev/null; then
        echo "install it with: sudo apt-get update && sudo apt-get install -y $*"
    else
        echo "install it with your system's package manager, then run this again"
    fi
}

_apt_install() {
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1
    then
        tail -n 15 "$log" >&2
        rm -f "$log"
        _fail "apt-get could not install $*"
    fi
    rm -f "$log"
}

_install() {
    local target=$ROOT log=$VENV/install.log constraints=() begun=$SECONDS
    [ -n "$1" ] && target="$ROOT[$1]"
    [ -f "$ROOT/constraints.txt" ] && constraints=(-c "$ROOT/constraints.txt")
    _say "set-up: installing packages (some 250 MB: a minute or two the first time)"
    if ! "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        ${constraints[@]+"${constraints[@]}"} -e "$target" 2>&1 | tee "$log" | _progress; then
        [ -t 2 ] && printf '\r\033[K' >&2
        grep -v '^\(Collecting\|  Downloading\|Requirement already\)' "$log" | tail -n 15 >&2
        _fail "the packages could not be installed" "the whole log: $log"
    fi
    [ -t 2 ] && printf '\r\033[K' >&2
    _say "set-up: packages installed in $((SECONDS - begun)) s"
}

# pip's long talk as one line that changes (on a terminal), or a line every 20 packages.
_progress() {
    local line count=0
    while IFS= read -r line; do
        case $line in
        Collecting*) count=$((count + 1)) line="package $count: ${line#Collecting }" ;;
        *Downloading*.whl*\(*) line="package $count: downloading ${line##*/}" ;;
        "Installing collected packages"*) line="putting them in place" ;;
        *) continue ;;
        esac
        if [ -t 2 ]; then
            printf '\r\033[K  %.70s' "$line" >&2
        elif [ $((count % 20)) = 1 ] && [ "${line#*: d}" = "$line" ] || [ "$line" = "putting them in place" ]; then
            _say "  $line"
        fi
    done
}
