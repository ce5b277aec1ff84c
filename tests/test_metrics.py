"""Metrics: one sum over all processes, both text formats, names by the standards, what is seen."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from er import exposition, keys, metrics
from er.admin import cgroups, hardware, telling
from er.admin.exemplars import Exemplars
from er.admin.telling import Telling
from er.admin.worth import Worth
from er.config import parse
from er.config.render import render as config_text
from er.engine.sample import shown
from er.exposition import seen, told
from er.exposition.text import written
from er.exposition.told import Noted
from er.gpus import Gpus
from er.ledger import Ledger
from er.recent.record import Group, Seen, Sums, Told
from er.status.machine import Meter
from er.systemctl import Unit
from er.systemctl import parse as systemd_parse
from er.units import takeup
from fake_nvml import Card, FakeNvml, NotSupportedError
from fakes import free_port
from metric_names import every_metric
from running import gateway

COUNTER = """
import sys
from er import metrics
metrics.requests.labels("m", "openai", "200").inc(int(sys.argv[1]))
metrics.in_flight.set(2)
metrics.seconds.labels("m", "total").observe(0.2)
"""
READER = "import sys; from er import exposition as e; sys.stdout.buffer.write(e.render())"
TELLER = """
from er.exposition import seen, told
from er.exposition.told import Noted
told.tell([seen.workers.row(3)], [Noted("m", "total", 7, "req-1", 0.2, 1764187200.5)])
"""
OPEN_READER = "import sys; from er import exposition as e; sys.stdout.buffer.write(e.render(True))"
EVERY = """
from er import metrics
from er.exposition import seen, told
told.tell([family.row(1, *("x" for _ in family.labels)) for family in seen.SEEN.values()])
for one in vars(metrics).values():
    if hasattr(one, "_labelnames"):
        child = one.labels(*("x" for _ in one._labelnames)) if one._labelnames else one
        getattr(child, {"counter": "inc", "gauge": "set", "histogram": "observe"}[one._type])(1)
"""
TOML = """
[costs]
gpu_hour = 3.6
currency = "EUR"
[[model]]
name = "m"
task = "embed"
path = "/m"
[[replica]]
name = "one"
model = "m"
gpu = 0
port = 8100
[[replica]]
name = "two"
model = "m"
gpu = [0, 1]
port = 8101
"""


def run(directory: Path, process: str, code: str, *arguments: str) -> str:
    """Run `code` in a process of its own, as the worker or admin that `process` names."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory), "ER_PROCESS": process}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


# -- over processes ------------------------------------------------------------------------------


def test_workers_are_summed_and_a_new_one_in_a_slot_counts_on(tmp_path: Path) -> None:
    """Prometheus must never see a counter fall because a worker died."""
    run(tmp_path, "w0", COUNTER, "3")
    run(tmp_path, "w1", COUNTER, "4")
    run(tmp_path, "w0", COUNTER, "10")
    text = run(tmp_path, "admin", READER)
    assert 'er_requests_total{dialect="openai",model="m",status="200"} 17.0' in text
    assert "er_in_flight 4.0" in text
    assert 'er_request_seconds_bucket{le="0.25",model="m",part="total"} 3.0' in text
    assert 'er_request_seconds_count{model="m",part="total"} 3.0' in text
    assert len(list(tmp_path.glob("counter_*"))) == 3


def test_what_the_admin_process_tells_and_exemplars_stand_in_every_process(tmp_path: Path) -> None:
    """A worker's /metrics has them too."""
    run(tmp_path, "w0", COUNTER, "3")
    run(tmp_path, "admin", TELLER)
    plain, text = run(tmp_path, "w0", READER), run(tmp_path, "w1", OPEN_READER)
    assert "er_workers 3.0" in plain and "er_workers 3.0" in text
    line = 'er_request_seconds_bucket{le="0.25",model="m",part="total"} 1.0'
    assert f"{line}\n" in plain and "# {" not in plain
    assert f'{line} # {{request_id="req-1"}} 0.2 1764187200.500\n' in text
    by_name = {family.name: family for family in open_families(text)}
    [exemplar] = [one.exemplar for one in by_name["er_request_seconds"].samples if one.exemplar]
    assert exemplar.labels == {"request_id": "req-1"} and exemplar.value == 0.2
    assert by_name["er_request_seconds"].unit == "seconds"


@pytest.mark.parametrize("openmetrics", [False, True])
def test_what_is_no_number_has_no_row(openmetrics: bool) -> None:
    """A gauge in a file can't be forgotten: that of a day without feedback is NaN."""
    some, none = Metric("er_a", "A", "gauge"), Metric("er_b", "B", "gauge")
    some.add_sample("er_a", {"model": "gone"}, math.nan)
    some.add_sample("er_a", {"model": "here"}, 0.0)
    none.add_sample("er_b", {}, math.nan)
    text = written([some, none], {}, openmetrics).decode()
    assert 'er_a{model="here"} 0.0\n' in text and "gone" not in text and "er_b" not in text


def test_what_was_told_long_ago_or_is_damaged_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old figure must not look like a measured one."""
    monkeypatch.setenv(metrics.DIRECTORY_VARIABLE, str(tmp_path))
    told.tell([seen.workers.row(3), ("er_of_a_newer_er", (), 1.0), ("er_workers", ("x",), 1.0)])
    assert [family.name for family in told.read().families()] == ["er_workers"]
    now = told.steady()
    monkeypatch.setattr(told, "steady", lambda: now + told.FRESH_S)
    assert not told.read().rows
    monkeypatch.undo()
    monkeypatch.setenv(metrics.DIRECTORY_VARIABLE, str(tmp_path))
    (tmp_path / told.NAME).write_bytes(b"\x93half")
    assert not told.read().rows
    assert [path.name for path in tmp_path.iterdir()] == [told.NAME]


# -- the formats ---------------------------------------------------------------------------------

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/"
    "openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("text/plain;version=0.0.4,application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=very", False),
        ("*/*", False),
        ("", False),
        ("text/html,application/xhtml+xml;q=0.9,;=,\x00", False),
    ],
)
def test_the_format_is_what_the_scraper_likes_best(accept: str, openmetrics: bool) -> None:
    assert exposition.wants_openmetrics(accept) == openmetrics


def test_both_formats_say_the_same_by_their_own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the Python client's strict parsers: every family, with awkward names in labels."""
    rows = [
        f.row(1.0 if f.kind == "info" else 1.5, *(['a"b\\c\nd'] * len(f.labels)))
        for f in seen.SEEN.values()
    ]
    told.tell(rows)
    for metric in (metrics.requests, metrics.texts_cut, metrics.queue_sequences):
        metric.labels(*("é" for _ in metric._labelnames))
    metrics.seconds.labels("m", "total").observe(0.2)
    plain, text = exposition.render().decode(), exposition.render(True).decode()
    read_plain, read_open = list(plain_families(plain)), list(open_families(text))
    assert text.endswith("\n# EOF\n") and "# EOF" not in plain
    values = {(s.name, frozenset(s.labels.items())): s.value for f in read_open for s in f.samples}
    for family in read_plain:
        for sample in family.samples:
            assert values.pop((sample.name, frozenset(sample.labels.items()))) == sample.value
    assert not values
    assert 'er_key_info{key="a\\"b\\\\c\\nd"' in plain
    kinds = {family.name: family.type for family in read_open}
    assert kinds["er_build"] == "info" and kinds["er_unit_cpu_seconds"] == "counter"


# -- the names -----------------------------------------------------------------------------------

# Units that promtool calls not basic, and short ones that nobody can be sure of.
NOT_BASE = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "bits"),
    *("kilobytes", "kibibytes", "megabytes", "mebibytes", "gigabytes", "gibibytes", "percent"),
    *("kelvin", "fahrenheit", "milliwatts", "kilowatts", "calories", "s", "ms", "us", "ns", "sec"),
    *("b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"),
}
BASE = ("seconds", "bytes", "ratio", "celsius", "watts")
RESERVED = ("_count", "_sum", "_bucket", "_created", "_gcount", "_gsum", "_timestamp")
LABELS_MAX = 4
REPEATED = {"model", "gpu", "key", "unit", "replica", "state"}  # of its name, by what it is of


def test_every_name_keeps_to_the_standards() -> None:
    """The rules of OpenMetrics and of promtool check metrics, on all that is declared."""
    every = list(every_metric())
    assert len(every) >= 80 and len({name for name, *_ in every}) == len(every)
    for name, kind, labels in every:
        assert re.fullmatch(r"er_[a-z][a-z0-9_]*[a-z0-9]", name) and "__" not in name
        assert name.endswith("_total") == (kind == "counter"), name
        assert name.endswith("_info") == (kind == "info"), name
        stem = name.removesuffix("_total").removesuffix("_info")
        words = stem.split("_")
        assert not NOT_BASE & set(words), name
        assert not {"counter", "gauge", "histogram", "summary", "info"} & set(words), name
        assert not stem.endswith(RESERVED), name
        for unit in BASE:
            assert unit not in words or words[-1] == unit, f"{name}: the unit stands at the end"
        assert len(labels) <= LABELS_MAX and len(set(labels)) == len(labels), name
        for label in labels:
            assert re.fullmatch(r"[a-z][a-z_]*", label) and label not in ("le", "quantile", "job")
            assert label not in words or label in REPEATED, name


def test_prometheus_own_linter_finds_nothing(tmp_path: Path) -> None:
    """promtool check metrics on a text in which every metric has a row."""
    run(tmp_path, "admin", EVERY)
    text = run(tmp_path, "w0", READER)
    for name, kind, _ in every_metric():
        assert f"# TYPE {name} {'gauge' if kind == 'info' else kind}\n" in text, name
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_has_a_help_text_that_needs_no_escapes() -> None:
    texts = {name: known.text for name, known in metrics.DECLARED.items()}
    texts |= {family.name: family.text for family in seen.SEEN.values()}
    for name, text in texts.items():
        assert len(text) > 5 and not set('\\"\n') & set(text), name


# -- units ---------------------------------------------------------------------------------------


def a_unit(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_a_units_cgroup_is_told_and_what_it_lacks_is_not(tmp_path: Path) -> None:
    """The gateway's whole; a replica's on an older kernel without a limit; a third is not there."""
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/x\n0::/er.slice/er-gateway.service\n")
    a_unit(
        tmp_path / "er.slice/er-gateway.service",
        cpu_stat="usage_usec 30\nuser_usec 2000000\nsystem_usec 500000\n",
        memory_current="1000\n",
        memory_peak="3000\n",
        memory_max="9000\n",
        memory_events="low 0\noom 2\noom_kill 1\n",
        pids_current="12\n",
        io_stat="8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n253:0\n",
    )
    a_unit(
        tmp_path / "er.slice/er-vllm@one.service",
        memory_current="5\n",
        memory_max="max\n",
        memory_events="oom_kill nothing\n",
        io_stat="",
    )
    gateway, one = "er-gateway.service", "er-vllm@one.service"
    assert set(cgroups.rows(["one", "gone"], tmp_path, own)) == {
        ("er_unit_cpu_seconds", (gateway, "user"), 2.0),
        ("er_unit_cpu_seconds", (gateway, "system"), 0.5),
        ("er_unit_memory_bytes", (gateway,), 1000.0),
        ("er_unit_memory_peak_bytes", (gateway,), 3000.0),
        ("er_unit_memory_limit_bytes", (gateway,), 9000.0),
        ("er_unit_oom_kills", (gateway,), 1.0),
        ("er_unit_pids", (gateway,), 12.0),
        ("er_unit_io_read_bytes", (gateway,), 11.0),
        ("er_unit_io_written_bytes", (gateway,), 22.0),
        ("er_unit_memory_bytes", (one,), 5.0),
    }
    own.write_text("0::/user.slice/session-1.scope\n")  # in the foreground
    assert not list(cgroups.rows(["one"], tmp_path, own))
    assert not list(cgroups.rows(["one"], tmp_path, tmp_path / "none"))


def test_systemd_says_what_a_units_network_carried_where_it_counts() -> None:
    """The largest number of 64 bits, nothing, or a remark: it does not."""
    text = (
        "Id=a.service\nLoadState=loaded\nNRestarts=2\nIPIngressBytes=10\nIPEgressBytes=20\n\n"
        "Id=b.service\nLoadState=loaded\nIPIngressBytes=18446744073709551615\n\n"
        "Id=c.service\nLoadState=loaded\nIPIngressBytes=[no data]\nIPEgressBytes=[not set]\n"
    )
    found = systemd_parse(text)
    assert (found["a.service"].received, found["a.service"].sent) == (10, 20)
    assert {(found[u].received, found[u].sent) for u in ("b.service", "c.service")} == {
        (None, None)
    }


# -- GPUs and the machine ------------------------------------------------------------------------


def of_launcher(card: Card) -> dict[str, Any]:
    """A card as a launcher's sample has it, over the file and back."""
    return dict(json.loads(json.dumps(shown(Gpus(FakeNvml([card])).read()[0]))))


def test_a_gpu_says_why_it_is_slow_and_what_it_lost() -> None:
    """Idleness (bit 0) is no throttling; corrected and uncorrected errors apart."""
    card = Card("GPU-a", "00000000:41:00.0", 0, reasons=0x1 | 0x40, ecc=3)
    rows = {row[:2]: row[2] for row in hardware.gpu_rows({"one": {"gpu": [of_launcher(card)]}})}
    labels = ("0", "GPU-a", "one")
    assert rows["er_gpu_throttled", (*labels, "hw_thermal")] == 1.0
    assert sum(value for (name, _), value in rows.items() if name == "er_gpu_throttled") == 1.0
    assert rows["er_gpu_ecc_errors", (*labels, "uncorrected")] == 3.0
    assert rows["er_gpu_power_limit_watts", labels] == 700.0
    assert rows["er_gpu_utilization_ratio", labels] == 0.91


def test_what_a_driver_does_not_tell_of_a_gpu_is_left_out() -> None:
    """A card without ECC, and a driver that knows the reasons by their old name."""
    refuses = {
        "nvmlDeviceGetTotalEccErrors": NotSupportedError,
        "nvmlDeviceGetCurrentClocksEventReasons": NotSupportedError,
    }
    old = of_launcher(Card("GPU-a", "00000000:41:00.0", 0, reasons=0x4, refuses=refuses))
    assert old["throttled"]["power_cap"] and old["ecc_errors"] is None
    refuses["nvmlDeviceGetCurrentClocksThrottleReasons"] = NotSupportedError
    none = of_launcher(Card("GPU-a", "00000000:41:00.0", 0, refuses=refuses))
    names = {row[0] for row in hardware.gpu_rows({"one": {"gpu": [none]}})}
    assert "er_gpu_power_watts" in names
    assert not {"er_gpu_throttled", "er_gpu_ecc_errors"} & names
    assert not list(hardware.gpu_rows({"one": {"gpu": None}, "two": {}}))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("configuration", "state", "runtime", "cache"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"{kind.upper()}_DIRECTORY", str(tmp_path / kind))
    return tmp_path


def test_the_machine_counts_and_each_file_system_of_models_is_told_once(folders: Path) -> None:
    text = TOML + '[[model]]\nname = "n"\ntask = "score"\npath = "%s"\n' % (folders / "model")
    text += '[[model]]\nname = "o"\ntask = "score"\npath = "%s"\n' % (folders / "other")
    for name in ("model", "other"):
        (folders / name).mkdir()
        (folders / name / "config.json").write_text("{}")
    disks = list(hardware.disk_rows(parse(text, folders / "er.toml")))
    places = {labels for name, labels, _ in disks if name == "er_disk_free_bytes"}
    assert places == {
        ("state", str(folders / "state")),
        ("cache", str(folders / "cache")),
        ("models", str(folders / "model")),
    }
    assert all(value > 0 for _, _, value in disks)
    rows = {row[:2]: row[2] for row in hardware.machine_rows(Meter().sample(1.0))}
    assert rows["er_machine_cpu_seconds", ("user",)] > 0 and rows["er_machine_cpus", ()] >= 1
    assert rows["er_machine_network_errors", ("sent",)] >= 0
    assert ("er_machine_cpu_ratio", ()) not in rows  # the first look has nothing to compare with


# -- what it is worth ----------------------------------------------------------------------------


def test_a_shared_card_is_paid_once_and_an_hour_of_it_brings_so_much(tmp_path: Path) -> None:
    """Card 0 by two replicas, card 1 by one: 300 s are 600 GPU-seconds, at 3.60 an hour 0.60."""
    worth = Worth(parse(TOML, tmp_path / "er.toml"))
    cards = [{"uuid": "GPU-0"}, {"uuid": "GPU-1"}]
    samples: dict[str, dict[str, Any]] = {"one": {"gpu": cards[:1]}, "two": {"gpu": cards}}
    for second in range(0, 302, 2):
        done = [
            ("er_sequences_total", {"model": "m"}, 10.0 * second),
            ("er_tokens_total", {"model": "m"}, 100.0 * second),
        ]
        worth.tick(float(second), samples, done)
    rows = {row[:2]: row[2] for row in worth.rows()}
    assert rows["er_gpu_seconds", ("one", "m")] == pytest.approx(150.0)
    assert rows["er_gpu_seconds", ("two", "m")] == pytest.approx(450.0)
    assert rows["er_cost", ("two", "m", "EUR")] == pytest.approx(0.45)
    assert rows["er_gpu_hour_price", ("EUR",)] == 3.6
    assert rows["er_sequences_per_gpu_hour", ("m",)] == pytest.approx(3000 / 600 * 3600)
    assert rows["er_tokens_per_gpu_hour", ("m",)] == pytest.approx(30000 / 600 * 3600)
    worth.tick(1000.0, samples, [])  # nobody looked for 700 s: that is not counted
    assert sum(row[2] for row in worth.rows() if row[0] == "er_gpu_seconds") == pytest.approx(600.0)


def test_the_price_is_read_written_and_taken_up(tmp_path: Path) -> None:
    """A reload is enough; the applied file carries it."""
    priced = parse(TOML, tmp_path / "er.toml")
    assert parse(config_text(priced), priced.source).costs == priced.costs
    plain = parse(re.sub(r"\[costs\]\n.*\n.*\n", "", TOML), priced.source)
    assert plain.costs.gpu_hour is None and "costs" not in config_text(plain)
    merged = takeup.merge(plain, priced)
    assert merged.config.costs == priced.costs and not merged.held
    assert set(merged.taken) == {"[costs] gpu_hour: off -> 3.6", "[costs] currency: USD -> EUR"}


def test_without_a_price_there_is_no_cost(tmp_path: Path) -> None:
    free = re.sub(r"\[costs\]\n.*\n.*\n", "", TOML)
    worth = Worth(parse(free, tmp_path / "er.toml"))
    for second in (0.0, 2.0):
        worth.tick(second, {"one": {"gpu": [{"uuid": "GPU-0"}]}, "two": {"gpu": []}}, [])
    names = {row[0] for row in worth.rows()}
    assert "er_gpu_seconds" in names and not {"er_cost", "er_gpu_hour_price"} & names
    assert len([row for row in worth.rows() if row[0] == "er_gpu_seconds"]) == 1


# -- requests by key, and exemplars --------------------------------------------------------------


def request(model: str, id_: str, ended: float, total_ns: int, status: int = 200) -> Seen:
    """One as a worker tells of it."""
    of = {"key": "k", "key_name": "", "dialect": "openai", "replica": "one", "code": "", "path": ""}
    times = {"queue_ns": 0, "tokenise_ns": 50_000, "engine_ns": 0, "encode_ns": 0}
    return Seen(
        **of, **times, client="", model=model, id=id_, ended=ended, status=status, items=1,
        tokens=2, total_ns=total_ns,
    )  # fmt: skip


def test_an_exemplar_is_the_newest_in_its_bucket_and_its_bucket_holds_it() -> None:
    """Failed ones and models that nobody configured are in no histogram, so they are none."""
    exemplars = Exemplars(frozenset({"m"}))
    exemplars.note(request("m", "older", 5.0, 100_000_000), 1000.0)
    exemplars.note(request("m", "newer", 6.0, 90_000_000), 1000.0)
    exemplars.note(request("m", "late", 4.0, 95_000_000), 1000.0)
    exemplars.note(request("m", "slow", 1.0, 10**12), 1000.0)
    exemplars.note(request("m", "failed", 9.0, 90_000_000, status=500), 1000.0)
    exemplars.note(request("other", "alien", 9.0, 90_000_000), 1000.0)
    noted = {(one.part, one.bucket): one for one in exemplars.all()}
    bucket = metrics.SECONDS.index(0.1)
    assert noted["total", bucket] == Noted("m", "total", bucket, "newer", 0.09, 1006.0)
    assert noted["total", len(metrics.SECONDS)].request_id == "slow"
    assert noted["tokenise", 0].seconds == 0.00005 and len(noted) == 6
    long = Noted("m", "total", 1, "x" * 119, 0.002, 1.0)
    fits = msgspec.structs.replace(long, request_id="x" * 118)
    shown_ = told.Told(0.0, noted=[long, fits]).exemplars_of(metrics.seconds)
    assert [exemplar.request_id for exemplar in shown_.values()] == [fits.request_id]


@pytest.fixture
def telling_of(folders: Path) -> Any:
    """A Telling, and its ledger closed behind it."""
    ledger = Ledger.open(folders / "runtime/ledger", ["one", "two"])
    yield Telling(parse(TOML, folders / "er.toml"), ledger)
    ledger.close()


def rows_of(one: Telling) -> dict[tuple[str, tuple[str, ...]], float]:
    one.tick(Meter().sample(1.0), {}, [], None)
    return {(name, tuple(labels)): value for name, labels, value in told.read().rows}


def test_ten_thousand_keys_are_sixty_five_rows(telling_of: Telling) -> None:
    """The busiest by name, the others as one; who loses its row takes its counts away."""
    for turn in range(20):
        groups = [
            Group(
                "keys", f"k{key:08}", "", Sums(requests=2, ok=1, refused=1, sequences=3, tokens=9)
            )
            for key in range(turn * 500, turn * 500 + 500)
        ]
        busy = Group("keys", "kbusiest0", "", Sums(requests=99, ok=99, sequences=99, tokens=99))
        telling_of.heard(Told(at=1.0 + turn, groups=[*groups, busy], slowest=[], failed=[]))
    rows = rows_of(telling_of)
    by_key = {labels: value for (name, labels), value in rows.items() if name == "er_key_tokens"}
    assert len(by_key) == telling.KEYS + 1 and ("others",) in by_key
    assert by_key["kbusiest0",] == 99 * 20
    refused = sum(
        value
        for (name, labels), value in rows.items()
        if name == "er_key_requests" and labels[1] == "refused"
    )
    assert 0 < refused <= 10_000 and rows["er_key_requests", ("others", "refused")] > 9_000


def test_keys_that_expire_are_told_of_the_first_to_do_so(
    telling_of: Telling, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that never do, are revoked, or ended long ago; a damaged file says nothing."""
    path, now = folders / "state/er_api_keys.json", datetime.now(UTC)
    made = {
        days: keys.create(path, name=f"in {days}", now=now, expires=now + timedelta(days=days))
        for days in (3, 1, 2)
    }
    keys.create(path, name="for ever", now=now)
    keys.revoke(path, made[2].record.id, now=now)
    monkeypatch.setattr(telling, "KEYS", 1)
    rows = rows_of(telling_of)
    ends = {
        labels: value for (name, labels), value in rows.items() if name == "er_key_expiry_seconds"
    }
    assert ends == {(made[1].record.id,): pytest.approx(now.timestamp() + 86400, abs=1)}
    record = made[1].record
    group = Group("keys", record.id, "", Sums(requests=1, ok=1))
    telling_of.heard(Told(at=1.0, groups=[group], slowest=[], failed=[]))
    assert rows_of(telling_of)["er_key", (record.id, "in 1")] == 1.0
    path.write_text("{")
    (folders / "state/er_api_keys.last-good.json").write_text("{")
    telling_of._rare_at = float("-inf")
    assert not [name for name, _ in rows_of(telling_of) if name == "er_key_expiry_seconds"]


def test_replicas_engines_and_systemds_counts_are_told(
    telling_of: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a replica whose launcher lives all of it, of one without only what the ledger knows."""
    unit = Unit(
        state="active", sub="running", loaded=True, status_text="", restarts=4, pid=1, result="",
        since=None, received=7,
    )  # fmt: skip
    monkeypatch.setattr(telling.systemctl, "show", lambda units: {"er-vllm@one.service": unit})
    engine = {"running": 3, "waiting": 0, "kv_cache_usage": 0.25, "prompt_tokens_total": None}
    sample = {"load_s": 41.5, "attempt": 2, "engine": engine}
    telling_of.tick(Meter().sample(1.0), {"one": sample}, [], None)
    rows = {(name, tuple(labels)): value for name, labels, value in told.read().rows}
    assert rows["er_replica_state", ("one", "m", "unknown")] == 1.0
    assert rows["er_replica_state", ("two", "m", "up")] == 0.0
    assert rows["er_replica_load_seconds", ("one",)] == 41.5
    assert rows["er_engine_running_requests", ("one",)] == 3.0
    assert rows["er_engine_kv_cache_ratio", ("one",)] == 0.25
    names = {name for name, _ in rows}
    assert "er_engine_prompt_tokens" not in names and "er_certificate_end_seconds" not in names
    assert rows["er_unit_restarts", ("er-vllm@one.service",)] == 4.0
    assert rows["er_unit_network_received_bytes", ("er-vllm@one.service",)] == 7.0
    assert "er_unit_network_sent_bytes" not in names
    assert rows["er_in_flight_limit", ()] == 500.0 and rows["er_model", ("m", "embed")] == 1.0


def test_a_full_runtime_folder_is_said_and_hurts_nothing(
    telling_of: Telling, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once a minute, with what is missing and what to do."""
    monkeypatch.setenv(metrics.DIRECTORY_VARIABLE, "/proc/none")
    for _ in range(2):
        telling_of.tick(Meter().sample(1.0), {}, [], None)
    said = capfd.readouterr().out
    assert said.count("the metrics lack machine, GPUs, units and keys") == 1
    assert "No such file" in said and "free space in /run" in said


# -- a real gateway ------------------------------------------------------------------------------


def test_both_doors_answer_in_both_formats_with_the_requests_id(tmp_path: Path) -> None:
    """The operator finds a request's id in the histogram at both; a client, nothing of others."""
    with gateway(tmp_path, metrics=f"127.0.0.1:{free_port()}") as running:
        host, _, port = str(running.settings["metrics"]).partition(":")
        running.ask(
            "POST", "/v1/embeddings", {"model": "embed", "input": "a"},
            headers={"x-request-id": "exemplary-1"},
        )  # fmt: skip
        accept = {"accept": PROMETHEUS_3}
        made = keys.create(
            running.state / "er_api_keys.json",
            name="dashboard",
            now=datetime.now(UTC),
            scopes=["metrics", "admin-read"],
        )
        until = time.monotonic() + 20
        text = ""
        while "exemplary-1" not in text and time.monotonic() < until:
            time.sleep(0.2)
            reply = running.ask("GET", "/metrics", headers=accept, key=made.secret)
            text = reply.body.decode()
        families = {family.name: family for family in open_families(text)}
        marked = [s for s in families["er_request_seconds"].samples if s.exemplar]
        assert {s.labels["part"] for s in marked} >= {"total", "engine", "queue", "tokenise"}
        assert all(s.exemplar.value <= float(s.labels["le"]) for s in marked)
        assert families["er_batch_requests"].samples[0].value >= 1
        assert families["er_key_requests"].samples
        assert families["er_replica_up"].samples[0].labels["model"]
        clients = running.ask("GET", "/metrics", headers=accept)  # a key of the usual scopes
        of_client = {family.name for family in open_families(clients.body.decode())}
        assert "er_replica_up" in of_client and b"exemplary-1" not in clients.body
        assert not [name for name in of_client if name.startswith("er_key")]
        plain = running.ask("GET", "/metrics", key=made.secret)
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "exemplary-1" not in plain.body.decode()
        listener = http.client.HTTPConnection(host, int(port), timeout=10)
        listener.request("GET", "/metrics", headers=accept)
        answer = listener.getresponse()
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert b"exemplary-1" in answer.read()
