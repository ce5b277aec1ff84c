# shellcheck shell=bash
# environment.sh: packages of the distribution and the tests' own Python environment, for scripts that
# source it from the top of the checkout with ER_TEST_CACHE set.

say() { printf 'tests: %s\n' "$*" >&2; }

packages() {    # packages COMMAND:PACKAGE…: installs the package of each command that is missing
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [[ ${#missing[@]} == 0 ]] && return
    say "installing ${missing[*]}"
    local sudo=()
    [[ $(id -u) == 0 ]] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >&2
}

interpreter() {     # a Python that ER supports; at best the distribution's, which the product runs on
    local name
    for name in /usr/bin/python3 python3 python3.11 python3.12 python3.13; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say 'no Python 3.11 to 3.13 with venv here'
    return 1
}

environment() {     # prints the folder of the tests' own environment, made anew when a lock file changes
    local base folder lock
    base=$(interpreter)
    folder=$ER_TEST_CACHE/env-$(cat lock.light.txt tests/lock.txt <("$base" -V) | sha256sum | cut -c1-12)
    exec {lock}>"$folder.lock"
    flock "$lock"       # an unfinished one may be somebody's who is making it now; wait, then look
    if [[ ! -e $folder/.complete ]]; then
        say "making $folder"
        rm -rf "$folder"
        "$base" -m venv "$folder"
        local pip=("$folder/bin/python" -m pip --disable-pip-version-check --quiet install
            --root-user-action=ignore --no-deps --require-hashes)
        "${pip[@]}" -r <(grep '^setuptools==' lock.light.txt) >&2
        "${pip[@]}" --use-pep517 --no-build-isolation -r lock.light.txt >&2
        "${pip[@]}" --no-build-isolation -r tests/lock.txt >&2
        touch "$folder/.complete"
    fi
    exec {lock}>&-
    echo "$folder"
}
