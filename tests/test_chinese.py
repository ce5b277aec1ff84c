"""What ER says on a terminal has its Chinese: each text of the source, and what is made of several.

The source is read for literals and f-strings (said.py). Each is filled in and heard as it would be
on a terminal; no English words may be left but those that the catalogue itself leaves: names,
commands, code. What is no text for people, and what is only a piece of a sentence, is listed below.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from er import chinese, first_config
from er.capacity import words as capacity_words
from er.chinese.commented import commented
from er.chinese.hearing import HOLE, WORD
from er.cli import registered
from er.cli.__main__ import OVERVIEW, parser
from said import Said, said
from said_exempt import CODE, NOT_SAID, PIECES

TOP = Path(__file__).parent.parent / "daemon/er"
# Whatever prints, and what makes the findings, reasons and refusals that are printed.
SCANNED = (
    *("cli", "config", "units", "keys", "status", "backup", "quality", "pull", "engine/build.py"),
    *("engine/checks.py", "engine/keeper.py", "engine/log.py", "engine/watch.py", "alert/send.py"),
    *("alert/shapes.py", "capacity/result.py", "capacity/watch.py", "usage/report.py"),
    *("tls/context.py", "tls/credentials.py", "tls/facts.py", "tls/made.py", "exam.py"),
    *("first_config.py", "gpus.py", "launcher.py", "model_files.py", "moments.py", "ports.py"),
    *("quantities.py", "supervisor/opening.py", "members/roll.py", "shared_state"),
)
FUNCTION_WORDS = frozenset(
    (
        *("a", "an", "the", "is", "are", "was", "were", "be", "of", "in", "at", "to", "for"),
        *("with", "by", "from", "and", "or", "not", "no", "it", "its", "this", "that", "which"),
        *("who", "what", "when", "where", "while", "as", "than", "then", "there", "has", "have"),
        *("had", "can", "may", "must", "so", "but", "they", "them", "their", "one", "other"),
    )
)
NUMBERS = [str(n) for n in (17, 23, 31, 47, 59, 61, 73, 83)] * 3
MARKS = [f"‹{n}›" for n in range(24)]


def files(name: str) -> list[Path]:
    return sorted((TOP / name).glob("*.py")) if (TOP / name).is_dir() else [TOP / name]


ALL = [one for name in SCANNED for path in files(name) for one in said(path, TOP)]
LEFT = {word for text in chinese.catalogue().values() for word in WORD.findall(text)}


def for_people(one: Said) -> bool:
    """Whether it looks like words at all: several of them, with a blank between."""
    text = one.text.strip()
    if re.search(r"\\[()\[d.bs]|\.[*+]|\w\|\w|\|No ", text) or text.startswith("import "):
        return False  # a pattern, a program
    return len(WORD.findall(text.replace("{}", " "))) > 0 and bool(
        re.search(r"[A-Za-z{}] \S|\S [a-z]", text)
    )


def filled(text: str, values: list[str]) -> str:
    left = iter(values)
    return re.sub(r"\{\}", lambda _: next(left), text)


def english_left(text: str) -> list[str]:
    """The English words in the Chinese of a text, at best; a finding's has its key in front."""
    best: list[str] | None = None
    for values in (NUMBERS, MARKS, ["failed"] * 24):
        for before in ("", "x1 "):
            heard = chinese.in_chinese(before + filled(text, values))
            words = [w for w in WORD.findall(heard) if w not in LEFT and w not in CODE]
            if best is None or len(words) < len(best):
                best = words
    return best or []


def test_the_catalogue_leaves_names_and_code_alone() -> None:
    """What English is left in the Chinese is no sentence; else the scan would let anything pass."""
    assert not LEFT & FUNCTION_WORDS
    assert len(chinese.catalogue()) > 1000


@pytest.mark.parametrize("name", SCANNED)
def test_each_text_of_the_source_has_its_chinese(name: str) -> None:
    missing = [
        f"{one.place}: {one.text!r}"
        for path in files(name)
        for one in said(path, TOP)
        if for_people(one)
        and one.text not in NOT_SAID
        and one.text not in (*PIECES, OVERVIEW)
        and english_left(one.text)
    ]
    assert missing == []


def test_no_exemption_outlives_its_text() -> None:
    """The lists name what is there, and nothing that has its Chinese by now."""
    there = {one.text for one in ALL}
    assert [text for text in (*NOT_SAID, *PIECES) if text not in there] == []


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_a_piece_is_heard_where_it_stands(piece: str) -> None:
    """In each whole sentence that the list gives for it."""
    for whole in PIECES[piece]:
        parts = [part.strip(" ,;.()\n") for part in piece.split("{}")]
        assert all(part in whole for part in parts), whole
        assert english_left(whole) == [], chinese.in_chinese(filled(whole, NUMBERS))


def test_a_template_has_its_values_in_both() -> None:
    for english, said_ in chinese.catalogue().items():
        holes = [hole for hole in HOLE.findall(english) if hole != "s"]
        there = HOLE.findall(said_)
        numbered = {int(hole) for hole in there if hole}
        assert numbered in (set(), set(range(len(holes)))), english
        assert numbered or len(there) == len(holes), english
        assert not (numbered and "" in there), english


def test_no_template_stands_twice() -> None:
    """One sentence, one Chinese, whichever file it is in; comments of er.toml are apart."""
    found: dict[str, str] = {}
    for path in sorted(set((TOP / "chinese").glob("*.py")) - {TOP / "chinese/comments.py"}):
        for key in re.findall(r'^    "((?:[^"\\]|\\.)*)": ', path.read_text("utf-8"), re.MULTILINE):
            assert key not in found, f"{key!r} in {path.name} and {found[key]}"
            found[key] = path.name


def test_advice_on_capacity_is_heard() -> None:
    """It has its own Chinese for the report; on a terminal it is heard as the rest is."""
    for english, _ in capacity_words.ADVICE.values():
        text = re.sub(r"\{\w+:\.0%\}", "45%", re.sub(r"\{\w+:\.1%\}", "4.5%", english))
        assert english_left(re.sub(r"\{[^}]*\}", "12", text)) == [], english


def test_the_comments_of_a_new_er_toml_are_heard() -> None:
    """Every one; and what the file sets is the same."""
    shipped = (TOP.parent.parent / "etc/er.toml").read_text("utf-8")
    notes, where = first_config.choose([])
    for made in (shipped, first_config.render(shipped, notes, where, 1)):
        here = commented(made, chinese.comment)
        assert tomllib.loads(here) == tomllib.loads(made)
        assert here.endswith("\n") and here.count("[[") == made.count("[[")
        for line in here.splitlines():
            words = line.rpartition("# ")[2] if "# " in line else ""
            if " = " in words or words.startswith(("[", "!")):
                continue
            bare = re.sub(r"\"[^\"]*\"|`[^`]*`|\[[^\]]*\]", "", words)
            assert [w for w in WORD.findall(bare) if w not in LEFT | CODE] == [], line


# -- the command line --------------------------------------------------------------------------


def parsers(one: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield one
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def test_each_line_of_the_overview_is_heard() -> None:
    for line in OVERVIEW.format(version="9", registered=registered.overview()).splitlines():
        assert english_left(line) == [], line


def test_the_help_of_every_command_and_option_is_heard() -> None:
    """As argparse has it, with defaults filled in."""
    for one in parsers(parser()):
        texts = [one.description or ""]
        texts += [a.help for a in one._actions if a.help and a.help != argparse.SUPPRESS]
        for text in texts:
            assert english_left(text) == [], (one.prog, text, chinese.in_chinese(text))


@pytest.mark.parametrize(
    ("english", "chinese_"),
    [
        (
            "er.toml:3: error: unknown key 'prot'; did you mean 'port'?",
            "er.toml:3: 错误：未知的键 'prot'；是不是 'port'？",
        ),
        (
            "x   replica a: failed: vLLM was killed (SIGKILL; by the kernel when memory ran out? "
            "see journalctl -k)",
            "x   副本 a：失败：vLLM 被杀死（SIGKILL；内存耗尽被内核杀死？见 journalctl -k）",
        ),
        (
            "replica reranker is starting: loading weights 3/9 (attempt 2)",
            "副本 reranker 启动中：加载权重 3/9（第 2 次尝试）",
        ),
        ('{"status": "ok", "reason": "up"}', '{"status": "ok", "reason": "up"}'),
        ("something that nobody wrote", "something that nobody wrote"),
        ("two lines\nof it", "two lines\nof it"),
        ("/m: no such folder; put the model's files there", "/m：没有此目录；请把模型文件放到那里"),
    ],
)
def test_sentences_within_sentences(english: str, chinese_: str) -> None:
    """Holes are heard in their turn, names are not, and what is unknown stays as it is."""
    assert chinese.in_chinese(english) == chinese_
