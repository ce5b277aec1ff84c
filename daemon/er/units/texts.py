"""The drop-ins that depend on er.toml: GPU devices, model folders, addresses, times. Pure.

Everything else of a unit stands in the unit's own file. Only what differs from there is rendered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from er.config import Audit, Config, Gateway, Host, Model, Replica, Tls
from er.gpus import MIG_UUID, Gpu, find
from er.model_files import HIDDEN
from er.tls.credentials import ABSENT, CERTIFICATE, CLIENT_CA, KEY
from er.units.https import HOSTS, HTTPS, PATH

MARK = "# Written by `er apply` from er.toml"
HEAD = f"{MARK}; a change here is lost. Your own lines: systemctl edit "
REPLICA, GATEWAY, HTTP = "er-vllm@{}.service", "er-gateway.service", "er-gateway-http.socket"
AUDIT_FILE = "etc/systemd/journald@er-audit.conf.d/10-er.conf"  # beside install.sh's own file
AUDIT_JOURNAL = "systemd-journald@er-audit.service"
END_AND_SPARE_S = 10  # of the gateway's stop: see er-gateway.service
# All cards share these; a path that is missing costs a warning, so they are not in the template.
DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
WATCHDOG_S, SLOW_WATCHDOG_S = 30, 600  # the first as in er-vllm@.service
STOP = "TimeoutStopSec="  # systemd asks for it at each stop, so it takes effect without a restart
LARGE_WEIGHTS = 200 << 20  # bytes; below it a full batch on a CPU takes seconds, above it minutes


def watchdog_s(replica: Replica, weights: int) -> int:
    """How long a replica may go without proof: a probe waits behind whole batches.

    Weights of 0 are still to come (the model follows the installation), and may be large.
    """
    small = 0 < weights <= LARGE_WEIGHTS
    return SLOW_WATCHDOG_S if replica.cpu and not small else WATCHDOG_S


def replica(
    replica: Replica, model: Model, gpus: Sequence[Gpu], weights: Mapping[Path, int]
) -> str:
    """The drop-in of one replica. `weights`: bytes of weights by model folder, where known."""
    path = model.path
    assert path is not None  # a model with replicas has one
    unit = [f"Description=ER replica {replica.name} ({_plain(model.name)})"]
    service: list[str] = []
    if not replica.cpu:
        # Its oneshot makes the device nodes before this unit's list of devices is drawn up.
        unit += ["Wants=er-nvidia.service", "After=er-nvidia.service"]
        service += _devices(replica, gpus)
    if (seconds := watchdog_s(replica, weights.get(path, 0))) != WATCHDOG_S:
        service += [
            "# A batch of this model takes a CPU minutes, and a probe waits behind it.",
            f"WatchdogSec={seconds}",
        ]
    service += _bind(path)
    if replica.vllm is not None:
        service += _bind(Path(replica.vllm))  # a version is no path of these
    body = ["[Unit]", *unit]
    if service:
        body += ["", "[Service]", *service]
    return _file(REPLICA.format(replica.name), body)


def _devices(replica: Replica, gpus: Sequence[Gpu]) -> list[str]:
    """The cgroup's device list: this replica's cards and what all cards share, nothing else."""
    lines = [f"DeviceAllow={device} rw" for device in DEVICES]
    for wanted in replica.gpu:
        gpu = find(gpus, wanted)
        if gpu is not None and gpu.minor is not None:
            lines.append(f"DeviceAllow=/dev/nvidia{gpu.minor} rw")
        elif isinstance(wanted, int):
            lines.append(f"# GPU {wanted} was not seen when this was written; usually it is:")
            lines.append(f"DeviceAllow=/dev/nvidia{wanted} rw")
        else:
            lines.append(f"# GPU {wanted} was not seen when this was written: run er apply again.")
        if isinstance(wanted, str) and wanted.startswith(MIG_UUID):
            # Its part of the card and its share of that; whose numbers nobody told: all instances'.
            nodes = (gpu.nodes if gpu else ()) or ("char-nvidia-caps",)
            lines += [f"DeviceAllow={node} r" for node in nodes]
    return lines


def gateway(config: Config) -> str | None:
    """The gateway's drop-in, None when its unit file says all."""
    unit: list[str] = []
    service: list[str] = []
    if config.gateway.tls is not None:
        unit = [f"Requires={HTTPS}", f"After={HTTPS}"]
        service += credentials(config.gateway.tls)
    if config.state is not None:
        unit += [f"Requires={HOSTS}", f"After={HOSTS}"]
    stop_s = config.gateway.stop_timeout_s + config.gateway.leave_time_s
    if stop_s != Gateway().stop_timeout_s:
        seconds = math.ceil(stop_s) + END_AND_SPARE_S
        service += [
            "# `leave_time`, then requests in flight may take as long as `stop_timeout` allows.",
            f"{STOP}{seconds}",
        ]
    for path in sorted({m.path for m in config.models if m.path is not None}):
        service += _bind(path)
    body = ["[Unit]", *unit] if unit else []
    body += [*([""] if unit else []), "[Service]", *service] if service else []
    return _file(GATEWAY, body) if body else None


def credentials(tls: Tls) -> list[str]:
    """systemd reads the files as root, whoever may, and shows them to the gateway alone.

    One that is not there yet must not keep plain HTTP from starting: the word in its place is.
    """
    files = {CERTIFICATE: tls.certificate, KEY: tls.key, CLIENT_CA: tls.client_ca}
    return [
        line
        for name, path in files.items()
        if path is not None
        for line in (f"LoadCredential={name}:{_plain_path(path)}", f"SetCredential={name}:{ABSENT}")
    ]


def https_socket(config: Config) -> str | None:
    """The addresses of HTTPS, None when they are the unit file's own or there are none."""
    tls = config.gateway.tls
    if tls is None or tls.listen == Tls().listen:
        return None
    lines = [f"ListenStream={address}" for address in tls.listen]
    return _file(HTTPS, ["[Socket]", "ListenStream=", *lines])


def hosts_socket(config: Config) -> str | None:
    """The addresses for other hosts, None when they are the unit file's own or there are none."""
    if config.state is None or config.host.listen == Host().listen:
        return None
    lines = [f"ListenStream={address}" for address in config.host.listen]
    return _file(HOSTS, ["[Socket]", "ListenStream=", *lines])


def tls_path(config: Config) -> str | None:
    """What er-tls.path watches, None without HTTPS.

    The folders too: a link that is exchanged there, as certbot does, changes no file that is seen.
    """
    tls = config.gateway.tls
    if tls is None:
        return None
    files = [path for path in (tls.certificate, tls.key, tls.client_ca) if path is not None]
    folders = sorted({path.parent for path in files} - {Path("/")})
    lines = [f"PathChanged={_plain_path(path)}" for path in (*folders, *files)]
    return _file(PATH, ["[Path]", "PathChanged=", *lines])


def needs_restart(before: str, after: str) -> bool:
    """Whether a gateway that was started with the drop-in `before` must be started anew."""

    def at_start(text: str) -> list[str]:
        return [n for n in text.splitlines() if n != "[Service]" and n[0:1] not in ("", "#")]

    one, two = ([n for n in at_start(t) if not n.startswith(STOP)] for t in (before, after))
    return one != two


def http_socket(config: Config) -> str | None:
    """The listening addresses, None when they are the unit file's own."""
    if config.gateway.listen == Gateway().listen:
        return None
    lines = [f"ListenStream={address}" for address in config.gateway.listen]
    return _file(HTTP, ["[Socket]", "ListenStream=", *lines])


def audit(config: Config) -> str | None:
    """How long and how much the audit's journal keeps, None when its file says that."""
    if config.audit == Audit():
        return None
    lines = [
        f"SystemMaxUse={config.audit.size}",
        f"MaxRetentionSec={math.ceil(config.audit.keep_s)}s",
    ]
    own = f"{MARK}; a change here is lost. Your own lines: another file beside this one\n"
    return own + "\n".join(["[Journal]", *lines]) + "\n"


def _bind(path: Path) -> list[str]:
    if not f"{path}/".startswith(HIDDEN):
        return []
    # The minus: a folder that is not there must not keep the unit from starting and saying so.
    return [f"BindReadOnlyPaths=-{_quoted(str(path))}"]


def _quoted(path: str) -> str:
    """A path in a list of paths: % doubled, quotes where systemd would split or unescape."""
    escaped = path.replace("\\", "\\\\").replace("%", "%%").replace(":", "\\:")
    return '"' + escaped.replace('"', '\\"') + '"' if any(c in path for c in " \t'\"") else escaped


def _plain_path(path: Path) -> str:
    """A path that is a setting's whole rest: only % means something there."""
    return str(path).replace("%", "%%")


def _plain(text: str) -> str:
    """A name on one line, % doubled for systemd."""
    return " ".join(text.split()).replace("%", "%%")


def _file(unit: str, body: Sequence[str]) -> str:
    return "\n".join([HEAD + unit, *body, ""])
