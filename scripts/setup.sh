#!/usr/bin/env bash
# Prepares the stack of docker-compose.yml on this machine: looks whether all is there that it needs, writes .env, makes the
# data folder, and builds the two images. It starts nothing and asks nothing. Run it again after every update.
#   scripts/setup.sh                    writes .env beside docker-compose.yml
#   scripts/setup.sh --env-file FILE    writes FILE: for a second stack on the same machine
# What the file says stays as it is; what it lacks comes from the environment (CC_DATA_DIR, CC_PORT, CC_BIND, …), else from
# a default, and passwords are made. Exit codes: 0 all is ready, 1 it says what is missing, 2 wrong arguments.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
. "$ROOT/scripts/lib/setup-venv.sh" # _say and _fail
export LC_ALL=C                     # lengths in bytes, and [A-Z] as it is written

LONGEST_SOCKET=107 # bytes of a unix socket's path; the gateway makes these in the data folder:
SOCKET_BELOW_DATA="/run/sesn_01234567890123456789012345/gateway.sock~"
ENV_FILE=$ROOT/.env
STAGE=

main() {
    parse "$@"
    require_engine
    require_compose
    write_settings
    check_project
    make_data_folder
    build_session_image
    build_gateway_image
    say_what_next
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        --env-file) [ -n "${2:-}" ] || usage "--env-file needs a FILE" && ENV_FILE=$2 && shift ;;
        --env-file=?*) ENV_FILE=${1#*=} ;;
        *) usage "unknown argument: $1" ;;
        esac
        shift
    done
    [ -d "$(dirname "$ENV_FILE")" ] || _fail "there is no folder $(dirname "$ENV_FILE") for the settings"
    ENV_FILE=$(cd "$(dirname "$ENV_FILE")" && pwd)/$(basename "$ENV_FILE")
}

usage() { _say "error: $1" "(scripts/setup.sh --help)" && exit 2; }

# ---- what must be there

# An engine on this very machine, which we may use. Sets ENGINE_SOCKET.
require_engine() {
    local answer host info
    [ "$(uname)" = Linux ] || _fail "the stack needs Linux: sessions reach the gateway by unix sockets in a mounted folder," \
        "and a socket of this system does not reach into the machine that Docker runs beside it." "See docs/deployment.md."
    command -v docker >/dev/null || _fail "there is no docker command" \
        "on Debian and Ubuntu: sudo apt-get install docker.io; elsewhere: https://docs.docker.com/engine/install"
    if ! answer=$(docker version --format '{{.Server.Version}}' 2>&1); then
        case $answer in
        *"permission denied"*) _fail "you may not use the Docker engine" \
            "run this as root, or join the group and log in again: sudo usermod -aG docker \$USER" ;;
        *) _fail "the Docker engine does not answer: $(printf '%s' "$answer" | tail -n 1)" \
            "start it: sudo systemctl start docker" ;;
        esac
    fi
    host=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)}
    case ${host:=unix:///var/run/docker.sock} in
    unix://*) ENGINE_SOCKET=${host#unix://} ;;
    *) _fail "the Docker engine is not on this machine ($host): it mounts the gateway's folders, so it has to be" \
        "run this on the engine's machine, or choose the local engine: unset DOCKER_HOST, docker context use default" ;;
    esac
    info=$(docker info --format '{{.OperatingSystem}} {{json .SecurityOptions}}')
    case $info in
    *"Docker Desktop"*) _fail "Docker Desktop runs its engine in a virtual machine, into which unix sockets do not reach" \
        "use Docker Engine: https://docs.docker.com/engine/install. See docs/deployment.md." ;;
    *name=rootless* | *name=userns*) _fail "this engine gives containers other user numbers (rootless, or userns-remap)," \
        "with which the gateway and its sessions could not share folders. See docs/deployment.md." ;;
    esac
}

# Compose in either flavour. Sets COMPOSE.
require_compose() {
    local version
    if docker compose version >/dev/null 2>&1; then
        COMPOSE="docker compose"
        return
    fi
    version=$(docker-compose version --short 2>/dev/null) || _fail "there is no Docker Compose, neither v2 nor docker-compose" \
        "on Debian 12: sudo apt-get install docker-compose; on Ubuntu: docker-compose-v2;" \
        "with Docker's own packages: docker-compose-plugin"
    case ${version#v} in
    0.* | 1.[0-9].* | 1.1[0-9].* | 1.2[0-8].*) _fail "docker-compose $version is too old: 1.29 or newer is needed" ;;
    esac
    COMPOSE=docker-compose
}

# ---- the settings

write_settings() {
    local project=cc-docker folder uid gid
    if [ ! -e "$ENV_FILE" ]; then
        (umask 077 && : >"$ENV_FILE")
        printf '%s\n' "# Settings of the stack in docker-compose.yml. Begun by scripts/setup.sh, which never changes what stands here, but" \
            "# for the name of a session image that it has built. What else may stand here: .env.example" >"$ENV_FILE"
        _say "setup: making $ENV_FILE"
    fi
    [ -w "$ENV_FILE" ] || _fail "$ENV_FILE cannot be written: whose is it?"
    chmod 600 "$ENV_FILE"
    if [ "$(id -u)" = 0 ]; then
        folder=/srv/cc-docker uid=10001 gid=10001
    else
        folder=$ROOT/.data uid=$(id -u) gid=$(id -g)
    fi
    if [ "$ENV_FILE" != "$ROOT/.env" ]; then
        project='' folder=''
        keep CC_ENV_FILE "$ENV_FILE"
    fi
    keep COMPOSE_PROJECT_NAME "$project"
    keep CC_DATA_DIR "$folder"
    if [ -z "$(setting COMPOSE_PROJECT_NAME)" ] || [ -z "$(setting CC_DATA_DIR)" ]; then
        _fail "a further stack needs a name and a folder of its own, and a port: COMPOSE_PROJECT_NAME, CC_DATA_DIR and CC_PORT" \
            "set them here, or in $ENV_FILE"
    fi
    keep CC_UID "$uid"
    keep CC_GID "$gid"
    keep DOCKER_GID "$(stat -L -c %g "$ENGINE_SOCKET")"
    [ "$ENGINE_SOCKET" = /var/run/docker.sock ] || keep CC_DOCKER_SOCKET "$ENGINE_SOCKET"
    [ -n "$(setting POSTGRES_PASSWORD)${POSTGRES_PASSWORD:-}" ] || refuse_new_password
    keep POSTGRES_PASSWORD "$(random)"
    keep REDIS_PASSWORD "$(random)"
    keep CC_GATEWAY_IMAGE ""
    keep CC_BIND ""
    keep CC_PORT ""
    [ "$(setting DOCKER_GID)" = "$(stat -L -c %g "$ENGINE_SOCKET")" ] ||
        _say "setup: DOCKER_GID in $ENV_FILE is $(setting DOCKER_GID), but the group of $ENGINE_SOCKET is" \
            "$(stat -L -c %g "$ENGINE_SOCKET"): the gateway may not reach the engine"
    case $(setting CC_UID) in
    *[!0-9]* | 0) _fail "CC_UID in $ENV_FILE must be the number of a user other than root" ;;
    esac
    case $(setting POSTGRES_PASSWORD)$(setting REDIS_PASSWORD) in
    *[!A-Za-z0-9_.~-]*) _fail "POSTGRES_PASSWORD and REDIS_PASSWORD stand in addresses: letters, digits and _ . ~ - only" ;;
    esac
}

# keep NAME DEFAULT: what the file says, or else what the environment says, or else the default, if that is not empty.
keep() {
    local found
    found=$(setting "$1")
    if [ -z "$found" ]; then
        found=${!1:-$2}
        [ -z "$found" ] || add "$1" "$found"
    elif [ -n "${!1:-}" ] && [ "${!1}" != "$found" ]; then
        _say "setup: $1 is set to something else here than in $ENV_FILE, and Compose would believe the environment:" \
            "unset it, or change the file"
    fi
}

# A database keeps the password that it was made with: a new one would only lock the gateway out.
refuse_new_password() {
    local volume
    volume=$(setting COMPOSE_PROJECT_NAME)_postgres-data
    if docker volume inspect "$volume" >/dev/null 2>&1; then
        _fail "there is a database already (volume $volume), but $ENV_FILE names no POSTGRES_PASSWORD" \
            "put the password back that it was made with; or, where nothing in it counts: docker volume rm $volume"
    fi
}

# The last value of a setting in the file, without quotes or a comment behind it: as Compose reads it.
setting() {
    sed -n "s/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}$1[[:space:]]*=[[:space:]]*//p" "$ENV_FILE" | tail -n 1 |
        sed 's/^"\([^"]*\)".*/\1/; t; s/^'\''\([^'\'']*\)'\''.*/\1/; t; s/[[:space:]]#.*//; s/^#.*//; s/[[:space:]]*$//'
}

add() {
    [ -z "$(tail -c 1 "$ENV_FILE")" ] || printf '\n' >>"$ENV_FILE"
    printf '%s=%s\n' "$1" "$2" >>"$ENV_FILE"
}

random() { od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'; }

# Two checkouts with one project name would take each other's containers for their own.
check_project() {
    local name other
    name=$(setting COMPOSE_PROJECT_NAME)
    while IFS= read -r other; do
        case $other in
        "" | "$ROOT" | "<no value>") ;;
        *) _fail "the stack $name on this engine belongs to another checkout: $other" \
            "give this one another name: COMPOSE_PROJECT_NAME in $ENV_FILE" ;;
        esac
    done < <(docker ps --all --filter "label=com.docker.compose.project=$name" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}')
}

# ---- the data folder: one path for engine, gateway and sessions

make_data_folder() {
    local folder uid gid longest=$((LONGEST_SOCKET - ${#SOCKET_BELOW_DATA}))
    folder=$(setting CC_DATA_DIR) uid=$(setting CC_UID) gid=$(setting CC_GID)
    case $folder in
    /?*) ;;
    *) _fail "CC_DATA_DIR in $ENV_FILE must be an absolute path, not $folder" ;;
    esac
    case $folder in
    *[!A-Za-z0-9._/@+-]* | */ | *//* | */../* | */./* | */.. | */.) _fail "CC_DATA_DIR in $ENV_FILE is $folder:" \
        "plain letters, digits and . _ @ + - between single slashes only" ;;
    esac
    [ ${#folder} -le $longest ] || _fail "CC_DATA_DIR in $ENV_FILE has ${#folder} characters, and $longest are the most:" \
        "the paths of sockets end at $LONGEST_SOCKET. Choose a shorter folder, such as /srv/cc-docker"
    if [ ! -e "$folder" ]; then
        { mkdir -p "$(dirname "$folder")" && mkdir -m 700 "$folder"; } 2>/dev/null ||
            _fail "the data folder $folder cannot be made here" \
                "as root: install -d -m 700 -o $uid -g $gid $folder" "or set CC_DATA_DIR in $ENV_FILE to another folder"
        _say "setup: made the data folder $folder"
    fi
    [ -d "$folder" ] || _fail "the data folder $folder is no folder"
    [ "$(stat -c %u "$folder")" = "$uid" ] && return
    { [ -z "$(ls -A "$folder")" ] && chown "$uid:$gid" "$folder"; } 2>/dev/null ||
        _fail "the data folder $folder belongs to user $(stat -c %u "$folder"), and the gateway runs as $uid (CC_UID)" \
            "if it is meant: chown -R $uid:$gid $folder, while no gateway runs on it"
}

# ---- the images

build_session_image() {
    local image found
    image=$("$ROOT/scripts/build-container.sh")
    found=$(setting CC_SESSION_IMAGE)
    case $found in
    "$image") ;;
    "") add CC_SESSION_IMAGE "$image" ;;
    cc-docker-session:*) # one that an earlier run has built
        local text
        text=$(sed "s|^\([[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}CC_SESSION_IMAGE[[:space:]]*=\).*|\1$image|" "$ENV_FILE")
        printf '%s\n' "$text" >"$ENV_FILE" ;;
    *) _say "setup: sessions run in $found, as $ENV_FILE says; this checkout's own image is $image" ;;
    esac
}

build_gateway_image() {
    local image old log options=() begun=$SECONDS
    image=$(setting CC_GATEWAY_IMAGE)
    image=${image:-cc-docker-gateway:local}
    choose_builder
    STAGE=$(mktemp -d "${TMPDIR:-/tmp}/cc-docker-gateway.XXXXXX")
    log=$STAGE.log
    trap 'rm -rf "$STAGE"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    copy_context
    old=$("$DOCKER" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || true
    _say "setup: building $image (a minute the first time)"
    if ! "$DOCKER" build ${PLAIN[@]+"${PLAIN[@]}"} --file "$STAGE/gateway/Dockerfile" --tag "$image" "$STAGE" >"$log" 2>&1; then
        tail -n 15 "$log" | cut -c 1-200 >&2
        grep -qi 'certificate verify failed\|certificate problem' "$log" &&
            options=("a proxy's certificate is not known to the build: see certs/README.md")
        _fail "$image could not be built" ${options[@]+"${options[@]}"} "the whole log: $log"
    fi
    rm -f "$log"
    # What has been replaced has no name any more. It stays for as long as a container runs in it.
    if [ -n "$old" ] && [ "$("$DOCKER" image inspect --format '{{len .RepoTags}}' "$old" 2>/dev/null)" = 0 ]; then
        "$DOCKER" image rm "$old" >/dev/null 2>&1 || true
    fi
    _say "setup: built $image in $((SECONDS - begun)) s"
}

# Only what gateway/Dockerfile copies, so that no .env or data folder reaches the engine; with what this machine trusts.
copy_context() {
    local file
    tar -C "$ROOT" -c --exclude=__pycache__ LICENSE README.md pyproject.toml constraints.txt certs \
        protocol/cc_protocol wrapper/cc_wrapper mcp-server/cc_mcp_server client/cc_client gateway | tar -x -C "$STAGE"
    for file in /usr/local/share/ca-certificates/*.crt; do
        [ ! -r "$file" ] || install -m 644 "$file" "$STAGE/certs/machine-${file##*/}"
    done
}

# BuildKit, where any docker command here can use it: see scripts/build-container.sh.
choose_builder() {
    export DOCKER_BUILDKIT=1
    unset BUILDX_BUILDER
    while IFS= read -r DOCKER; do
        if "$DOCKER" build --help 2>/dev/null | grep -e '--secret' >/dev/null; then
            PLAIN=(--progress=plain)
            return
        fi
    done < <(type -ap docker)
    DOCKER=docker DOCKER_BUILDKIT=0 PLAIN=()
}

# ---- the last word

say_what_next() {
    local compose=$COMPOSE port bind model=
    port=$(setting CC_PORT)
    bind=$(setting CC_BIND)
    [ "$ENV_FILE" = "$ROOT/.env" ] || compose="$COMPOSE --env-file $ENV_FILE"
    for name in CC_MODEL_URL ANTHROPIC_API_KEY CLAUDE_CODE_OAUTH_TOKEN; do
        [ -n "$model" ] || [ -z "$(setting "$name")" ] || model=$name
    done
    [ -n "$model" ] || echo "No model is named in $ENV_FILE, so a scripted one will answer: set ANTHROPIC_API_KEY there for a real one."
    cat <<NEXT
All is ready. In $ROOT:

  $compose up -d                       # start; again after every change of the settings
  TOKEN=\$($compose exec -T gateway cc-docker token)

  API=http://${bind:-127.0.0.1}:${port:-8080}/api/v1
  curl -s --retry 30 --retry-delay 1 --retry-all-errors -o /dev/null -f http://${bind:-127.0.0.1}:${port:-8080}/health/ready
  S=\$(curl -sS \$API/sessions -H "Authorization: Bearer \$TOKEN" -H 'Content-Type: application/json' -d '{}' |
      grep -o 'sesn_[0-9a-z]*' | head -n 1)
  curl -sS \$API/sessions/\$S/chat -H "Authorization: Bearer \$TOKEN" -H 'Content-Type: application/json' \\
      -d '{"prompt": "list the files here and say hello"}'

  $compose exec gateway cc-docker doctor    # where something is wrong

To stop it, update it, back it up, or put it behind TLS: docs/deployment.md
NEXT
}

main "$@"
