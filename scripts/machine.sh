# What this machine has of the programs the scripts need, and how it gets the rest; sourced, not run.
# shellcheck shell=bash

# With sudo when we are not root; without a terminal sudo must not wait for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null; then
        echo "neither root nor sudo" >&2
        return 1
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Two installs at once, or the machine's own daily one, hold apt's list lock, which has no wait of its own.
apt_update() {
    local attempt
    for attempt in 1 2 3 4 5; do
        as_root apt-get update -qq && return
        sleep "$attempt"
    done
    return 1
}

# without_services COMMAND PACKAGE...: installing a server starts it and has it started at every boot. The tests start
# theirs themselves, each on its own port, so neither is wanted on a person's machine.
without_services() {
    local policy=/usr/sbin/policy-rc.d code=0 package
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" || return
        "$@" || code=$?
        as_root rm -f "$policy"
    else
        "$@" || code=$?
    fi
    for package in "${@:2}"; do
        # The service of postgresql-15 is called postgresql, that of redis-server by its whole name; no server has none.
        as_root systemctl disable "${package%%-*}" "$package" >/dev/null 2>&1 || true
    done
    return "$code"
}

apt_get_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@"
}

# apt_install PACKAGE...: says what it installs, and if it cannot, the line to type instead.
apt_install() {
    local output
    echo "installing $*"
    if ! command -v apt-get >/dev/null; then
        echo "there is no apt-get here; install them by hand" >&2
        return 1
    fi
    output=$({ apt_update && without_services apt_get_install "$@"; } 2>&1) && return
    echo "$output" >&2
    echo "try: sudo apt-get update && sudo apt-get install -y --no-install-recommends $*" >&2
    return 1
}

# Debian keeps servers in /usr/sbin, and Go's own archive its program, where not everybody's path leads.
export PATH="$PATH:/usr/sbin:/sbin:/usr/local/go/bin"

# A Go that fetches the newer one which a module asks for, as 1.21 was the first to do.
has_go() {
    [ "$(printf '%s\n' go1.21 "$(go version 2>/dev/null | cut -d' ' -f3)" | sort -V | head -n 1)" = go1.21 ]
}

# The newest PostgreSQL server of at least version 15, if there is one.
postgres_bin() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        if [ -x "$folder/postgres" ] && [ "$(basename "$(dirname "$folder")")" -ge 15 ]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

# Whether a missing program is an error (always in CI) or a test skipped for a printed reason.
engines_required() {
    [ "${CI:-}" = true ] || [ "${FX_TEST_REQUIRE_ENGINES:-}" = 1 ]
}

# Where downloaded test tools stay between runs; a CI that keeps a cache names a folder outside the checkout.
test_tools_folder() {
    echo "${FX_TEST_TOOLS:-$PWD/.test-engines}"
}
