# shellcheck shell=bash
# The image debian:bookworm-slim, which the session image is built on: found, pulled, or made from Debian packages. Sourced by
# scripts/build-container.sh after setup-venv.sh; it wants $DOCKER, $LOG and `say`.
#
# What is made here resembles the pulled one: documentation but licences left out, now and by later installations.

BASE=debian:bookworm-slim
BASE_SUITE=bookworm
BASE_ROOT=

# ensure_base: afterwards $BASE is there.
ensure_base() {
    if "$DOCKER" image inspect "$BASE" >/dev/null 2>&1; then return; fi
    say "pulling $BASE"
    if "$DOCKER" pull "$BASE" >"$LOG" 2>&1; then return; fi
    say "it cannot be pulled ($(tail -n 1 "$LOG" | cut -c 1-200))"
    _require_debian
    _make_base
}

_require_debian() {
    _has_apt_as_root || _fail "$BASE can neither be pulled nor made here: making it needs root and apt-get" \
        "do one of these, and run this again:" \
        "- give the Docker engine a way to Docker Hub (network, proxy, or a mirror in its daemon.json)" \
        "- bring the image from another machine: docker save $BASE | ssh THIS-MACHINE docker load" \
        "- on Debian, run this as root: sudo scripts/build-container.sh"
}

_make_base() {
    local begun=$SECONDS sources mirror
    say "making $BASE from Debian packages (about a minute)"
    _apt_install debootstrap debian-archive-keyring
    sources=$(_debian_sources)
    mirror=$(printf '%s\n' "$sources" | awk -v suite="$BASE_SUITE" '$3 == suite { print $2; exit }')
    [ -n "$mirror" ] || _fail "this machine's apt sources name no Debian mirror to make $BASE from" \
        "add one (man sources.list; Debian, component main, http or https, without a password), or load the image:" \
        "docker save $BASE | ssh THIS-MACHINE docker load"
    BASE_ROOT=$(mktemp -d "${TMPDIR:-/var/tmp}/cc-docker-base.XXXXXX")
    chmod 755 "$BASE_ROOT" # it becomes the root of the image
    {
        debootstrap --variant=minbase --force-check-gpg --include=ca-certificates "$BASE_SUITE" "$BASE_ROOT" "$mirror" &&
            _finish_base "$sources" &&
            tar -C "$BASE_ROOT" --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -c . |
            "$DOCKER" import --change 'CMD ["bash"]' --change 'LABEL org.cc-docker.base=debootstrap' - "$BASE"
    } >"$LOG" 2>&1 || fail_with_log "$BASE could not be made"
    drop_base_root
    say "made $BASE in $((SECONDS - begun)) s"
}

# Lines of sources.list of this machine's Debian mirrors, for the suite that is wanted. apt itself reads its files, whatever
# their format. An address with a password is not for an image.
_debian_sources() {
    # shellcheck disable=SC2016  # the $(…) are apt's own
    apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)' 'Identifier: Packages' |
        awk -v suite="$BASE_SUITE" '
            $1 == "Debian" && $2 == "main" && $3 ~ /^[a-z]+(-updates|-security)?$/ && $4 ~ /^https?:/ && $4 !~ /@/ {
                sub(/^[a-z]+/, suite, $3)
                if (!seen[$4, $3]++) print "deb", $4, $3, "main"
            }'
}

# The root as an image has it: with the fixes since the release, without documentation, and with nothing of this machine.
_finish_base() {
    local root=$BASE_ROOT
    printf '%s\n' "$1" >"$root/etc/apt/sources.list"
    printf 'Acquire::Languages "none";\nAcquire::GzipIndexes "true";\n' >"$root/etc/apt/apt.conf.d/slim"
    printf 'path-%s\n' 'exclude /usr/share/man/*' 'exclude /usr/share/info/*' 'exclude /usr/share/locale/*' \
        'exclude /usr/share/doc/*' 'include /usr/share/doc/*/copyright' >"$root/etc/dpkg/dpkg.cfg.d/slim"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no package may start a service
    chmod 755 "$root/usr/sbin/policy-rc.d"
    chroot "$root" apt-get update &&
        DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get upgrade -y || return 1
    find "$root/usr/share/doc" ! -type d ! -name copyright -delete
    find "$root/usr/share/doc" "$root/var/log" -mindepth 1 -type d -empty -delete
    rm -rf "$root"/usr/share/{man,info,locale}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/tmp/*
    find "$root/var/log" -type f -delete
    rm -f "$root/etc/resolv.conf" "$root/etc/hostname" # debootstrap takes them from this machine
}

# Also when the build was broken off: what debootstrap mounted goes first.
drop_base_root() {
    [ -n "$BASE_ROOT" ] || return 0
    umount "$BASE_ROOT"/{proc,sys,dev/pts,dev} 2>/dev/null || true
    rm -rf --one-file-system "$BASE_ROOT"
    BASE_ROOT=
}
