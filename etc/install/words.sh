# What install.sh says, and in which language: a message is a printf format in English and its values. zh.sh has
# the formats in Chinese, by the English ones; a command or a path is a value (`say '%s' 'er status'`).
# Sourced by install.sh.

# As gettext chooses: the first of three that is set. Another encoding than UTF-8, and the kernel's own console
# (TERM=linux), can't show it.
speaks_chinese() {
    local locale=${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}
    locale=${locale,,}
    [[ $locale == zh* && ${TERM:-} != linux ]] && [[ $locale != *.* || $locale == *.utf*8* ]]
}

declare -A chinese=()
# shellcheck source=etc/install/zh.sh
if speaks_chinese; then . "$here/etc/install/zh.sh"; fi

word() {        # word FORMAT VALUE…: sets $said to the sentence
    local format=$1; shift
    # shellcheck disable=SC2059     # the format is the first argument
    printf -v said -- "${chinese[$format]:-$format}" "$@"
}

say() {         # say [FORMAT VALUE…]: a line; without a format an empty one
    local said=''
    (($# == 0)) || word "$@"
    printf '%s\n' "$said"
}

step() {
    local said
    word "$@"
    printf '\n== %s\n' "$said"
}

complain() {
    local said
    word "$@"
    printf 'install.sh: %s\n' "$said" >&2
}

stop() { complain "$@"; exit 1; }
wrong() { complain "$@"; say 'Try %s' './install.sh --help' >&2; exit 64; }

# act FORMAT VALUE… -- COMMAND…: say what is done, and do it (with --dry-run: only say it)
act() {
    local message=() said
    while [[ $1 != -- ]]; do message+=("$1"); shift; done
    shift
    word "${message[@]}"
    printf '  + %s\n' "$said"
    changes=$((changes + 1))
    [[ -n $dry ]] || "$@"
}
