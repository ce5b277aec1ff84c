# Where packages come from: pip's index and proxy and whose setting each is, apt's proxy, and which of the caller's
# settings sudo has left out. Shown before anything is fetched; passwords never. Sourced by install.sh.

check_network_options() {
    [[ -z $fetch || -z $offline ]] || wrong '%s and %s exclude each other' --fetch --offline
    [[ ${#models[@]} == 0 || -n $fetch ]] || wrong '%s goes with %s' --models --fetch
    [[ -z $hub || -n $fetch ]] || wrong '%s goes with %s' --from --fetch
    [[ -z $offline || -z $index_url$proxy ]] || wrong '%s uses no network: leave out %s' --offline '--index-url, --proxy'
    [[ $mode == install || -z $fetch$offline$index_url$proxy ]] || wrong '%s goes by itself' "--$mode"
    [[ -z $index_url || $index_url =~ ^(https?|file)://[^[:space:]]+$ ]] ||
        wrong '%s wants an address as https://HOST/simple' --index-url
    [[ -z $proxy || $proxy =~ ^(https?|socks5h?)://[^[:space:]/]+/?$ ]] ||
        wrong '%s wants an address as http://HOST:PORT' --proxy
    [[ -z $fetch ]] || default_models
}

# Options of ours go to pip by its environment: arguments can be read by everybody on the machine.
use_network_options() {
    [[ -z $index_url ]] || export PIP_INDEX_URL=$index_url
    [[ -z $proxy ]] || export PIP_PROXY=$proxy http_proxy=$proxy https_proxy=$proxy
    if [[ $index_url$proxy == *@* ]]; then
        say 'Note: a password in an option can be read by whoever lists processes while this runs; pip.conf, or
  %s with the variable set before, keeps it hidden.' 'sudo --preserve-env=PIP_INDEX_URL,PIP_PROXY ./install.sh'
    fi
}

masked() {      # masked URL…: without user, password and query
    sed -E 's,(^| )([A-Za-z0-9+.-]+://)?[^ ]*@,\1\2***@,g; s,\?[^ ]*,?***,g' <<<"$*"
}

# pip_setting KEY: sets $value to what pip goes by for it and $whence to whose setting that is; empty: nobody's.
# As pip reads them: the environment, then [install] before [global], and of its files the last one that has it.
pip_setting() {
    local variable file section files=()
    value='' whence=''
    variable=PIP_${1^^}
    variable=${variable//-/_}
    if [[ -n ${!variable:-} ]]; then
        value=${!variable} whence=$variable
        [[ $1 != index-url || $value != "$index_url" ]] || whence=--index-url
        [[ $1 != proxy || $value != "$proxy" ]] || whence=--proxy
        return 0
    fi
    [[ ${PIP_CONFIG_FILE:-} != /dev/null ]] || return 0
    files=(${PIP_CONFIG_FILE:+"$PIP_CONFIG_FILE"} "${XDG_CONFIG_HOME:-${HOME:-/root}/.config}/pip/pip.conf"
        "${HOME:-/root}/.pip/pip.conf" /etc/pip.conf /etc/xdg/pip/pip.conf)
    for section in install global; do
        for file in "${files[@]}"; do
            value=$(pip_file "$file" "$section" "$1")
            [[ -z $value ]] || { whence=$file; return 0; }
        done
    done
}

pip_file() {    # pip_file FILE SECTION KEY: its value, several lines as one
    [[ -r $1 ]] || return 0
    awk -v section="[$2]" -v want="$3" '
        /^[[:space:]]*([#;]|$)/ { next }
        /^\[/ { inside = ($1 == section); held = 0; next }
        /^[[:space:]]/ { if (held) { sub(/^[[:space:]]+/, ""); value = value " " $0 } ; next }
        inside {
            key = tolower($0); sub(/[[:space:]]*[=:].*/, "", key); gsub(/_/, "-", key)
            held = (key == want)
            if (held) { value = $0; sub(/^[^=:]*[=:][[:space:]]*/, "", value) }
        }
        END { gsub(/^[[:space:]]+|[[:space:]]+$/, "", value); print value }' "$1"
}

# Sets $source to one sentence on where pip looks, and through what.
pip_source() {
    local value whence said index parts=()
    pip_setting no-index
    if [[ $value =~ ^(1|true|yes|on)$ ]]; then
        word 'no index (no-index in %s)' "$whence"
        parts+=("$said") index=https:
    else
        pip_setting index-url
        index=${value:-https:}
        if [[ -n $value ]]; then word '%s (%s)' "$(masked "$value")" "$whence"; else word "pip's own default index"; fi
        parts+=("$said")
        pip_setting extra-index-url
        [[ -z $value ]] || { word 'also %s (%s)' "$(masked "$value")" "$whence"; parts+=("$said"); }
    fi
    pip_setting find-links
    [[ -z $value ]] || { word 'also %s (%s)' "$(masked "$value")" "$whence"; parts+=("$said"); }
    pip_proxy "$index"
    [[ -z $value ]] || { word 'through the proxy %s (%s)' "$(masked "$value")" "$whence"; parts+=("$said"); }
    printf -v source '%s; ' "${parts[@]}"
    source=${source%; }
}

# pip_proxy INDEX_URL: sets $value and $whence to the proxy that pip takes there: its own setting, else the usual ones.
pip_proxy() {
    local name names=(https_proxy HTTPS_PROXY all_proxy ALL_PROXY)
    pip_setting proxy
    [[ $1 != http:* ]] || names=(http_proxy HTTP_PROXY all_proxy ALL_PROXY)
    for name in "${names[@]}"; do
        [[ -n $value || -z ${!name:-} ]] || { value=${!name} whence=$name; }
    done
}

# Whence the distribution's packages come is apt's own business; its proxy is what is wrong most often.
apt_proxy() {
    local found='' whence=apt-config
    found=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -nE 's/^Acquire::http::Proxy "(.*)";$/\1/p' | head -n 1)
    if [[ -z $found && -n ${http_proxy:-} ]]; then found=$http_proxy whence=http_proxy; fi
    case $found in
        '' | DIRECT | false) say '  apt: as its sources say, without a proxy' ;;
        *) say '  apt: as its sources say, through the proxy %s (%s)' "$(masked "$found")" "$whence" ;;
    esac
}

# Before the first thing is fetched, or taken from the folder.
prepare_network() {
    if [[ -n $offline ]]; then prepare_offline; return; fi
    use_network_options
    show_network
}

show_network() {
    local source
    pip_source
    step 'Where packages come from'
    apt_proxy
    say '  %s: %s' pip "$source"
    show_dropped
}

# --- what sudo has left out -----------------------------------------------------------------------

# The environment that sudo was called with, as the kernel keeps it: one line a variable, exported ones included.
caller_environment() {
    local pid=$PPID sudo=''
    while ((pid > 1)); do
        if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == sudo ]]; then
            sudo=$pid               # sudo may run another sudo; the first of them was the caller's
        elif [[ -n $sudo ]]; then
            break
        fi
        pid=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null) || break
        [[ -n $pid ]] || break
    done
    [[ -z $sudo ]] || tr '\0' '\n' 2>/dev/null <"/proc/$sudo/environ" || true
}

# Sets $dropped to the names (with commas) of what the caller has set and is not set here, and $dropped_file to a
# pip.conf of the caller's own. Values are not looked at: some are secrets.
find_dropped() {
    local name file home
    dropped='' dropped_file=''
    [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]] || return 0
    while read -r name; do
        [[ -v $name ]] || dropped+=${dropped:+,}$name
    done < <(caller_environment | sed -nE 's/^(PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|PROXY|CERT|TRUSTED_HOST|CONFIG_FILE)|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY|HF_ENDPOINT|HF_TOKEN|MODELSCOPE_(DOMAIN|API_TOKEN)|SSL_CERT_FILE|REQUESTS_CA_BUNDLE)=.+/\1/p')
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6) || true
    [[ -n $home && $home != "${HOME:-/root}" && -z ${PIP_CONFIG_FILE:-} && ,$dropped, != *,PIP_CONFIG_FILE,* ]] || return 0
    for file in "$home/.config/pip/pip.conf" "$home/.pip/pip.conf"; do
        [[ -r $file ]] && grep -qE '^[[:space:]]*(extra[-_])?(index[-_]url|find[-_]links|proxy|trusted[-_]host|cert)\b' "$file" || continue
        dropped_file=$file
        return 0
    done
}

# The line that runs this again with what sudo has left out.
line_to_type() {
    local line=sudo argument
    [[ -z $dropped ]] || line+=" --preserve-env=$dropped"
    [[ -z $dropped_file ]] || line+=" PIP_CONFIG_FILE=$(printf '%q' "$dropped_file")"
    for argument in "${typed[@]}"; do
        if [[ $argument == *@* ]]; then argument=$(masked "$argument"); else argument=$(printf '%q' "$argument"); fi
        line+=" $argument"
    done
    printf '%s\n' "$line"
}

show_dropped() {
    local dropped dropped_file
    find_dropped
    [[ -n $dropped$dropped_file ]] || return 0
    say "  Note: sudo left out settings of %s: %s. With them it is this line:
    %s" "$SUDO_USER" "$(tr ',' ' ' <<<"$dropped${dropped_file:+${dropped:+,}$dropped_file}")" "$(line_to_type)"
}

# pip has failed for good: where it looked, and what to try.
pip_failed() {  # pip_failed WHAT
    local source dropped dropped_file
    pip_source
    find_dropped
    complain 'pip could not get what %s needs; its message stands above.
It looked at: %s' "$1" "$source"
    [[ -z $dropped$dropped_file ]] || complain 'sudo left out settings of %s; with them it is this line:
  %s' "$SUDO_USER" "$(line_to_type)"
    [[ $source != http://* ]] || complain 'An index without HTTPS needs PIP_TRUSTED_HOST=HOST in the environment as well.'
    stop 'Try another index (%s), a proxy (%s), or set them in /etc/pip.conf; where
there is no network: %s. Run this again then.' '--index-url URL' '--proxy URL' 'er help offline'
}
