# --uninstall: takes off what install.sh put on; with --purge also configuration, state and user.
# Sourced by install.sh.

uninstall() {
    uninstall_machine
    models=$(sed -n 's/^ *path *= *"\([^"]*\)".*/\1/p' /etc/er/er.toml 2>/dev/null || true)
    if systemd_runs; then uninstall_units; fi
    step 'Programs and caches'
    remove /usr/local/bin/er /usr/local/bin/er-gateway /usr/local/bin/er-vllm /usr/local/bin/er-console
    remove "$opt" /var/cache/er /var/cache/er-vllm /run/er
    if [[ -n $purge ]]; then
        step 'Configuration, state, keys, audit, user'
        remove /etc/er /var/lib/er /usr/local/lib/sysusers.d/er.conf
        remove_user
    fi
    empty_folders
    step 'Done'
    ((changes > 0)) || say '  Nothing of ER was here.'
    [[ -n $purge ]] || say '  Kept: /etc/er and /var/lib/er (--purge removes them too).'
    local path
    for path in $models; do
        [[ ! -e $path || $path == "$opt"/* ]] || say "  Model files, untouched: $path"
    done
}

remove() {
    local path
    for path in "$@"; do
        [[ ! -e $path && ! -L $path ]] || act "remove $path" rm -rf "$path"
    done
}

# Folders that an installation made for its files and that hold nothing else.
empty_folders() {
    local folder
    for folder in "$units" /usr/local/lib/systemd /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d; do
        [[ ! -d $folder || -n $(ls -A "$folder") ]] || act "remove the empty $folder" rmdir "$folder"
    done
}

uninstall_units() {
    step 'Units'
    if systemctl list-unit-files -q er.target >/dev/null 2>&1 && [[ -e $units/er.target ]]; then
        act 'stop er.target' systemctl stop er.target er-gateway-http.socket er-gateway-local.socket \
            er-gateway-admin.socket er-gateway.service 'er-vllm@*.service'
        act 'er.target no longer starts at boot' systemctl disable -q er.target
    fi
    local path
    for path in "$here"/units/*.{target,slice,service,socket}; do remove "$units/${path##*/}"; done
    for path in /etc/systemd/system/er-*.d /etc/systemd/system/er-vllm@*.d /etc/systemd/system/er.target.wants \
        /etc/systemd/system/er.target.d; do
        remove "$path/10-er.conf"
        remove_links "$path"
        [[ ! -d $path || -n $(ls -A "$path") ]] || act "remove $path" rmdir "$path"
        [[ ! -d $path ]] || say "  $path has files that are not ER's own; they stay"
    done
    remove /etc/polkit-1/rules.d/50-er.rules /usr/local/lib/tmpfiles.d/er.conf
    [[ -z $dry ]] && systemctl stop 'systemd-journald@er-audit.service' 'systemd-journald@er-audit.socket' \
        'systemd-journald-varlink@er-audit.socket' 2>/dev/null || true
    remove /etc/systemd/journald@er-audit.conf
    [[ -z $purge ]] || remove /var/log/journal/*.er-audit /run/log/journal/*.er-audit
    [[ -n $dry ]] || { systemctl daemon-reload; systemctl reset-failed 'er-*' 2>/dev/null || true; }
}

remove_links() {    # in FOLDER: links that `er apply` made
    local link
    for link in "$1"/er-*; do
        [[ ! -L $link ]] || act "remove $link" rm -f "$link"
    done
}

remove_user() {
    if getent passwd er >/dev/null; then act 'user er' userdel er; fi
    if getent group er >/dev/null; then act 'group er' groupdel er; fi
}

# The machine that --demo booted where systemd does not run this one.
uninstall_machine() {
    [[ -d $demo_root || -d $demo_root.vm ]] || return 0
    step "The demo's machine"
    if [[ -n $purge ]]; then
        act "shut down and remove $demo_root" env ER_LAB_ROOT="$demo_root" "$here/tests/lab/vm" remove
        remove "$demo_root.vm" "$(dirname "$demo_root")/.#$(basename "$demo_root").lck" "$demo_cache"
    else
        act "shut down $demo_root" env ER_LAB_ROOT="$demo_root" "$here/tests/lab/vm" down
    fi
}
