"""The manual in Chinese says what the English one says: page by page, row by row, code by code."""

from __future__ import annotations

import re
from itertools import zip_longest

import pytest

from er.cli import manual
from er.cli.__main__ import main
from er.cli.screen import width
from test_readme import spoken

ENGLISH, CHINESE = manual.pages("en"), manual.pages("zh")
each_page = pytest.mark.parametrize("name", sorted(ENGLISH))
CODES = re.compile(r"^\| (\d{3} \| [a-z_, ]+) \|", re.MULTILINE)  # a refusal's, in order
LISTED = re.compile(r"^- ", re.MULTILINE)


def code_lines(text: str) -> list[str]:
    """Of fenced and indented blocks: the code, without comments and without what is told behind.

    What one language tells over more lines than the other is no code: lines that begin far in.
    """
    found, fenced = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            found.append(line)
        elif fenced or (line.startswith("    ") and not line.startswith(" " * 16)):
            bare = re.sub(r"(\S)(?:\s+#.*|  +.*)$", r"\1", line).strip()
            found.append("" if bare.startswith("#") else bare)
    return [line for line in found if line]


def shape(text: str) -> list[int]:
    """The headings' levels and the tables' rows (the number of their cells), in order."""
    return [
        -len(line.split()[0]) if line.startswith("#") else line.replace("\\|", "").count("|")
        for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines()
        if line.startswith(("#", "|"))
    ]


def test_every_page_is_in_both_languages() -> None:
    assert set(ENGLISH) == set(CHINESE) and len(ENGLISH) >= 27


@each_page
def test_a_page_has_the_same_parts(name: str) -> None:
    """Headings and tables, code, and each `piece of code` in the text."""
    english, chinese = ENGLISH[name], CHINESE[name]
    for one, other in zip_longest(code_lines(english), code_lines(chinese)):
        assert one == other
    assert shape(english) == shape(chinese)
    assert set(spoken(english)) == set(spoken(chinese))
    assert CODES.findall(english) == CODES.findall(chinese)
    assert len(re.findall(r"^[*-] |^\d\. ", english, re.MULTILINE)) == len(
        re.findall(r"^[*-] |^\d\. ", chinese, re.MULTILINE)
    )


@each_page
def test_a_page_has_the_same_figures(name: str) -> None:
    """No number is told in one language alone."""
    told = [set(re.findall(r"\d[\d,.]*\d|\d", text)) for text in (ENGLISH[name], CHINESE[name])]
    assert told[0] ^ told[1] == set()


@each_page
def test_a_page_reads_on_a_terminal(name: str) -> None:
    """A heading that the list shows in 80 cells; lines of at most 110, of applications of 80."""
    most = 80 if name in manual.APPLICATIONS else 110
    text = CHINESE[name]
    assert re.match(r"# \S.*[：、]", text) and width(text.splitlines()[0]) <= 66
    long = [
        line for line in text.splitlines() if width(line) > most and not line.startswith(("|", " "))
    ]
    assert long == []


def test_the_faults_acted_out_are_the_same_in_both() -> None:
    """Each row: what a client may see, and the time; in the order of the English list."""

    def rows(text: str, client: str, within: str) -> list[tuple[set[str], str]]:
        listed = [part.replace("\n  ", " ") for part in LISTED.split(text)[1:]]
        return [
            (set(re.findall(r"\d{3}(?: [a-z_]+\b)?", row.split(client)[1].split(within)[0])), row)
            for row in listed
        ]

    english = rows(ENGLISH["faults"], "client:", "heals:")
    chinese = rows(CHINESE["faults"], "客户端：", "恢复：")
    assert len(english) == len(chinese) >= 18
    for (seen, row), (said, line) in zip(english, chinese, strict=True):
        assert {s.split()[0] for s in seen} == {s.split()[0] for s in said}, line
        assert row.split("within: ")[1].strip() == line.split("用时：")[1].strip(), line


# -- how the language is chosen ----------------------------------------------------------------


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, **env: str
) -> str:
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    assert main(["help", *words]) == 0
    return capsys.readouterr().out


def test_the_language_is_that_of_the_locale_or_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    english, chinese = ENGLISH["bench"], CHINESE["bench"]
    for env, want in (
        ({}, english),
        ({"LANG": "zh_CN.UTF-8"}, chinese),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, english),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW.UTF-8"}, chinese),
        ({"LANG": "zh_CN.UTF-8", "TERM": "linux"}, english),
    ):
        assert shown(monkeypatch, capsys, "bench", **env) == want, env
    assert shown(monkeypatch, capsys, "bench", "--lang", "zh", LANG="en_US.UTF-8") == chinese
    assert shown(monkeypatch, capsys, "bench", "--lang", "en", LANG="zh_CN.UTF-8") == english
    said = shown(monkeypatch, capsys, "bench", "--lang", "zh", TERM="linux")
    assert said == manual.WORDS["en"]["no terminal"] + "\n" + english


def test_the_list_is_in_chinese_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, capsys, "--lang", "zh")
    assert text.startswith("手册") and "快速开始" in text
    assert set(re.findall(r"^  (\S+) ", text, re.MULTILINE)) == set(ENGLISH)
    assert all(width(line) <= 80 for line in text.splitlines())


def test_a_page_without_translation_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In place of an error: the English page under a line."""
    known = {"en": {"new": "# New: a page\n"} | ENGLISH, "zh": CHINESE}
    monkeypatch.setattr(manual, "pages", lambda language="en": known[language])
    text = shown(monkeypatch, capsys, "new", "--lang", "zh")
    assert text == manual.WORDS["zh"]["no page"] + "\n# New: a page\n"
    assert "new            New: a page" in shown(monkeypatch, capsys, "--lang", "zh")
