"""The commands themselves under a Chinese locale: what they print, and what they leave alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import test_config
from er import chinese
from er.chinese.hearing import WORD
from er.chinese.wording import folded, width
from er.cli import status
from er.cli.__main__ import main, parser
from er.cli.screen import table
from test_chinese import CODE, LEFT, parsers

CHINESE = {"LANG": "zh_CN.UTF-8", "TERM": "xterm"}
HAN = re.compile(r"[\u4e00-\u9fff]")
# What stands in these tests' files and machines: names that are not ER's own.
NAMES = frozenset(
    (
        *("embedding", "reranker", "web", "configuration", "replicas", "soon", "no", "nowhere"),
        *("ok", "bulk", "document", "refuse"),
    )
)
SHIPPED = (Path(__file__).parent.parent / "etc/er.toml").read_text("utf-8")
COMMANDS = frozenset(action for one in parsers(parser()) for action in one.prog.split())
SETTINGS = frozenset(re.findall(r"^#? ?(\w+) = ", SHIPPED, re.MULTILINE)) | {"nobody"}
KNOWN = LEFT | CODE | NAMES | COMMANDS | SETTINGS
FORMS = ("Model ", "API ", "custom request ")  # labels of other programs' forms
BAD = """
[gateway]
listen = ["0.0.0.0:99999"]
workers = 90
timeout = "soon"
first_key_in_log = "yes"
cors = ["https://a.example/path"]
prot = 1

[cache]
scope = "team"

[[model]]
name = "a"
task = "embed"
path = "relative"

[[replica]]
name = "Big Name"
model = "b"
gpu = 0
port = 8000
gpu_memory_utilization = 0.5
kv_cache = "1GiB"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: er.toml as shipped, a key, nothing that runs; the locale Chinese."""
    for name in ("LC_ALL", "LC_MESSAGES", "JOURNAL_STREAM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in CHINESE.items():
        monkeypatch.setenv(name, value)
    for name in ("RUNTIME", "STATE", "CACHE", "CONFIGURATION"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(f"{name}_DIRECTORY", str(folder))
    (tmp_path / "configuration/er.toml").write_text(SHIPPED, "utf-8")
    return tmp_path


Output = pytest.CaptureFixture[str]


def run(capsys: Output, *words: str) -> str:
    """All that a command prints; whatever it ends with."""
    with contextlib.suppress(SystemExit):
        main(list(words))
    out = capsys.readouterr()
    return out.out + out.err


def english(text: str) -> list[str]:
    """The lines with English words left, names and code apart."""
    found = []
    for line in text.splitlines():
        if line.startswith(FORMS):
            continue
        bare = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\{[^}]*\}|er-[\w@.-]+", "", line)
        if line.lstrip().startswith(("用法", "[")):  # the usage itself is code
            continue
        if left := [
            w for w in WORD.findall(bare) if w not in LEFT | CODE | NAMES | COMMANDS | SETTINGS
        ]:
            found.append(f"{left} in: {line}")
    return found


SPOKEN = (
    ("",),
    ("--help",),
    ("frobnicate",),
    ("keys",),
    ("keys", "create"),
    ("restart", "--rolling", "--surge"),
    ("bench", "--seconds", "x"),
    ("check", "--help"),
    ("keys", "set", "--help"),
    ("embed", "--help"),
    ("status",),
    ("wait", "--timeout", "1s"),
    ("wait", "--timeout", "soon"),
    ("doctor",),
    ("check",),
    ("disk",),
    ("clean", "--dry-run"),
    ("drain", "embedding"),
    ("reload",),
    ("apply", "--dry-run"),
    ("restart", "all"),
    ("bench",),
    ("capacity", "--yes"),
    ("quality",),
    ("feedback",),
    ("usage",),
    ("alert", "test"),
    ("tls", "show"),
    ("tls", "self-signed", "--name", "no host"),
    ("connect", "dify"),
    ("connect", "fastgpt"),
    ("keys", "list"),
    ("keys", "create", "--name", "web", "--expires", "2020-01-01"),
    ("keys", "create", "--name", "web", "--networks", "x"),
    ("keys", "revoke", "nobody"),
    ("embed", "nowhere.txt", "-o", "out.parquet"),
    ("restore",),
    ("restore", "nowhere"),
)


@pytest.mark.parametrize("words", SPOKEN, ids=" ".join)
def test_a_command_leaves_no_english(place: Path, capsys: Output, words: tuple[str, ...]) -> None:
    text = run(capsys, *filter(None, words))
    assert HAN.search(text)
    assert english(text) == []


def test_a_bad_file_is_told_of_in_chinese(place: Path, capsys: Output) -> None:
    (place / "bad.toml").write_text(BAD)
    text = run(capsys, "check", "--config", str(place / "bad.toml"))
    assert english(text) == []
    assert len(text.splitlines()) >= 9
    assert "未知的键 'prot'" in text and "个错误" in text


def faults() -> Iterator[str]:
    """All that er.toml's reader says of what test_config.py gives it."""
    for name, value in vars(test_config).items():
        for mark in getattr(value, "pytestmark", []) if name.startswith("test_") else []:
            if mark.name != "parametrize" or tuple(mark.args[0]) != ("line", "wrong", "said"):
                continue
            for line, wrong, _ in mark.args[1]:
                lines = test_config.GOOD.splitlines()
                lines[line - 1] = wrong
                yield from (said for _, said in test_config.findings("\n".join(lines)))


def test_what_the_reader_says_of_each_fault_is_heard() -> None:
    cases = set(faults())
    assert len(cases) > 40
    for said in cases:
        assert english(chinese.in_chinese(f"er.toml:3: error: {said}")) == [], said


def test_a_key_from_its_making_to_its_end(place: Path, capsys: Output) -> None:
    """The secret stays as it is, a key's name too, even where it is a word of ER's."""
    made = run(capsys, "keys", "create", "--name", "usage")
    assert re.search(r"^    sk-er-k\w{8}-[\w-]{40,}$", made, re.MULTILINE)
    assert re.match(r"新密钥 k\w{8}（usage）。\n密文，只显示这一次", made)
    for words in (("list",), ("show", "usage"), ("rotate", "usage"), ("set", "usage")):
        text = re.sub(r"\bk\w{8}\b", "", run(capsys, "keys", *words))  # ids can be all letters
        assert english(text.replace("usage", "")) == [], words
        assert words == ("set", "usage") or words[0] == "rotate" or "usage" in text
    assert "已吊销" in run(capsys, "keys", "revoke", "usage")
    head, row = run(capsys, "keys", "list").splitlines()
    starts = [width(line[: line.index(word)]) for line, word in ((head, "状态"), (row, "已吊销"))]
    assert starts[0] == starts[1]


def test_a_name_that_is_a_word_is_no_word(place: Path) -> None:
    with chinese.speaking(CHINESE):
        rows = table(
            [("ID", "NAME", "STATE"), ("up", "usage", "○ stopped"), ("audit", "-", "never")]
        )
    assert [row.split() for row in rows] == [
        ["ID", "名称", "状态"],
        ["up", "usage", "○", "已停止"],
        ["audit", "-", "永不"],
    ]


def test_a_name_that_is_a_sentence_of_er_is_none(place: Path, capsys: Output) -> None:
    sentence = "No keys. Make one: sudo er keys create --name web"
    for name in ("NAME", "never", sentence):
        run(capsys, "keys", "create", "--name", name, "--team", "all")
    listed = run(capsys, "keys", "list").splitlines()
    assert listed[0].split()[1:4] == ["名称", "团队", "状态"]
    assert listed[1].split()[1:4] == ["NAME", "all", "有效"]
    assert re.search(f"  {sentence}  all +有效", listed[3])
    for name in ("NAME", "never"):
        shown = run(capsys, "keys", "show", name)
        assert f"名称        {name}\n" in shown and "团队        all\n" in shown


def test_where_a_new_replica_goes_is_said_in_chinese(place: Path, capsys: Output) -> None:
    add = ("replica", "add", "--model", "Qwen3-Embedding-0.6B", "--dry-run")
    assert re.search(r"^embedding-2: .* 的副本，端口 \d+$", run(capsys, *add, "--gpu", "cpu"), re.M)
    elsewhere = run(capsys, *add, "--url", "http://127.0.0.1:9")
    assert "embedding-2: Qwen3-Embedding-0.6B 的副本，地址 http://127.0.0.1:9\n" in elsewhere
    assert "现有：无" in run(capsys, "vllm", "use", "0.26.0")
    assert re.search(r"^合计 ", run(capsys, "usage"), re.M)


def test_the_form_of_a_command_is_typed_as_it_stands(
    place: Path, capsys: Output, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run(capsys, "replica", "set", "embedding", "--port", "x")
    assert re.search(r"^ +NAME$", said, re.M) and "用法：er replica set" in said


def test_a_diff_shows_comments_of_a_file_as_they_are(
    place: Path, capsys: Output, monkeypatch: Any
) -> None:
    """Also where a comment reads like one of ER's own sentences."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    file = place / "configuration/er.toml"
    own = "# note: nothing was changed; er.toml is as it was, nothing was applied"
    near = '[[replica]]\nname = "far"\nmodel = "Qwen3-Embedding-0.6B"\n'
    added = f'{near}url = "http://127.0.0.1:9"\n{own}\n'
    file.write_text(f"{file.read_text('utf-8')}\n{added}", "utf-8")
    assert chinese.in_chinese(own) != own
    text = run(capsys, "replica", "remove", "far", "--no-apply", "--dry-run")
    assert '-name = "far"' in text and "er.toml (改动之后)" in text
    assert own in text


def test_data_is_as_it_is_in_english(place: Path, capsys: Output, monkeypatch: Any) -> None:
    """--json, --csv, the manual in its own language, a report's page."""
    for words in (
        ("status", "--json"),
        ("check", "--json"),
        ("disk", "--json"),
        ("keys", "list", "--json"),
        ("usage", "--csv"),
        ("help", "keys", "--lang", "en"),
        ("report", "--lang", "en"),
    ):
        monkeypatch.setenv("LANG", "zh_CN.UTF-8")
        with contextlib.suppress(SystemExit):
            main(list(words))
        here = capsys.readouterr().out
        monkeypatch.setenv("LANG", "C.UTF-8")
        with contextlib.suppress(SystemExit):
            main(list(words))
        there = capsys.readouterr().out
        if words[-1] == "--json":
            assert type(json.loads(here)) is type(json.loads(there))
        assert not HAN.search(here.replace("嵌入", "")) or words[0] in ("help", "report")
        assert here.splitlines()[:2] == there.splitlines()[:2], words


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "C.UTF-8"},
        {"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"},
        {"LANG": "zh_CN.UTF-8", "TERM": "linux"},
    ],
    ids=str,
)
def test_another_locale_is_served_in_english(
    place: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    """Without any of this in between: what is printed goes to the stream itself."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with chinese.speaking(os.environ):
        assert not chinese.spoken() and not hasattr(sys.stdout, "_hear")
    assert run(capsys, "keys", "list") == "No keys. Make one: sudo er keys create --name web\n"


def shell(command: str, place: Path, **env: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **CHINESE, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_a_pipe_is_told_the_same_as_a_terminal_and_a_journal_english(place: Path) -> None:
    """The locale alone decides; a unit's output is the journal's, which is kept in English."""
    er = f"{sys.executable} -m er.cli keys list"
    said = "没有密钥。新建一个：sudo er keys create --name web\n"
    assert shell(f"{er} | cat", place) == said
    log = place / "log"
    whose = f"JOURNAL_STREAM=$(stat -Lc %d:%i /dev/stderr) {er} --bad; {er} 2>&1"
    shell(f"exec 2>{log}; {whose}", place)
    lines = log.read_text("utf-8").splitlines()
    assert lines[0] == "er: unrecognized arguments: --bad"


def test_a_daemon_speaks_chinese_to_a_person_alone(place: Path) -> None:
    """In a pipe, as under systemd or in a container, its words are English."""
    assert "no replica 'x'" in shell(f"{sys.executable} -m er.launcher x", place)
    told = shell(f"script -qec '{sys.executable} -m er.launcher x' /dev/null", place)
    assert "没有副本 'x'" in told and english(told.replace("ERR", "")) == []


# -- screens and streams -----------------------------------------------------------------------


def test_the_status_of_a_service_at_work_is_chinese(place: Path, capsys: Output) -> None:
    """Of an answer with everything in it."""
    golden = Path(__file__).parent / "golden/status.json"
    answer = json.loads(golden.read_text("utf-8").replace("has no other", "没有别的"))
    with chinese.speaking(CHINESE):
        print("\n".join(status.lines(answer)))
    text = capsys.readouterr().out
    assert english(text) == []
    assert all(word in text for word in ("网关", "流量", "本机", "正常"))


def test_a_line_goes_out_whole_and_a_prompt_at_once() -> None:
    """What comes in pieces is one line; a flush sends what there is; bytes keep their place."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    voice = chinese.Voice(stream, chinese.in_chinese)
    for piece in ("Nothing ", "to do: systemd ", "matches er.toml."):
        voice.write(piece)
    assert raw.getvalue() == b""
    voice.write("\n")
    voice.write("Go on? ")
    voice.flush()
    voice.write("No keys. Make one: sudo er keys create --name web")
    voice.buffer.write(b"\x00raw\n")
    assert raw.getvalue().decode() == (
        "无事可做：systemd 与 er.toml 一致。\n继续吗？ "
        "没有密钥。新建一个：sudo er keys create --name web\x00raw\n"
    )


def test_chinese_is_broken_by_cells() -> None:
    text = "另一个服务，密钥放在 ER_API_KEY（默认 gateway.sock，不用密钥）"
    lines = folded(text, 24)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(width(line) <= 26 for line in lines) and len(lines) > 2
    assert not any(line[0] in "，。；：、）" for line in lines)
    assert "gateway.sock" in "\n".join(lines)
