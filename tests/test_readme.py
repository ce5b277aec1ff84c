"""Both READMEs are true: what they show works, what they name is there, and they say the same."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from er import config
from er.cli import __main__ as cli
from er.gateway.exchange import Note, Request
from fakes import EngineProcess
from running import Gateway, model_folder

TOP = Path(__file__).parent.parent
READMES = {
    name: (TOP / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
}
MANUAL = cli.pages()
SHIPPED = config.load(TOP / "etc/er.toml")
EMBED, RERANK = "Qwen3-Embedding-0.6B", "Qwen3-Reranker-0.6B"
DIMENSIONS = 1024

each_readme = pytest.mark.parametrize("text", READMES.values(), ids=READMES)
each_page = pytest.mark.parametrize(
    "text", [*READMES.values(), *MANUAL.values()], ids=[*READMES, *MANUAL]
)


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of that kind, without the indentation of a list."""
    found = re.findall(rf"^( *)(?:\d\. )?```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^ {1,3}(?=\S)", "", body, flags=re.MULTILINE) for _, body in found]


def spoken(text: str) -> list[str]:
    """Every `piece of code` in running text and tables."""
    bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", bare)


def command_lines(lines: Iterable[str]) -> Iterator[list[str]]:
    """The words of every `er …` command in them."""
    for line in lines:
        for part in re.split(r" && |; |\|", re.sub(r"\s+#.*|  .*", "", line)):
            found = re.match(r"(?:sudo )?er ((?:[a-z]|--).*)", part.strip())
            if found:
                yield found[1].replace("…", "x").split()


# -- what is named is there --------------------------------------------------------------------


@each_page
def test_every_command_is_understood(text: str) -> None:
    """By the parser of `er` itself; running text may name a command without what it needs."""
    shown = re.findall(r"^ *((?:sudo )?er [a-z].*)$", text, re.MULTILINE)
    for words in command_lines(shown):
        assert parses(words) is None, words
    for words in command_lines(spoken(text)):
        assert parses(words) is None or parses([*words, "--help"]) == 0, words
        if words[0] == "help":
            assert set(words[1:]) <= {*MANUAL, "TOPIC"}, words


def parses(words: list[str]) -> int | str | None:
    """None, or with what the parser ended."""
    try:
        cli.parser().parse_args(words)
    except SystemExit as end:
        return end.code
    return None


@each_readme
def test_install_sh_has_the_options(text: str) -> None:
    """All that are named, and all of its own are named."""
    said = subprocess.run(
        ["bash", str(TOP / "install.sh"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    there = set(re.findall(r"^  (--[a-z-]+)", said, re.MULTILINE))
    line = re.compile(r"install\.sh((?: --[a-z-]+)+)")
    named = {option for found in line.findall(text) for option in found.split()}
    assert named - {"--help"} <= there, named - there
    assert not {option for option in there - {"--help"} if option not in text}


@each_readme
def test_links_and_files_are_there(text: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (TOP / target).exists(), target
    for name in ("tests/run", "install.sh"):
        assert name in text and (TOP / name).exists()


@each_readme
def test_codes_and_audit_fields_are_the_code_s(text: str) -> None:
    for code in re.findall(r"^\| [45]\d\d `(\w+)`", text, re.MULTILINE):
        assert f"{code}" in MANUAL["api"], code
    scope = {"method": "GET", "raw_path": b"/", "query_string": b"", "headers": []}
    record = Note(Request.asgi(scope, None)).record()  # type: ignore[arg-type]
    for field in re.findall(r"\b([A-Z]+_?[A-Z]+)=", text):
        assert field in record or field == "ER_KEY" or field == "ER", field


def test_both_times_are_told() -> None:
    """How long the demo and all tests took, in each language."""
    english, chinese = READMES.values()
    assert re.search(r"the demo took \d+ minutes\s+and\s+all tests about \d+", english)
    assert re.search(r"演示用时 \d+ 分钟，全部测试约 \d+ 分钟", chinese)


# -- what is shown works -----------------------------------------------------------------------


@each_readme
def test_its_er_toml_is_the_shipped_one(text: str) -> None:
    """Value by value; the second model and replica are left out for brevity."""
    (body,) = blocks(text, "toml")
    shown = config.parse(body, Path("er.toml"))
    assert shown.gateway == SHIPPED.gateway
    assert shown.models == SHIPPED.models[:1]
    assert shown.replicas == SHIPPED.replicas[:1]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The two shipped models by name, on stand-in engines of the true width."""
    folder = tmp_path_factory.mktemp("readme")
    one = EngineProcess(dim=DIMENSIONS, name=EMBED)
    two = EngineProcess(task="classify", name=RERANK)
    with one, two:
        running = Gateway(folder, [one])
        path = str(model_folder(folder / "wide", limit=8192, dimensions=DIMENSIONS))
        running.models = [
            {"name": EMBED, "task": "embed", "path": path},
            {"name": RERANK, "task": "score", "path": path},
        ]
        running.replicas = [
            {"name": "embedding", "model": EMBED, "url": one.address},
            {"name": "reranker", "model": RERANK, "url": two.address},
        ]
        try:
            running.start()
            running.wait_for("replica reranker answers right")
            running.wait_for("replica embedding answers right")
            yield running
        finally:
            running.kill()


def requests(text: str) -> list[str]:
    """Every curl command of a text, with the lines that it goes on in."""
    lines = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"^\s*(curl (?:[^'\n]|'[^']*')*)$", lines, re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for line in found]


def test_the_texts_have_requests() -> None:
    """So that the next test can't pass by finding none."""
    assert [len(requests(text)) for text in READMES.values()] == [7, 7]
    pages = {name: len(requests(text)) for name, text in MANUAL.items()}
    assert {name: count for name, count in pages.items() if count} == {
        "api": 1,
        "feedback": 2,
        "operating": 2,
        "quickstart": 2,
        "recipes": 2,
        "vectors": 1,
    }


@each_page
def test_every_curl_command_gets_its_answer(text: str, gateway: Gateway) -> None:
    """As bash reads it, at this gateway's address and with its key."""
    for command in requests(text):
        address = f"http://127.0.0.1:{gateway.port}"
        line = re.sub(r"http://(127\.0\.0\.1|localhost):2048", address, command)
        line = line.replace("/run/er/", f"{gateway.runtime}/")
        script = f"ER={address} ER_KEY={gateway.key}\n{line} -sS -w '\\n%{{http_code}}'"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
        answer, _, code = done.stdout.rpartition("\n")
        assert code == "200", (command, answer, done.stderr)
        if '"dimensions": 512' in command:
            assert [len(row["embedding"]) for row in json.loads(answer)["data"]] == [512, 512]
        if '"top_n": 1' in command:
            (row,) = json.loads(answer)["results"]
            assert row["document"]["text"]


# -- both languages say the same ---------------------------------------------------------------

TRANSLATED = {"主机": "HOST", "名称": "NAME", "用户名": "NAME", "（": "(", "）": ")"}


def plain(code: str) -> str:
    for chinese, english in TRANSLATED.items():
        code = code.replace(chinese, english)
    return code


def test_both_name_the_same_things() -> None:
    """Commands, paths, settings, codes and fields."""
    english, chinese = ({plain(c) for c in spoken(text)} for text in READMES.values())
    assert english == chinese


def test_both_show_the_same_blocks() -> None:
    """Line by line, but for comments and the example texts."""

    def bare(text: str) -> list[str]:
        lines = "\n".join(b for kind in ("sh", "toml") for b in blocks(text, kind)).splitlines()
        code = [re.sub(r"\s*#.*", "", line) for line in lines]
        return [re.sub(r'"[^"]*"', '""', line) for line in code if line]

    english, chinese = map(bare, READMES.values())
    assert english == chinese


def test_both_have_the_same_parts() -> None:
    """Headings, table rows, steps."""
    for pattern in (r"^## ", r"^\| ", r"^\d\. "):
        counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in READMES.values()]
        assert counts[0] == counts[1], pattern
