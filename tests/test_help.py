"""The manual is whole and true: each key with its default, each command, metric and code."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest

from er import config, dialects, prompts
from er.cli import __main__ as cli
from er.cli import check_cards, manual
from er.cli.screen import width
from er.config import Batches, Cache, Config, Gateway, Model, Tls
from er.dialects import Route
from er.engine import command
from er.gateway import described, feedback
from er.gateway.batches import Place, place_at
from er.gateway.options import ALIVE, OPEN, SCOPED
from er.units import takeup
from metric_names import every_metric

TOP = Path(__file__).parent.parent
STRUCTS = Config.__module__
PAGES = cli.pages()


def rows(page: str, heading: str = "") -> dict[str, tuple[str, str]]:
    """The table rows of a page (or of one part of it): first cell -> (second, third)."""
    text = PAGES[page]
    if heading:
        text = text.split(heading, 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^\| ([^|]+) \| ([^|]*) \|(?: ([^|]*) \|)?$", text, re.MULTILINE)
    return {a.strip(): (b.strip(), c.strip()) for a, b, c in found if not a.startswith("---")}


def test_the_pages_that_the_contract_names_are_there() -> None:
    """Each with a heading that the list of topics shows."""
    wanted = {"quickstart", "configuration", "api", "keys", "operating", "replicas", "faults"}
    more = {"tls", "batches", "bench", "console", "embed", "metrics", "status", "quality"}
    more |= {"proxies", "usage", "dependencies", "runbook", "moving", "recipes", "report"}
    more |= {"alerts", "backup", "bulk", "capacity", "changes", "containers", "day-two"}
    more |= {"gpus", "models", "offline", "vectors", "vllm"}
    more |= {"connect", "disk", "feedback", "hosts", "tracing", *manual.APPLICATIONS}
    assert wanted | more == set(PAGES)
    assert all(re.match(r"# \w.*: ", text) for text in PAGES.values())


def test_the_list_of_pages_has_the_applications_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """First ER's own, then those of programs that use it; each in a line of a terminal."""
    assert cli.show_help(None) == 0
    own, _, applications = capsys.readouterr().out.partition("Setting up applications:")
    named = re.findall(r"^  (\S+) ", applications, re.MULTILINE)
    assert named == sorted(manual.APPLICATIONS)
    assert set(re.findall(r"^  (\S+) ", own, re.MULTILINE)) == set(PAGES) - set(named)
    assert all(width(line) <= 80 for line in (own + applications).splitlines())


def test_the_base_urls_of_libraries_are_those_that_tests_have_proven() -> None:
    """What the READMEs' table gives LangChain and its like, the page has too."""
    table = (TOP / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:LangChain|LlamaIndex|Haystack|LiteLLM), .*", table, re.MULTILINE)
    proven = {url for row in rows for url in re.findall(r'"(http://HOST:2048[^"]*)"', row)}
    told = set(re.findall(r"http://HOST:2048[\w/-]*", PAGES["langchain"]))
    assert len(proven) >= 6 and proven - told == {
        "http://HOST:2048/embed"
    }  # LiteLLM as TEI's client


@pytest.mark.parametrize("name", manual.APPLICATIONS)
def test_a_page_of_an_application_reads_on_a_narrow_terminal(name: str) -> None:
    """Prose and lines to copy in 80 columns; a screen or so."""
    lines = PAGES[name].splitlines()
    assert len(lines) <= 70
    assert [line for line in lines if width(line) > 80 and not line.startswith("|")] == []


def sections(struct: type[msgspec.Struct], inside: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each of er.toml's, as "[cache]" or "[[model]]", and its keys; found in the structs."""
    keys = set()
    for name, kind in get_type_hints(struct).items():
        kinds = [k for k in (kind, *get_args(kind)) if getattr(k, "__module__", "") == STRUCTS]
        if kinds:
            many = get_origin(kind) is tuple
            section = f"[[{name.removesuffix('s')}]]" if many else f"[{inside}{name}]"
            own = list(sections(kinds[0], f"{name}."))
            yield section, own.pop()[1]
            yield from own
        else:
            keys.add(name.removesuffix("_s"))  # seconds, which er.toml writes as "90d"
    yield "", keys


def test_every_key_of_er_toml_is_explained() -> None:
    """No more and no less than er.toml may say."""
    told = re.findall(r"^## (\[+[a-z.]+\]+)", PAGES["configuration"], re.MULTILINE)
    wanted = dict(list(sections(Config))[:-1])
    assert set(told) == set(wanted) and len(wanted) >= 7
    for section, keys in wanted.items():
        found = set(rows("configuration", f"## {section}"))
        assert found - {"key"} == keys - {"key"}, section  # each table's head


def test_the_defaults_are_the_code_s() -> None:
    """What the page calls a default is one."""
    told = {k: v[0] for k, v in rows("configuration", "## [gateway]").items() if k != "key"}
    values = tomllib.loads("\n".join(f"{k} = {v}" for k, v in told.items()))
    gateway = Gateway()
    assert tuple(values["listen"]) == gateway.listen and values["workers"] == gateway.workers
    assert values["max_concurrency"] == gateway.max_concurrency
    assert values["rate_limit"] == str(gateway.rate_limit)
    assert values["rate_wait"] == "off" and not gateway.rate_wait_s
    assert values["timeout"] == f"{gateway.timeout_s:.0f}s"
    assert values["stop_timeout"] == f"{gateway.stop_timeout_s:.0f}s"
    assert values["leave_time"] == "off" and not gateway.leave_time_s
    assert values["max_body"] == f"{gateway.max_body >> 20}MiB"
    for key in ("max_inputs", "max_documents", "max_request_tokens", "max_rerank_tokens"):
        assert values[key] == getattr(gateway, key)
    assert values["first_key_in_log"] == gateway.first_key_in_log
    assert values["metrics"] == gateway.metrics
    assert tuple(values["cors"]) == gateway.cors
    assert values["docs"] == gateway.docs
    assert tuple(values["trusted_proxies"]) == gateway.trusted_proxies
    assert values["proxy_protocol"] == gateway.proxy_protocol
    told = {k: v[0] for k, v in rows("configuration", "## [gateway.tls]").items() if k != "key"}
    assert told["listen"] == f'["{Tls().listen[0]}"]'
    assert told["certificate"] == f'"{Tls().certificate}"'
    assert told["client_certificates"] == f'"{Tls().client_certificates}"'
    told = {k: v[0] for k, v in rows("configuration", "## [cache]").items()}
    assert told["size"] == f'"{Cache().size >> 30}GiB"'
    assert told["scope"] == f'"{Cache().scope}"'
    told = {k: v[0] for k, v in rows("configuration", "## [batches]").items()}
    assert told["quota"] == f'"{Batches().quota >> 30}GiB"'
    assert told["keep"] == f'"{Batches().keep_s / 86400:.0f}d"'
    assert told["max_file"] == f'"{Batches().max_file >> 20}MiB"'
    model = Model(name="m", task="embed")
    told = {k: v[0] for k, v in rows("configuration", "## [[model]]").items()}
    for key in ("max_tokens", "batch_tokens"):
        assert told[key] == str(getattr(model, key))
    for key in ("token_ids", "over_length", "kind"):
        assert told[key] == f'"{getattr(model, key)}"'


def test_what_the_gpu_and_a_reload_take_is_the_code_s() -> None:
    """The share without a setting; the fields of a model that need no restart."""
    told = rows("configuration", "## [[replica]]")["gpu_memory_utilization"][0]
    assert float(told) == command.UTILIZATION == check_cards.UTILIZATION
    page = " ".join(PAGES["configuration"].split())
    named = re.search(r"a model's ([a-z_, ]+); replicas at a url", page)
    assert named
    free = set(Model.__struct_fields__) - {"name", *takeup.ENGINE_FIELDS, *takeup.VECTOR_FIELDS}
    assert set(named[1].split(", ")) == free


def test_what_stands_behind_a_hash_in_the_shipped_file_is_the_default() -> None:
    """As its head says: without the # nothing changes."""
    path = TOP / "etc/er.toml"
    text = path.read_text(encoding="utf-8")
    free, freed = re.subn(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    assert freed >= 8
    changed, shipped = config.parse(free, path), config.parse(text, path)
    assert changed.gateway == shipped.gateway and changed.replicas == shipped.replicas
    first = changed.models[0]
    assert first.instruction == prompts.INSTRUCTION
    assert msgspec.structs.replace(first, instruction=None) == shipped.models[0]


def test_the_shipped_file_uses_only_explained_keys() -> None:
    """Also those that stand behind a # in it."""
    text = (TOP / "etc/er.toml").read_text(encoding="utf-8")
    keys = set(re.findall(r"^(?:# )?([a-z_]+) = ", text, re.MULTILINE))
    known = {k for part in ("gateway", "model", "replica") for k in rows("configuration", part)}
    parts = ("[gateway]", "[cache]", "[batches]", "[costs]", "[quality]")
    for part in (*parts, "[[model]]", "[[replica]]"):
        known |= set(rows("configuration", f"## {part}"))
    assert keys <= known, keys - known


def test_every_command_and_option_is_in_the_manual() -> None:
    """What `er --help` lists can be read about."""
    text = "\n".join(PAGES.values())
    for word in (
        "check",
        "apply",
        "reload",
        "status",
        "wait",
        "drain",
        "undrain",
        "hosts",
        "resume",
        "doctor",
        "bench",
        "embed",
    ):
        assert f"er {word}" in text, word
    for action in ("list", "create", "rotate", "revoke", "set"):
        assert f"er keys {action}" in text, action
    for option in ("--name", "--expires", "--rate-limit", "--models", "--grace", "--json"):
        assert option in PAGES["keys"], option
    for option in ("--model", "--task", "--clients", "--tokens", "--inputs", "--seconds", "--url"):
        assert option in PAGES["bench"], option
    known = re.findall(r"^  (--[a-z-]+|-o)", _options("embed"), re.MULTILINE)
    told = ", ".join(name for name in rows("embed") if name.startswith("-"))
    assert len(known) >= 15 and set(known) - {"--version"} <= set(told.split(", "))


def _options(command: str) -> str:
    """What `er COMMAND --help` says of its options."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return out.getvalue().split("options:")[1]


def test_every_metric_is_explained() -> None:
    """By the name that Prometheus sees, in one row, with its labels; and none that is not there."""
    declared = {name: labels for name, _, labels in every_metric()}
    rows = [line.split("|") for line in PAGES["metrics"].splitlines() if line.startswith("| er_")]
    told: dict[str, str] = {}
    for _, names, labels, *_ in rows:
        for name in names.replace(" ", "").split(","):
            assert name not in told, name
            told[name] = labels
    assert told.keys() == declared.keys()
    of_all = {"er_gpu_": {"gpu", "uuid", "replica"}, "er_unit_": {"unit"}}
    for name, labels in declared.items():
        given = {label for label in told[name].replace(" ", "").split(",") if label}
        for stem, more in of_all.items():
            if name.startswith(stem) and more <= set(labels):
                given |= more
        assert given == set(labels), name
    used = re.findall(r"\ber_[a-z0-9_]+", PAGES["metrics"])
    ends = r"_(bucket|sum|count)$"
    assert {re.sub(ends, "", name) for name in used} <= declared.keys()


def test_every_code_of_a_refusal_is_explained() -> None:
    """Each pair of status and code that the code gives is a row of the page, and no other."""
    pairs = {("400", "invalid_json"), ("400", "invalid_request")}  # raised by functions of theirs
    for path in (TOP / "daemon/er").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        pairs |= set(re.findall(r"Refusal\(\s*([45]\d\d),\s*\"([a-z_]+)\"", text))
    told = {
        (status, code)
        for status, codes in re.findall(
            r"^\| ([45]\d\d) \| ([a-z_, ]+) \|", PAGES["api"], re.MULTILINE
        )
        for code in codes.split(", ")
    }
    assert pairs == told


def test_the_paths_and_figures_of_the_api_page_are_there() -> None:
    """Each path leads somewhere; the limits are those of er.toml."""
    named = [cell for cell in rows("api") if cell.startswith(("GET", "POST"))]
    assert len(named) >= 12
    for cell in named:
        method = cell.split()[0]
        for path in re.findall(r"/[a-z0-9/{}_.-]+", cell):
            known = path in OPEN | ALIVE | described.PATHS | SCOPED.keys()
            known = known or isinstance(place_at(method, path), Place)
            known = known or isinstance(feedback.place_at(method, path), feedback.Place)
            assert known or isinstance(dialects.find(method, path), Route), path
    told = rows("api")
    gateway = Gateway()
    assert f"up to {gateway.max_inputs} texts" in told["POST /v1/embeddings"][0]
    (reranking,) = (cells[0] for name, cells in told.items() if "/v1/rerank " in name)
    assert f"up to {gateway.max_documents:,} documents" in reranking
    limits = PAGES["api"].split("| 400 | too_many_items |")[1].split("| 400 | token_ids")[0]
    for key in ("max_inputs", "max_documents", "max_request_tokens", "max_rerank_tokens"):
        value = getattr(gateway, key)
        assert key in limits and re.search(rf"\b({value}|{value:,})[ ,)]", limits)


def test_the_admin_api_is_explained() -> None:
    """Every route with its method, but for the page that lists them."""
    told = set()
    method = path = ""
    for part in ", ".join(name for name in rows("operating") if name != "request").split(", "):
        word, _, rest = part.rpartition(" ")
        method = word or method
        path = rest if word else path.rsplit("/", 1)[0] + rest  # "/resume" after ".../drain"
        told.add((method, re.sub(r"KEY|NAME", "*", path)))
    rooms = (TOP / "daemon/er/admin").glob("*.py")
    source = "".join(room.read_text(encoding="utf-8") for room in rooms)
    there = {
        (method.upper(), re.sub(r"\{\w+\}", "*", path))
        for method, path in re.findall(r"@app\.(get|post|patch|delete)\(\s*\"([^\"]+)\"", source)
    }
    assert told == there - {("GET", "/docs")}


def test_the_status_page_names_what_the_status_has() -> None:
    """Field by field, as in the example that the console and the builder share."""
    golden = json.loads((TOP / "tests/golden/status.json").read_text(encoding="utf-8"))
    model = golden["models"][0]
    told = {name: cells[0] for name, cells in rows("status").items()}
    for part, value in {
        "gateway": golden["gateway"],
        "models[]": model,
        "models[].replicas[]": model["replicas"][0],
        "gpus[]": golden["gpus"][0],
    }.items():
        assert {word.removesuffix("[]") for word in told[part].split(", ")} == set(value), part
    for name in set(model["replicas"][0]["sample"]) - {"name", "pid", "time"}:
        assert name in told["….sample"], name
    for name in golden["traffic"]:
        assert name in told["traffic"], name
    for name in golden["machine"]:
        assert name in told["machine"], name


def test_what_faults_say_is_what_the_programs_say() -> None:
    """Every phrase that the page has an operator look for stands in the code in those words."""
    code = "\n".join(p.read_text(encoding="utf-8") for p in (TOP / "daemon/er").rglob("*.py"))
    code = re.sub(r"\"\s*\n\s*f?\"", "", code)
    page = PAGES["faults"].split("A replica that does not start", 1)[1].split("\n## ", 1)[0]
    phrases = [first.strip() for first in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)]
    phrases = [p for p in phrases if p != "it says" and not p.startswith("---")]
    assert len(phrases) >= 9
    for phrase in [*phrases, "no metrics on"]:
        assert phrase in PAGES["faults"]
        for part in phrase.split("…"):
            assert part.strip() in code, phrase


def test_pages_read_on_a_terminal() -> None:
    """No line of prose beyond 110 columns; tables may be wider."""
    for name, text in PAGES.items():
        for line in text.splitlines():
            assert line.startswith("|") or width(line) <= 110, f"{name}: {line}"
