#!/usr/bin/env bash
# install.sh: puts ER on this machine, upgrades it, takes it off again. `./install.sh --help` has the options.
#
# Read top to bottom: options, what this machine is, then one function a step. Each change goes through
# `act`, which says it first; with --dry-run it only says it. What is already as it should be is left alone.
set -euo pipefail

# Root's umask, path, folder and Python settings may be anything; none of it may leak into what is installed.
typed=("$0" "$@")
began=$PWD
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null && pwd)
cd /
umask 022
unset PYTHONHOME PYTHONPATH
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
opt=/opt/er
units=/usr/local/lib/systemd/system
surging=/run/systemd/system         # where a successor of a replica has its drop-in
commands=(er er-gateway er-vllm er-console)
python=/usr/bin/python3            # the distribution's: environments must outlive any other Python
mode=install demo='' start='' cpu='' vllm=yes enable=yes dry='' purge=''
changes=0 first_secret='' vllm_target='' fresh='' new_vectors=''
former='' former_vllm=''; declare -A former_before=()      # what ran before, once something of it is exchanged
fetch='' offline='' index_url='' proxy='' hub='' models=() work=''

usage() { cat <<'HELP'
sudo ./install.sh [OPTION]...

Installs ER (Embedding & Reranker): programs in /opt/er, configuration in /etc/er, units for systemd.
Asks nothing, says what it does, and can be run again at any time (that is also how to upgrade).

  --start       start er.target at the end
  --demo        try ER on this machine, GPU or not: a small real model, one embedding, one rerank
  --cpu         use the CPU even if there is a GPU
  --no-vllm     only the gateway and the console; replicas run elsewhere (url = "http://…")
  --no-enable   do not start er.target at boot
  --new-vectors names may give other vectors after an upgrade: what is stored is to be built again
  --dry-run     print every action, change nothing
  --rollback    back to the version that was installed before; twice: forward again
  --uninstall   take ER off; /etc/er and /var/lib/er stay
  --purge       with --uninstall: remove these two as well (model files are never touched)
  --help        this text

Where the network is poor (er help offline has more):
  --index-url URL   pip fetches from this index; without it pip's own settings count
  --proxy URL       what is fetched comes through this proxy
  --fetch DIR       collect all that an installation needs in DIR, for a machine without network; needs no root;
                    --cpu, --no-vllm and --demo say for which
  --models NAME     with --fetch: the model to bring (again for each), a folder, or none; else Qwen3's two 0.6B ones
  --from HUB        with --fetch: models come from modelscope, huggingface (as without it) or a URL
  --offline DIR     install from such a folder, without any network
HELP
}

# shellcheck source=etc/install/words.sh
. "$here/etc/install/words.sh"

value() { [[ -n ${2:-} && $2 != -* ]] || wrong '%s wants a value' "$1"; printf '%s\n' "$2"; }
folder() {
    local path
    path=$(value "$@") && (cd -- "$began" && realpath -m -- "$path")
}

while [[ $# -gt 0 ]]; do
    case $1 in
        --start) start=yes ;;
        --demo) demo=yes ;;
        --cpu) cpu=yes ;;
        --no-vllm) vllm='' ;;
        --no-enable) enable='' ;;
        --new-vectors) new_vectors=yes ;;
        --dry-run) dry=yes ;;
        --rollback) mode=rollback ;;
        --uninstall) mode=uninstall ;;
        --index-url) index_url=$(value "$@"); shift ;;
        --proxy) proxy=$(value "$@"); shift ;;
        --fetch) fetch=$(folder "$@"); shift ;;
        --models) model=$(value "$@"); models+=("$model"); shift ;;
        --from) hub=$(value "$@"); shift ;;
        --offline) offline=$(folder "$@"); shift ;;
        --purge) purge=yes ;;
        --help | -h) usage; exit 0 ;;
        --index-url=* | --proxy=* | --fetch=* | --models=* | --from=* | --offline=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
        *) wrong 'no option %s' "${1%%=*}" ;;
    esac
    shift
done
[[ -z $purge || $mode == uninstall ]] || wrong '--purge goes with --uninstall'
[[ -z $demo || -n $vllm ]] || wrong '--demo needs vLLM: leave out --no-vllm'
[[ -z $demo || $mode == install ]] || wrong '--demo goes with neither --uninstall nor --rollback'
[[ $(id -u) == 0 || -n $dry || -n $fetch ]] || stop 'needs root: run it with sudo'

# shellcheck source=etc/install/machine.sh
. "$here/etc/install/machine.sh"
# shellcheck source=etc/install/network.sh
. "$here/etc/install/network.sh"
# shellcheck source=etc/install/offline.sh
. "$here/etc/install/offline.sh"
# shellcheck source=etc/install/fetch.sh
. "$here/etc/install/fetch.sh"
# shellcheck source=etc/install/programs.sh
. "$here/etc/install/programs.sh"
# shellcheck source=etc/install/system.sh
. "$here/etc/install/system.sh"
# shellcheck source=etc/install/demo.sh
. "$here/etc/install/demo.sh"
# shellcheck source=etc/install/rollback.sh
. "$here/etc/install/rollback.sh"
# shellcheck source=etc/install/remove.sh
. "$here/etc/install/remove.sh"

interrupted() {
    trap - INT TERM
    say
    [[ -z $fetch ]] || stop 'interrupted; run it again: what is there is not fetched again'
    stop 'interrupted; run it again to finish, or --uninstall to undo'
}
trap interrupted INT TERM
failed() {
    complain 'the step above failed (line %s); run it again when its cause is gone' "$1"
    [[ -z $former || $BASHPID != "$$" ]] || put_back
}
trap 'failed $LINENO' ERR
set -E
check_network_options

if [[ -n $fetch ]]; then
    fetch
    exit 0
fi

# one run at a time: two would write over each other's half-made environments
# (root's own folder is the lock: nobody else can open it, and no file is left behind)
if [[ -z $dry ]]; then
    exec 9</root
    flock -n 9 || stop 'another install.sh is running; wait for it to end (a demo in the foreground ends with Ctrl-C)'
elif [[ $(id -u) != 0 ]]; then
    say 'Without root some of what is there cannot be seen; with sudo this list is exact.'
fi

if [[ $mode == uninstall ]]; then
    uninstall
    exit 0
fi

check_distribution
[[ -z $offline ]] || check_offline
if ! systemd_runs; then
    [[ -n $demo ]] || stop 'systemd is not what runs this machine (PID 1 is %s), and ER is made
of systemd units. On a server or a virtual machine it works; to try ER right here: ./install.sh --demo' \
        "$(cat /proc/1/comm)"
    demo_without_systemd
    exit 0
fi
if [[ $mode == rollback ]]; then
    rollback
    exit 0
fi
check_others
follow_configuration /etc/er/er.toml
check_gpu
check_disk
[[ -z $offline ]] || check_offline_parts
show_ports
[[ -z $demo ]] || demo_check
[[ -e $opt/current ]] || fresh=yes    # nothing installed yet, or taken off since
prepare_network

install_packages
check_fit       # where it could not be asked before, for want of Python
install_identity
install_light
[[ -z $vllm ]] || install_vllm
[[ -z $demo ]] || demo_model
[[ -z $offline ]] || install_models
install_configuration
accept_version
remember_current
install_system
install_current
apply_configuration
forget_old
install_key
start_target
summary
