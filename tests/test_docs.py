"""Every command and snippet that READMEs and manual show is known: run here, or by the test named.

tests/test_help_chinese.py and tests/test_readme.py hold the Chinese pages to the same code, and
tests/test_readme.py asks every curl line of a gateway.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from er import config
from er.cli import manual
from er.cli.__main__ import main
from running import Gateway
from test_readme import EMBED, READMES, TOP, gateway

__all__ = ["gateway"]

TEXTS = {**READMES, **manual.pages()}
PROGRAMS = (
    *("er", "er-console", "er-gateway", "er-vllm", "curl", "tests/run", "tests/bench/run"),
    *("./install.sh", "systemctl", "journalctl", "sqlite3", "zcat", "shred", "cp", "ssh", "sh"),
    *("export", "ufw", "DIR/er/install.sh", "podman", "valkey-cli", "apt-get"),
)
MODEL = '[[model]]\nname = "Qwen3-Embedding-0.6B"\ntask = "embed"\npath = "/m"\n'
REPLICA = '[[replica]]\nname = "one"\nmodel = "Qwen3-Embedding-0.6B"\ngpu = 0\nport = 8000\n'

# What needs a machine, root or a GPU: a part of the command -> the test that runs it.
ELSEWHERE = {
    "er alert test": (
        "test_alert_messages.py",
        "test_er_alert_test_says_what_the_receiver_answered",
    ),
    "er apply": ("test_apply.py", "test_the_first_apply_and_a_second_that_has_nothing_to_do"),
    "er apply --dry-run": ("test_apply.py", "test_a_dry_run_changes_nothing"),
    "er apply --previous": ("test_apply.py", "test_the_way_back"),
    "er apply --new-vectors": ("test_apply.py", "test_other_weights_under_a_name_are_refused"),
    "er apply --again": ("test_apply.py", "test_what_is_applied_again"),
    "er embed --ray": ("test_ray.py", "test_an_actor_and_the_driver_killed_and_gone_on"),
    "er embed --ray auto --vllm": ("test_ray_vllm.py", "test_vllm_in_the_actors"),
    "er backup": (
        "test_backup_gateway.py",
        "test_a_running_gateway_is_taken_up_on_a_fresh_machine",
    ),
    "er restore": (
        "test_backup_gateway.py",
        "test_a_running_gateway_is_taken_up_on_a_fresh_machine",
    ),
    "er models pull": ("test_models_command.py", "test_a_pull_and_a_second_one"),
    "er models verify": ("test_models_command.py", "test_verify"),
    "er capacity": ("test_capacity.py", "test_a_real_gateway_is_measured_and_quoted"),
    "er quality run": (
        "test_canary_gateway.py",
        "test_a_replica_that_drifted_is_out_and_comes_back",
    ),
    "er quality accept": (
        "test_canary_gateway.py",
        "test_a_replica_that_drifted_is_out_and_comes_back",
    ),
    "er quality compare": ("test_quality_compare.py", "test_a_model_and_fewer_of_its_dimensions"),
    "er quality reference": ("test_quality_reference.py", "test_what_it_keeps_and_says"),
    "er reload": (
        "test_supervisor.py",
        "test_a_new_generation_takes_over_without_losing_a_request",
    ),
    "er replica add": ("test_replica_commands.py", "test_a_replica_is_added_as_the_others_are"),
    "er replica add --model M --url": (
        "test_replica_commands.py",
        "test_one_at_a_url_comes_and_goes_without_a_restart",
    ),
    "er replica remove": ("test_replica_commands.py", "test_the_last_replica_is_asked_about"),
    "er replica set": (
        "test_replica_commands.py",
        "test_a_port_moves_and_that_replica_alone_is_restarted",
    ),
    "er hosts": ("test_members_gateways.py", "test_they_find_each_other"),
    "er hosts forget": ("test_members_gateways.py", "test_one_that_is_killed_is_silent"),
    "er state move": ("test_state_move.py", "test_over_and_back"),
    "er hosts rotate": ("test_members_gateways.py", "test_the_secret_changes_while_traffic_runs"),
    "er drain HOST": ("test_members_gateways.py", "test_a_drain_holds_on_all"),
    "er drain gpu2": ("test_members_gateways.py", "test_a_drain_holds_on_all"),
    "er undrain": ("test_members_gateways.py", "test_a_drain_holds_on_all"),
    "er model": ("test_replica_commands.py", "test_a_model_comes_with_a_replica_and_goes_with_it"),
    "cp /etc/er/er.toml.before": (
        "test_replica_commands.py",
        "test_the_printed_line_brings_it_back",
    ),
    "er vllm install": ("test_vllm_install.py", "test_a_version_is_there_once_it_is_whole"),
    "er vllm use": ("test_vllm_use.py", "test_another_version_and_back"),
    "er vllm rollback": ("test_vllm_use.py", "test_another_version_and_back"),
    "./install.sh --rollback": ("whole/test_d_versions.py", "test_back_and_forward_and_back"),
    "er restart": ("whole/test_d_operations.py", "test_replicas_are_restarted_and_nothing_is_lost"),
    "er audit": ("test_audit.py", "test_records_as_lines"),
    "er tls self-signed": ("test_tls_parts.py", "test_self_signed"),
    "er tls show": ("test_tls_parts.py", "test_self_signed"),
    "er tls renew": ("whole/test_d_restarts.py", "test_a_renewed_certificate_loses_nothing"),
    "er-console --once": (
        "test_console_once.py",
        "test_once_prints_a_frame_and_the_exit_code_is_the_verdict",
    ),
    "er-console --json": ("test_console_once.py", "test_json_is_the_status_with_a_verdict"),
    "er-console --watch": (
        "test_console_watch.py",
        "test_a_line_for_each_change_and_none_for_the_time_that_passes",
    ),
    "er-console --serve": (
        "test_console_serve.py",
        "test_one_browser_is_let_in_once_and_sees_the_console",
    ),
    "er-console --demo": (
        "test_console_once.py",
        "test_once_prints_a_frame_and_the_exit_code_is_the_verdict",
    ),
    "er-console": (
        "whole/test_f_console.py",
        "test_a_dead_engine_is_seen_and_replaced_from_the_console",
    ),
    "er-vllm": ("test_launcher.py", "test_a_life_from_start_to_sigterm"),
    "er-gateway": ("test_supervisor.py", "test_a_restart_under_load_loses_nothing"),
    "ufw allow": (
        "test_doctor_network.py",
        "test_each_network_that_the_firewall_keeps_out_has_the_line_that_lets_it_in",
    ),
    "valkey-cli ACL SETUSER": (
        "test_check_state.py",
        "test_the_user_that_the_help_makes_may_all_that_is_needed",
    ),
    "apt-get install": ("whole/test_x_hosts.py", "test_the_page_is_followed_word_by_word"),
    "systemctl restart redis-server": (
        "whole/test_x_hosts.py",
        "test_the_page_is_followed_word_by_word",
    ),
    "podman": ("test_containers.py", "test_the_gateway_runs_as_the_manual_says"),
    "./install.sh --demo": ("whole/test_a_demo.py", "test_demo"),
    "./install.sh --fetch": (
        "whole/test_a_offline.py",
        "test_fetched_here_and_installed_without_a_network",
    ),
    "DIR/er/install.sh --offline": (
        "whole/test_a_offline.py",
        "test_fetched_here_and_installed_without_a_network",
    ),
    "./install.sh --index-url": ("test_network_settings.py", "test_the_lines_of_the_readmes"),
    "./install.sh --proxy": ("test_network_settings.py", "test_the_lines_of_the_readmes"),
    "./install.sh": ("whole/test_b_install.py", "test_installed_and_answering"),
    "systemctl st": ("whole/test_d_operations.py", "test_stop_and_start_of_the_target"),
    "systemctl restart": (
        "whole/test_d_operations.py",
        "test_restarting_the_gateway_loses_nothing",
    ),
    "journalctl": ("whole/test_c_answers.py", "test_audit_has_a_record_for_each"),
    "cp -p": ("test_keys.py", "test_a_damaged_file_locks_nobody_out"),
    "sh -c 'umask": ("test_alert_messages.py", "test_a_file_made_as_the_manual_says_is_good"),
    "sh -c 'curl": ("whole/test_c_answers.py", "test_the_engines_answer_the_gateway_alone"),
}
# Programs of the distribution, used as everybody does.
PLAIN = ("ssh -L ", "shred -u ", "export ")


class Command(NamedTuple):
    """One line that a reader may type."""

    page: str
    line: str  # without sudo, comment and what is told behind it


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Each block of a text: its kind ("" where it is only set in) and its lines."""
    for fenced in re.finditer(
        r"^( *)(?:\d\. )?```(\S*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL
    ):
        step = "   " if not fenced[0].startswith("`") else ""  # a list's step sets it in
        yield fenced[2], re.sub(f"^{step}", "", fenced[3], flags=re.MULTILINE)
    bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for inset in re.finditer(r"(?:^    .*\n)+", bare, re.MULTILINE):
        yield "", re.sub(r"^    ", "", inset[0], flags=re.MULTILINE)


def typed(line: str) -> str:
    """A line as it is typed, without sudo, variables before it, a comment or an explanation."""
    line = re.sub(r"\s+#.*|(?<=\S)   +\S.*", "", line).strip()
    return re.sub(r"^(?:sudo (?:--preserve-env=\S+ )?)?(?:[A-Z_]+=\S+ )?", "", line)


def is_command(line: str) -> bool:
    program, _, rest = typed(line).partition(" ")
    return program in PROGRAMS and not rest.startswith("= ")  # Python may call a client `er`


def lines_of(block: str) -> list[str]:
    """Its lines, each with those that it goes on in."""
    joined = re.sub(r"\\\n\s*", "", block)
    joined = re.sub(r"'[^'\n]*\n[^']*'", lambda found: found[0].replace("\n", " "), joined)
    return [line for line in joined.splitlines() if line.strip()]


def commands() -> list[Command]:
    """All of them, each once."""
    found: dict[str, Command] = {}
    for page, text in TEXTS.items():
        for kind, block in blocks(text):
            if kind in ("", "sh", "bash"):
                for line in filter(is_command, lines_of(block)):
                    found.setdefault(typed(line), Command(page, typed(line)))
    return list(found.values())


COMMANDS = commands()


def elsewhere(line: str) -> tuple[str, str] | None:
    """The test that runs this command; None: it is run here."""
    fitting = [start for start in ELSEWHERE if line.startswith(start)]
    return ELSEWHERE[max(fitting, key=len)] if fitting else None


# -- nothing is unknown ------------------------------------------------------------------------


def test_the_texts_have_commands() -> None:
    """So that nothing here can pass by finding none."""
    assert len(COMMANDS) >= 80
    named = {command.line.split(" ", 1)[0] for command in COMMANDS}
    assert named == set(PROGRAMS), set(PROGRAMS) ^ named


@pytest.mark.parametrize("page", TEXTS)
def test_every_block_is_of_a_known_kind(page: str) -> None:
    """Commands, or a snippet that its own reader reads."""
    for kind, block in blocks(TEXTS[page]):
        if kind in ("nginx", "haproxy", "haproxy-tls", "haproxy-tcp", "text", "conf"):
            # Run by tests/test_proxies.py; a prompt, held to the code below; a Valkey's, run by
            # tests/whole/test_x_hosts.py.
            continue
        rest = [line for line in lines_of(block) if not is_command(line)]
        if not rest or (kind in ("sh", "bash") and all(line.startswith("#") for line in rest)):
            continue
        if len(rest) < len(lines_of(block)):
            told = [line for line in rest if not line.startswith((" " * 8, "#"))]
            assert told == [], f"{page}: neither a command nor told behind one: {told}"
            continue
        assert reader(kind, block), f"{page}: what is this?\n{block}"


def reader(kind: str, block: str) -> str:
    """What reads this snippet: "toml", "python", "json", "yaml", "options", "variables"; or ""."""
    if kind == "python" or re.match(r"from |import |client = ", block):
        ast.parse(block)
        return "python"
    if kind == "toml" or re.match(r"(?:#.*\n)?(?:\[|[a-z_]+ = )", block):
        load(block)
        return "toml"
    if kind == "yaml" or re.match(r"[a-z_]+:\n", block):
        assert isinstance(yaml.safe_load(block), dict)
        return "yaml"
    if block.startswith(("{", '"')):
        bare = re.sub(r"   +\S+.*", "", block) if block.startswith('"') else block
        for one in [f"{{{bare}}}"] if block.startswith('"') else json_values(block):
            assert json.loads(one)
        return "json"
    if block.startswith("--"):
        option, value = block.split(" ", 1)
        assert option == "--hf-overrides" and json.loads(value.strip().strip("'"))
        return "options"
    return "variables" if re.fullmatch(r"(?:[A-Z_]+=\S+\n)+\n?(?:[A-Z_]+=\S+\n)*", block) else ""


def json_values(block: str) -> list[str]:
    """One value, or one on each line."""
    try:
        json.loads(block)
    except ValueError:
        return [line for line in block.splitlines() if line]
    return [block]


def load(snippet: str) -> None:
    """Read it as (a part of) er.toml with the real reader. Raises what that raises."""
    tables = tomllib.loads(snippet)
    place = Path("er.toml")
    if "aliases" in tables:
        snippet = f"{MODEL}{snippet}{REPLICA}"
    elif set(tables) & {"client_ca"}:
        snippet = f"{MODEL}{REPLICA}[gateway.tls]\n{snippet}"
    elif "model" not in tables:
        snippet = f"{MODEL}{REPLICA}{snippet}"
    config.parse(snippet, place)


def test_a_snippet_with_a_mistake_is_found() -> None:
    with pytest.raises(config.ConfigError):
        load('[[replica]]\nname = "x"\nmodle = "y"\n')
    with pytest.raises(SyntaxError):
        reader("python", "import x x\n")
    assert reader("", "Just words.\n") == ""


def test_what_is_run_elsewhere_is_there() -> None:
    """The files and functions that the table names; and each of its rows is used."""
    for file, name in ELSEWHERE.values():
        text = (TOP / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), (file, name)
    used = {elsewhere(command.line) for command in COMMANDS}
    assert set(ELSEWHERE.values()) <= used


def test_the_source_s_own_commands_name_what_is_there() -> None:
    """tests/run with files, benches' rows, scripts."""
    rows = (TOP / "tests/bench/README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        program, *words = command.line.split()
        if program == "tests/run":
            assert all(w == "long" or (TOP / w).exists() for w in words), command
        if program == "tests/bench/run":
            assert all(f"\n| {w} |" in rows for w in words), command
    scripts = {s for text in TEXTS.values() for s in re.findall(r"\btests/[\w/]+\.py\b", text)}
    assert len(scripts) >= 4 and all((TOP / s).exists() for s in scripts), scripts


# -- what is run here --------------------------------------------------------------------------

JUDGED = ("er check", "er doctor", "er quality")
ORDER = ("keys create", "keys import", "keys set", "keys rotate", "keys show", "keys revoke")


@pytest.fixture(scope="module")
def prepared(gateway: Gateway) -> Gateway:
    """The two shipped models, the files that the commands read, and what they name."""
    folder = gateway.folder
    rows = "".join(json.dumps({"text": t, "body": t}) + "\n" for t in ("one", "two", "三"))
    (folder / "corpus.jsonl").write_text(rows)
    (folder / "big.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "questions.txt.gz").write_bytes(gzip.compress(b"who?\nwhat?\n"))
    (folder / "keys.txt").write_text("old: sk-0123456789abcdefghijklmnop\n")
    (folder / "er.key").write_text(gateway.key)
    return gateway


def here() -> list[str]:
    """The commands of `er` that run here, keys' in an order that makes sense."""
    lines = [
        c.line for c in COMMANDS if c.line.startswith(("er ", "zcat")) and not elsewhere(c.line)
    ]
    place = {line: next((n for n, o in enumerate(ORDER) if f"er {o}" in line), 9) for line in lines}
    return sorted(lines, key=lambda line: place[line])


def adapted(line: str, prepared: Gateway) -> str:
    """For this folder and gateway; a bench of a moment."""
    line = re.sub(r"https?://(?:HOST:\d+|er\.example)", f"http://127.0.0.1:{prepared.port}", line)
    line = line.replace("~/er.key", "er.key").replace("NAME", "embedding").replace("KEY", "web")
    line = line.replace("--model NEW", "--model Qwen3-Embedding-0.6B")
    return line + (" --seconds 0.3 --clients 2 --inputs 2" if line.startswith("er bench") else "")


def test_the_commands_of_er_do_what_they_are_shown_for(
    prepared: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ends with 0; but those that judge, as there are no weights here and no true engine."""
    for name, value in prepared.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ER_API_KEY", prepared.key)
    monkeypatch.chdir(prepared.folder)
    lines = here()
    assert len(lines) >= 35
    for line in lines:
        words = adapted(line, prepared)
        for written in re.findall(r" -o (\S+)", words):
            (prepared.folder / written).unlink(missing_ok=True)
        if words.startswith("zcat"):
            shell = words.replace("| er ", f"| {sys.executable} -m er.cli ")
            code = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=60).returncode
        else:
            code = main(words.split()[1:])
        said = capsys.readouterr()
        fine = (0, 1) if line.startswith(JUDGED) else (0,)
        assert code in fine, f"{words}: {code}\n{said.out}{said.err}"
        assert words.startswith("zcat") or said.out, words
    assert (prepared.folder / "corpus.parquet").exists()


def test_both_are_compared_as_the_page_says(
    prepared: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """The snippet of `er help moving`, with this gateway on both sides: cosines of 1."""
    (snippet,) = [block for kind, block in blocks(TEXTS["moving"]) if kind == "python"]
    code = re.sub(r"http://HOST:\d+", f"http://127.0.0.1:{prepared.port}", snippet)
    code = re.sub('"the old key"|"sk-er-…"', repr(prepared.key), code)
    exec(compile(code, "moving.md", "exec"), {})
    cosines = [float(one) for one in capsys.readouterr().out.strip(" []\n").split()]
    assert len(cosines) == 3 and cosines == pytest.approx([1, 1, 1], abs=1e-6)


def test_tokens_of_one_api_become_a_file_of_keys(
    prepared: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the query of `er help moving`, over a table as one-api has it."""
    (line,) = [c.line for c in COMMANDS if c.line.startswith("sqlite3")]
    query = re.search(r'"(SELECT .*)"', line)
    assert query is not None
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE tokens (id INTEGER, key CHAR(48), status INTEGER, name TEXT)")
    secret = "Zk3" * 16
    base.execute("INSERT INTO tokens VALUES (1, ?, 1, 'search'), (2, 'x', 2, 'off')", (secret,))
    found = "\n".join(row[0] for row in base.execute(query[1]))
    assert found == f"search: sk-{secret}"
    for name, value in prepared.environment().items():
        monkeypatch.setenv(name, value)
    file = prepared.folder / "one-api.txt"
    file.write_text(found)
    assert main(["keys", "import", str(file), "--rate-limit", "off"]) == 0
    assert secret not in capsys.readouterr().out
    answer = prepared.ask("GET", "/v1/models", key=f"sk-{secret}")
    assert answer.status == 200 and EMBED in answer.body.decode()


def test_the_admin_socket_answers_as_the_pages_say(prepared: Gateway) -> None:
    """curl with sudo, which tests/test_readme.py does not see."""
    lines = [c.line for c in COMMANDS if c.line.startswith("curl") and "admin.sock" in c.line]
    assert len(lines) >= 3
    for line in lines:
        command = line.replace("/run/er/", f"{prepared.runtime}/") + " -sS -f -o /dev/null"
        done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=30)
        assert done.returncode == 0, (command, done.stderr)


def test_the_prompt_of_the_recipes_page_is_the_code_s() -> None:
    """Letter by letter, blank lines too; and its figures are the report's."""
    from er.prompts import INSTRUCTION, SCORE_PREFIX, SCORE_SUFFIX

    (prompt,) = [block for kind, block in blocks(TEXTS["recipes"]) if kind == "text"]
    system = re.search(r"^\| SYSTEM \| (.*) \|$", TEXTS["recipes"], re.MULTILINE)
    assert system is not None
    body = "<Instruct>: TASK\n<Query>: QUERY\n<Document>: DOCUMENT"
    assert prompt.replace("SYSTEM", system[1]) == SCORE_PREFIX + body + SCORE_SUFFIX
    assert INSTRUCTION in TEXTS["recipes"]
    report = json.loads((TOP / "tests/reports/recipes.json").read_text())
    for part in ("embed", "score"):
        for name, figures in report[part].items():
            row = f"| {name} | " + " | ".join(f"{value}" for value in figures.values()) + " |"
            assert row in TEXTS["recipes"], row


def test_the_three_things_have_their_reports_figures() -> None:
    """What both READMEs open with stands in tests/reports."""

    def report(name: str) -> dict[str, Any]:
        return dict(json.loads((TOP / "tests/reports" / name).read_text()))

    reference, restarts = report("reference.json"), report("restarts.json")
    rows = {
        row["row"]: row
        for row in json.loads((TOP / "tests/reports/bench.json").read_text())["rows"]
    }
    singles = json.dumps(rows["singles"])
    batches, mistakes = report("batches.json"), report("recipes.json")
    for text in READMES.values():
        opening = text.split("\n## ")[1]
        assert f"{reference['embed']['alone']:.1e}".replace("e-0", "e-") in opening
        assert f"{reference['score']['alone']:.1e}".replace("e-0", "e-") in opening
        assert f"{reference['embed']['rows'] + reference['score']['rows']} " in opening
        assert f"{restarts['sent']:,}" in opening and restarts["sent"] == restarts["right"]
        assert sum(restarts["done"].values()) == 200 and not restarts["refused"]
        assert "2.49" in opening and re.search(r"\b2\.49\d*", json.dumps(singles))
        kinds = [kind for kind, count in batches["failures_injected"].items() if count]
        assert "18" in opening and len(kinds) - len({"reload", "drain"}) == 18
        assert batches["wrong"] == 0 and batches["batches"] > 1_000_000
        (joined,) = [v for k, v in mistakes["score"].items() if "no template" in k]
        assert f"{joined['mean']:.2f}" in opening
