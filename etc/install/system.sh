# The system: user, directories, units, configuration, the flip to the new version, the first key.
# Sourced by install.sh.

# put SOURCE TARGET [MODE]: install a file if it is not there in just this form; 0 when it was changed
put() {
    if cmp -s "$1" "$2"; then return 1; fi
    act "$2" install -D -m "${3:-0644}" "$1" "$2"
}

install_identity() {
    step 'User and group er, directories'
    put "$here/units/er.sysusers" /usr/local/lib/sysusers.d/er.conf || true
    put "$here/units/er.tmpfiles" /usr/local/lib/tmpfiles.d/er.conf || true
    if ! getent passwd er >/dev/null; then
        act 'user and group er' systemd-sysusers /usr/local/lib/sysusers.d/er.conf
    fi
    local missing='' folder
    for folder in /etc/er /var/lib/er /var/cache/er /var/cache/er-vllm /run/er; do
        [[ -d $folder ]] || missing+=" $folder"
    done
    [[ -z $missing ]] || act "folders$missing" systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/er.conf
    [[ -n $missing || -n $dry ]] || systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/er.conf
}

install_system() {
    local unit
    step 'Units, rights, audit journal'
    for unit in "$here"/units/*.{target,slice,service,socket}; do
        if put "$unit" "$units/${unit##*/}"; then
            needs_reload=yes
            case ${unit##*/} in er-gateway*) restarts=yes ;; esac
        fi
    done
    put "$here/units/50-er.rules" /etc/polkit-1/rules.d/50-er.rules || true
    if put "$here/units/journald@er-audit.conf" /etc/systemd/journald@er-audit.conf; then needs_reload=yes; fi
    [[ -n $needs_reload ]] || say '  as they should be'
}

install_configuration() {
    step 'Configuration'
    local new=$opt/$release_name/bin/python
    if [[ -e /etc/er/er.toml ]]; then
        if [[ -n $demo ]] && grep -q '^# made by install.sh --demo' /etc/er/er.toml; then
            say "  /etc/er/er.toml is the demo's"
        else
            say '  /etc/er/er.toml stays as it is'
        fi
    elif [[ -n $demo ]]; then
        act '/etc/er/er.toml for the demo' put_demo_configuration
    else
        act '/etc/er/er.toml, made for this machine' first_configuration "$new"
    fi
}

first_configuration() {
    local choice=()
    [[ $variant == vllm ]] || choice=(--cpu)
    [[ -n $vllm ]] || choice=(--no-vllm)
    "$1" -m er.first_config "${choice[@]}" --template "$opt/$release_name/share/er.toml" >/etc/er/er.toml.new
    mv /etc/er/er.toml.new /etc/er/er.toml
    chmod 0644 /etc/er/er.toml
    sed -n '/^#! /s/^#! /  /p' /etc/er/er.toml          # the choice, said on screen too
}

install_current() {
    step 'Commands'
    local target=$opt/$release_name before command
    before=$(readlink "$opt/current" 2>/dev/null || true)
    if [[ $before != "$target" ]]; then
        if [[ -n $before && -z $dry ]] && ! "$target/bin/er" check >/tmp/er-check.$$ 2>&1; then
            cat /tmp/er-check.$$; rm -f /tmp/er-check.$$
            stop "this version finds the errors above in /etc/er/er.toml. The installed version $before was
left in charge. Correct the file and run this again."
        fi
        rm -f /tmp/er-check.$$
        if [[ -n $before && -z $dry ]] && ! cmp -s {"$before","$target"}/share/replica-parts; then
            replica_parts_changed=yes
        fi
        [[ -z $before ]] || restarts=yes
        act "$opt/current -> $target" flip "$target" "$opt/current"
        needs_reload=yes
    fi
    for command in er er-gateway er-vllm er-console; do
        [[ $(readlink "/usr/local/bin/$command" 2>/dev/null) == "$opt/current/bin/$command" ]] ||
            act "/usr/local/bin/$command" ln -sfn "$opt/current/bin/$command" "/usr/local/bin/$command"
    done
    drop_old "$target" "$before"
}

drop_old() {    # keep this version and the one before
    local folder
    for folder in "$opt"/[0-9]*; do
        [[ -d $folder && $folder != "$1" && $folder != "$2" ]] || continue
        [[ -n $2 && $2 != "$1" ]] || continue            # nothing was flipped: leave the last good one
        act "remove $folder" rm -rf "$folder"
    done
}

apply_configuration() {
    step 'systemd'
    if [[ -n $needs_reload ]]; then act 'systemctl daemon-reload' systemctl daemon-reload; fi
    if [[ -n $enable ]] && ! systemctl is-enabled -q er.target 2>/dev/null; then
        act 'er.target starts at boot (not now, unless --start)' systemctl enable -q er.target
    fi
    if [[ -n $dry ]]; then
        say '  + er apply'
    elif [[ ! -e /var/lib/er/applied.toml ]]; then
        act 'er apply' apply_first
    fi
    [[ -n $dry ]] || restart_changed
}

# Findings about the machine (a model that is not there yet) don't stop an installation: the units wait.
apply_first() { "$opt/current/bin/er" apply | sed 's/^/    /' || say '  er apply found something; see er check'; }

restart_changed() {
    local unit
    if [[ -n $restarts ]] && systemctl is-active -q er-gateway.service; then
        act 'restart er-gateway (its sockets stay open)' systemctl restart er-gateway.service
    fi
    [[ -n $replica_parts_changed ]] || return 0
    for unit in $(systemctl list-units --plain --no-legend --state=active,activating 'er-vllm@*' |
        awk '{print $1}'); do
        act "restart $unit" systemctl restart "$unit"
    done
}

install_key() {
    step 'First API key'
    if [[ -e /var/lib/er/er_api_keys.json ]]; then
        say '  keys are there'
    elif [[ -n $dry ]]; then
        say '  + er keys create --name first'
    else
        changes=$((changes + 1))
        first_secret=$("$opt/current/bin/er" keys create --name first --json |
            "$opt/current/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["secret"])')
        say '  made; it is shown once, below'
    fi
}

start_target() {
    [[ -n $start || -n $demo ]] || return 0
    step 'Start'
    act 'systemctl start er.target' systemctl start --no-block er.target
}

summary() {
    if [[ -n $dry ]]; then say; say "Dry run: $changes actions, nothing was changed."; return; fi
    if [[ -n $demo ]]; then demo_requests; return; fi
    step 'Done'
    ((changes > 0)) || say '  Nothing to do: all was as it should be.'
    "$opt/current/bin/er" check | sed 's/^/  /' || true
    if [[ -n $first_secret ]]; then
        say
        say "  Your API key, shown this once:   $first_secret"
        say
        say '  Next:'
        say "    sudo systemctl start er.target && er wait"
        say "    curl http://127.0.0.1:2048/v1/embeddings -H 'Authorization: Bearer $first_secret' \\"
        say "      -H 'Content-Type: application/json' -d '{\"model\": \"$(first_model)\", \"input\": \"hello\"}'"
        say '    sudo er keys set first --rate-limit 1000/minute     # this key has 100 a minute'
        say '    er-console                                          # health, requests, keys, logs'
        say "    sudo usermod -aG er,systemd-journal \$USER           # steer ER without root"
    fi
}

first_model() { sed -n 's/^name = "\([^"]*\)".*/\1/p' /etc/er/er.toml | head -n 1; }
