# The system: user, directories, units, configuration, the flip to the new version, the first key.
# Sourced by install.sh.

# put SOURCE TARGET: install a file if it is not there in just this form; sets $put to yes when it was changed.
# It has no exit status to ask for: in an `if` bash would go on after a failed `install`.
put() {
    put=''
    if cmp -s "$1" "$2"; then return; fi
    act '%s' "$2" -- install -D -m 0644 "$1" "$2"
    put=yes
}

install_identity() {
    step 'User and group er, directories'
    put "$here/units/er.sysusers" /usr/local/lib/sysusers.d/er.conf
    put "$here/units/er.tmpfiles" /usr/local/lib/tmpfiles.d/er.conf
    if ! getent passwd er >/dev/null; then
        act 'user and group er' -- systemd-sysusers /usr/local/lib/sysusers.d/er.conf
    fi
    # an upgrade waits with them until the new version is accepted: what runs here may have others
    [[ -z $fresh ]] || folders
}

folders() {
    local missing='' folder
    for folder in /etc/er /var/lib/er /var/lib/er-applied /var/cache/er /var/cache/er-vllm /run/er /run/er-vllm; do
        [[ -d $folder ]] || missing+=" $folder"
    done
    [[ -z $missing ]] || act 'folders%s' "$missing" -- make_folders
    [[ -n $missing || -n $dry ]] || make_folders
}

make_folders() { systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/er.conf; }

# The new version must be able to run what runs here, the applied configuration, or else what er.toml says by
# now; until then nothing of the old one is touched. What is amiss with the machine itself (a model that is not
# there yet, say) is no reason to stay behind.
accept_version() {
    local before target=$opt/$release_name found which=()
    before=$(readlink "$opt/current" 2>/dev/null || true)
    [[ -n $before && $before != "$target" && -z $dry ]] || return 0
    if applied_is_good "$target"; then which=(--again); fi
    [[ -z $new_vectors ]] || which+=(--new-vectors)
    found=$(ER_VLLM_PYTHON=${vllm_target:+$vllm_target/bin/python} \
        "$target/bin/er" apply --dry-run "${which[@]}" 2>&1) ||
        stop 'this version cannot use the configuration here:
%s
The installed version, %s, was left in charge. Correct the file and run this again.
Where it says that a name gives other vectors, and all that is stored is to be built again: %s' \
            "$found" "$before" "./install.sh$([[ $mode != rollback ]] || echo ' --rollback') --new-vectors"
}

install_system() {
    local unit changed=''
    step 'Units, rights, audit journal'
    for unit in "$here"/units/*.{target,slice,service,socket,path,timer}; do
        put "$unit" "$units/${unit##*/}"; changed+=$put
    done
    put "$here/units/50-er.rules" /etc/polkit-1/rules.d/50-er.rules; changed+=$put
    put "$here/units/journald@er-audit.conf" /etc/systemd/journald@er-audit.conf; changed+=$put
    [[ -n $fresh ]] || folders
    [[ -n $dry ]] || adopt_applied
    [[ -n $changed ]] || say '  as they should be'
    tell_of_polkit
}

# Its rule lets members of group er start and stop ER; where nobody reads that, all else works.
tell_of_polkit() {
    [[ $(systemctl is-enabled polkit.service 2>/dev/null) == masked* ]] || return 0
    say '  polkit is masked here: members of group er need sudo to start and stop ER. To let them do it:
  sudo systemctl unmask polkit.service'
}

# An ER before had the applied configuration in user er's folder alone. Root's copy must be there before systemd reads
# the new units: a replica that starts anew goes by it. What is not taken over, `er apply` replaces below.
adopt_applied() {
    [[ ! -e /var/lib/er-applied/applied.toml && -e /var/lib/er/applied.toml ]] || return 0
    "$opt/$release_name/bin/python" -c 'import pathlib, er.units.adoption
er.units.adoption.again(pathlib.Path("/"), dry_run=False)' 2>/dev/null || true
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
        act '/etc/er/er.toml for the demo' -- put_demo_configuration
    else
        act '/etc/er/er.toml, made for this machine' -- first_configuration "$new"
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
    local target=$opt/$release_name before='' vllm_before='' command
    # ER first: a run after one that was cut off here must not note the new vLLM as the former ER's
    if [[ $(readlink "$opt/current" 2>/dev/null) != "$target" ]]; then
        before=$(readlink "$opt/current" 2>/dev/null || true)
        [[ -z $before ]] || act '%s' "$opt/current.before -> $before" -- flip "$before" "$opt/current.before"
        act '%s' "$opt/current -> $target" -- flip "$target" "$opt/current"
    fi
    if [[ -n $vllm_target && $(readlink "$opt/vllm" 2>/dev/null) != "$vllm_target" ]]; then
        vllm_before=$(readlink "$opt/vllm" 2>/dev/null || true)
        [[ -z $vllm_before ]] || act '%s' "$opt/vllm.before -> $vllm_before" -- flip "$vllm_before" "$opt/vllm.before"
        act '%s' "$opt/vllm -> $vllm_target" -- flip "$vllm_target" "$opt/vllm"
    fi
    for command in "${commands[@]}"; do
        [[ $(readlink "/usr/local/bin/$command" 2>/dev/null) == "$opt/current/bin/$command" ]] ||
            act '%s' "/usr/local/bin/$command" -- ln -sfn "$opt/current/bin/$command" "/usr/local/bin/$command"
    done
}

# Of these folders this version, the one before and any that something still runs from stay.
drop_old() {    # drop_old NOW BEFORE FOLDER…
    local now=$1 before=$2 folder; shift 2
    for folder in "$@"; do
        [[ ! -d $folder || $folder == "$now" || $folder == "$before" ]] ||
            { [[ $folder == "$opt"/vllm-* ]] && wanted_vllm "$folder"; } ||
            grep -qsa "^$folder/" /proc/[0-9]*/cmdline || act 'remove %s' "$folder" -- rm -rf "$folder"
    done
}

# What has to be reloaded, applied and restarted is asked of the system, not remembered from the steps above:
# so a run that was cut off is finished by the next one.
apply_configuration() {
    step '%s' systemd
    if [[ -n $fresh || $(systemctl show -p NeedDaemonReload --value er.target 'er-*') == *yes* ]]; then
        act '%s' 'systemctl daemon-reload' -- systemctl daemon-reload
    fi
    if [[ -n $fresh && -n $enable ]] && ! systemctl is-enabled -q er.target 2>/dev/null; then
        act 'er.target starts at boot (not now, unless --start)' -- systemctl enable -q er.target
    elif ! systemctl is-enabled -q er.target 2>/dev/null; then
        say '  er.target does not start at boot; if it should: sudo systemctl enable er.target'
    fi
    if [[ -n $fresh ]] || ! applied_is_good "$opt/current"; then
        act '%s' 'er apply' -- apply
    elif ! rendered_as_applied; then
        # what runs here, in this version's words; er.toml may be half edited just now
        act '%s' 'er apply --again' -- apply --again
    fi
    restart_changed
}

# Whether there is an applied configuration that root may go by and the ER in that folder can read; if not, it says
# why. Without rights: taken as good.
applied_is_good() {     # applied_is_good FOLDER
    [[ -x /var/lib/er-applied || -x /var/lib/er || $(id -u) == 0 ]] || return 0
    [[ -e /var/lib/er-applied/applied.toml || -e /var/lib/er/applied.toml ]] || return 1
    [[ -n $dry ]] || "$1/bin/python" -c 'import pathlib, sys, er.units.adoption
sys.exit(er.units.adoption.trouble(pathlib.Path("/")) or 0)'
}

# Whether systemd was told of the applied configuration what this version would tell it.
rendered_as_applied() {
    [[ -z $dry ]] || return 0           # the version that would tell is not there yet
    [[ $(LC_ALL=C.UTF-8 "$opt/current/bin/er" apply --again --dry-run 2>/dev/null) == 'Nothing to do'* ]]
}

# Findings about the machine (a model that is not there yet) don't stop an installation: the units wait.
apply() {
    local served unit
    served=$(systemctl list-units --plain --no-legend --state=active er-gateway.service 'er-vllm@*.service')
    "$opt/current/bin/er" apply ${new_vectors:+--new-vectors} "$@" | sed 's/^/    /' ||
        say '  er apply found something; see er check'
    # what it restarted, by a unit that this version tells in other words, is with this version now
    while read -r unit _; do
        case $unit in
            er-gateway.service) gateway_is_back 0 ;;
            er-vllm@*) [[ $(systemctl show -p ActiveState --value "$unit") == inactive ]] || await "$unit" ;;
        esac
    done <<<"$served"
}

restart_changed() {
    local unit state
    if runs_old er-gateway.service; then
        act 'restart er-gateway (its sockets stay open)' -- restart_gateway
    fi
    # One after the other, so that the rest answers meanwhile; one that did not answer is not waited for.
    while read -r unit _ state _; do
        runs_old "$unit" || continue
        act 'restart %s' "$unit" -- systemctl restart --no-block "$unit"
        [[ $state != active || -n $dry ]] || await "$unit"
    done < <(systemctl list-units --plain --no-legend --state=active,activating 'er-vllm@*.service')
}

# A replica that does not come back must not take the others along, nor hold this up for ever: its launcher
# tries again and again, and systemctl would wait as long.
await() {   # await UNIT
    local deadline=$((SECONDS + 900)) state=''
    while [[ $state != failed ]] && ((SECONDS < deadline)); do
        # a job is what systemd is still at: until it is done, "active" may be the old one
        state=$(systemctl show -p ActiveState --value "$1")
        [[ $state != active || -n $(systemctl show -p Job --value "$1") ]] || return 0
        # the launcher has failed twice: "attempt 3, waiting 4 s: …"
        [[ $(systemctl show -p StatusText --value "$1") != *'attempt '[3-9]* ]] || break
        sleep 1
    done
    complain '%s was restarted with the new version and does not answer: %s
The other replicas go on as they are. See `er status` and `er doctor`; then run this again.' \
        "$1" "$(systemctl show -p StatusText --value "$1" | tr -d '[:cntrl:]')"
    not_ready
}

# Whether a unit runs with programs other than those now in place. Replicas go on through an upgrade that
# changes nothing of what they consist of; their vLLM is a child of the launcher.
runs_old() {    # runs_old UNIT
    local pid child release target=$opt/$release_name
    pid=$(systemctl show -p MainPID --value "$1")
    ((${pid:-0} > 0)) || return 1
    release=$(environment_of "$pid")
    if [[ -n $release && $release != "$target" ]]; then
        [[ $1 == er-vllm@* ]] && cmp -s {"$release","$target"}/share/replica-parts || return 0
    fi
    [[ $1 == er-vllm@* && -n $vllm_target ]] || return 1
    ! with_own_vllm | grep -qxF "$1" || return 1
    for child in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do
        [[ $(environment_of "$child") != "$opt"/vllm-* || $(environment_of "$child") == "$vllm_target" ]] || return 0
    done
    return 1
}

environment_of() {  # environment_of PID: the folder below /opt/er whose Python it runs
    { tr '\0' '\n' <"/proc/$1/cmdline" | grep -m 1 -oE "^$opt/[^/]+"; } 2>/dev/null || true
}

install_key() {
    step 'First API key'
    if [[ -e /var/lib/er/er_api_keys.json ]]; then
        say '  keys are there (a lost secret is replaced: sudo er keys rotate KEY)'
    elif [[ -n $dry ]]; then
        say '%s' '  + er keys create --name first'
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
    act '%s' 'systemctl start er.target' -- systemctl start --no-block er.target
}

summary() {
    if [[ -n $dry ]]; then say; say 'Dry run: %s actions, nothing was changed.' "$changes"; return; fi
    if [[ -n $demo ]]; then demo_requests; demo_goodbye; return; fi
    step 'Done'
    ((changes > 0)) || say '  Nothing to do: all was as it should be.'
    "$opt/current/bin/er" check | sed 's/^/  /' || true
    if [[ -n $first_secret ]]; then
        say
        say '  Your API key, shown this once:   %s' "$first_secret"
        say
        say '  Next:'
        say '%s' '    sudo systemctl start er.target && er wait'
        say '%s' "    curl http://127.0.0.1:2048/v1/embeddings -H 'Authorization: Bearer $first_secret' \\"
        say '%s' "      -H 'Content-Type: application/json' -d '{\"model\": \"$(first_model)\", \"input\": \"hello\"}'"
        say '    sudo er keys set first --rate-limit 1000/minute     # this key has 100 a minute
    er-console                                          # health, requests, keys, logs
    sudo usermod -aG er,systemd-journal $USER           # steer ER without root'
    fi
}

first_model() { sed -n 's/^name = "\([^"]*\)".*/\1/p' /etc/er/er.toml | head -n 1; }
