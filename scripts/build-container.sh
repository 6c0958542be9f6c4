#!/usr/bin/env bash
# Builds the image that sessions run in, where it is not there yet, and prints its name (only that) on standard output.
#   scripts/build-container.sh            build cc-docker-session:<hash of what it is made from>
#   scripts/build-container.sh --tag      print the name, build nothing
#   scripts/build-container.sh --force    build all of it anew, with the newest Debian packages
# It needs a Docker engine. What is in the image: container/README.md.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"
. "$ROOT/scripts/lib/setup-venv.sh" # _fail and the installation of Debian packages
. "$ROOT/scripts/lib/base-image.sh"

REPOSITORY=cc-docker-session
LOG=

main() {
    local force=
    case "${1:-}" in
    "") ;;
    --tag | --force) force=${1#--tag} ;;
    --help | -h) sed -n '2,6s/^# \{0,1\}//p' scripts/build-container.sh && exit ;;
    *) _fail "unknown argument: $1" "scripts/build-container.sh --help" ;;
    esac
    [ $# -le 1 ] || _fail "one argument at most" "scripts/build-container.sh --help"

    local sources image
    sources=$(sources_hash)
    image=$REPOSITORY:$(tag_hash "$sources")
    if [ "${1:-}" != --tag ]; then
        require_engine
        if [ -n "$force" ] || ! exists "$image"; then
            lock
            # Whoever had the lock may have built it.
            if [ -n "$force" ] || ! exists "$image"; then build "$image" "$sources" "$force"; fi
        fi
    fi
    printf '%s\n' "$image"
}

# ---- the name. The gateway reckons it by the same rule: see container/README.md.

sources_hash() {
    find protocol/cc_protocol wrapper/cc_wrapper mcp-server/cc_mcp_server -name '*.py' -type f | LC_ALL=C sort |
        tr '\n' '\0' | xargs -0 "${SHA256[@]}" | short_hash
}

tag_hash() {
    { printf '%s\n' "$1" && "${SHA256[@]}" container/Dockerfile container/libnss_agent.c container/requirements.txt \
        pyproject.toml; } | short_hash
}

short_hash() { "${SHA256[@]}" | cut -c 1-12; }

if command -v sha256sum >/dev/null; then SHA256=(sha256sum); else SHA256=(shasum -a 256); fi

# ---- the engine

require_engine() {
    DOCKER=$(command -v docker) || _fail "there is no docker command" \
        "on Debian: sudo apt-get install docker.io; elsewhere: Docker Desktop or Docker Engine"
    local answer
    answer=$("$DOCKER" version --format '{{.Server.Version}}' 2>&1) && return
    case $answer in
    *"permission denied"*)
        _fail "you may not use the Docker engine" \
            "run this as root, or join the group and log in again: sudo usermod -aG docker \$USER" ;;
    *) _fail "the Docker engine does not answer: $(printf '%s' "$answer" | tail -n 1)" \
        "start it (sudo systemctl start docker, or Docker Desktop), or set DOCKER_HOST to where it is" ;;
    esac
}

exists() { "$DOCKER" image inspect "$1" >/dev/null 2>&1; }

# BuildKit, where any docker command here can use it. Debian's has it built in and a newer one needs the buildx plugin;
# a newer one without can only use the older builder, and must be told so.
choose_builder() {
    local client
    export DOCKER_BUILDKIT=1
    unset BUILDX_BUILDER # the engine's own builder: another would not see our base image
    while IFS= read -r client; do
        if "$client" build --help 2>/dev/null | grep -e '--secret' >/dev/null; then
            DOCKER=$client PLAIN=(--progress=plain)
            return
        fi
    done < <(type -ap docker)
    DOCKER_BUILDKIT=0 PLAIN=()
}

# ---- the build

build() { # IMAGE SOURCES FORCE
    local begun=$SECONDS old size options=()
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    LOG=$(mktemp "${TMPDIR:-/tmp}/cc-docker-build.XXXXXX")
    ensure_base
    choose_builder
    copy_certificates
    [ -z "$3" ] || options=(--no-cache)
    old=$("$DOCKER" image inspect --format '{{.Id}}' "$1" 2>/dev/null) || true
    say "building $1 (some minutes the first time)"
    "$DOCKER" build ${PLAIN[@]+"${PLAIN[@]}"} ${options[@]+"${options[@]}"} \
        --file container/Dockerfile --build-arg "SOURCES=$2" --tag "$1" . 2>&1 | tee "$LOG" | show_steps ||
        fail_with_log "$1 could not be built"
    # What --force has replaced has no name any more. (It stays where a container runs in it.)
    if [ -n "$old" ] && [ "$("$DOCKER" image inspect --format '{{len .RepoTags}}' "$old" 2>/dev/null)" = 0 ]; then
        "$DOCKER" image rm "$old" >/dev/null 2>&1 || true
    fi
    size=$("$DOCKER" image inspect --format '{{.Size}}' "$1")
    say "built $1 in $((SECONDS - begun)) s ($((size / 1000000)) MB)"
}

# One build at a time in this checkout: they would share certs/.
lock() {
    command -v flock >/dev/null || return 0
    exec 9<"$ROOT/container/Dockerfile"
    flock -n 9 && return
    say "waiting for another build"
    flock -w 1800 9 || _fail "another build has not ended in half an hour" "end it (scripts/build-container.sh), and try again"
}

# What this machine trusts beyond the usual, for the throw-away stages: see certs/README.md.
copy_certificates() {
    local file
    rm -f certs/machine-*.crt
    for file in /usr/local/share/ca-certificates/*.crt; do
        [ ! -r "$file" ] || install -m 644 "$file" "certs/machine-${file##*/}"
    done
}

clean_up() {
    wipe_line
    rm -f certs/machine-*.crt
    drop_base_root
    [ -z "$LOG" ] || rm -f "$LOG"
}

# ---- talk: all of it on standard error

say() { wipe_line && printf 'image: %s\n' "$*" >&2; }

wipe_line() { [ ! -t 2 ] || printf '\r\033[K' >&2; }

# The builder's steps: one line that changes on a terminal, a line each elsewhere.
show_steps() {
    local line seen='|'
    while IFS= read -r line; do
        case $line in
        '#'*' [internal]'*) continue ;;
        '#'[0-9]' ['* | '#'[0-9][0-9]' ['*) line=${line#* } ;; # BuildKit: "#7 [stage 2/3] RUN …", more than once
        'Step '*' : '*) ;;
        *) continue ;;
        esac
        case $seen in *"|$line|"*) continue ;; esac
        seen="$seen$line|"
        while [[ $line = *'  '* ]]; do line=${line//  / }; done
        if [ -t 2 ]; then printf '\r\033[K  %.70s' "$line" >&2; else printf '  %.100s\n' "$line" >&2; fi
    done
}

# The end of the log, what it may mean, and where the whole of it is.
fail_with_log() {
    local log=$LOG hint=
    LOG= # it stays
    wipe_line
    # BuildKit tells the failed command three times over.
    grep -v '^#[0-9]* sha256:\|executor failed running\|^ > \[\|^---\|^$' "$log" | tail -n 15 | cut -c 1-200 >&2
    if grep -qi 'certificate verify failed\|certificate problem' "$log"; then
        hint="a proxy's certificate is not known to the build: see certs/README.md"
    elif grep -qi 'no space left' "$log"; then
        hint="the disk is full; old images and layers go with: docker system prune"
    elif grep -qi 'could not resolve\|failure resolving\|name resolution\|network is unreachable' "$log"; then
        hint="containers have no way to the network: check the engine's dns and proxy settings"
    fi
    _fail "$1" ${hint:+"$hint"} "the whole log: $log"
}

main "$@"
