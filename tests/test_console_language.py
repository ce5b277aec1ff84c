"""The console's languages: every sentence in each, the same fields in it, and how one is chosen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from er_console import chinese, looks
from er_console.language import FIELD, count, heard, say, speak, spoken, wanted

ROOT = Path(__file__).parents[1] / "tui/er_console"
# How many of a call's first arguments are sentences.
SENTENCES = {"say": 1, "noted": 1, "count": 3}


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    """The language is the process's: no test leaves another one behind."""
    yield
    speak("en")


def sentences() -> dict[str, str]:
    """Every literal that is said, with the place of one call; what is not a literal fails."""
    found = dict.fromkeys(looks.STATES, "looks.STATES")
    for path in ROOT.rglob("*.py"):
        if path.name == "language.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            for argument in node.args[: SENTENCES.get(node.func.id, 0)]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found[argument.value] = f"{path.name}:{argument.lineno}"
    return found


def test_every_sentence_is_in_the_catalogue_and_nothing_else() -> None:
    """None is missing, none is left over from a sentence that was changed."""
    said = sentences()
    missing = {text: place for text, place in said.items() if text not in chinese.WORDS}
    assert not missing
    assert not set(chinese.WORDS) - set(said)


def test_no_sentence_stands_in_two_catalogue_files() -> None:
    """One place for each."""
    assert sum(len(room.WORDS) for room in chinese.ROOMS) == len(chinese.WORDS)


@pytest.mark.parametrize("catalogue", [chinese.WORDS, chinese.HEARD], ids=["said", "heard"])
def test_the_same_fields_stand_in_both_languages(catalogue: dict[str, str]) -> None:
    """A field that is lost is a fact that is lost; one too many would stand there in braces."""
    for english, chinese_words in catalogue.items():
        assert set(FIELD.findall(english)) >= set(FIELD.findall(chinese_words)), english
        lost = set(FIELD.findall(english)) - set(FIELD.findall(chinese_words))
        assert not lost, f"{english}: {lost}"


def test_say_fills_in_and_chooses_the_language() -> None:
    """The same call, both languages; a field that is not given stays as it is."""
    assert say("up") == "up" and spoken() == "en"
    speak("zh")
    assert say("up") == "正常" and spoken() == "zh"
    assert say("{a} and {b}", a=1) == "1 and {b}"
    assert count(1, "{n} thing", "{n} things") == "1 thing"
    assert count(2, "{n} thing", "{n} things") == "2 things"
    with pytest.raises(ValueError, match="fr"):
        speak("fr")


def test_what_others_say_is_understood_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields are carried over, and translated in their turn; the unknown stays as it is."""
    known = {
        "not enough GPU memory: {wanted} wanted": "显存不足: 需要 {wanted}",
        "not enough {what}": "{what}不足",
        "last time: {reason}": "上次: {reason}",
    }
    monkeypatch.setattr(chinese, "HEARD", known)
    assert heard("not enough GPU memory: 6 GiB wanted") == "not enough GPU memory: 6 GiB wanted"
    speak("zh")
    assert heard("last time: not enough GPU memory: 6 GiB wanted") == "上次: 显存不足: 需要 6 GiB"
    assert heard("something new") == "something new"
    assert heard("") == ""


@pytest.mark.parametrize(
    ("environment", "asked", "ascii_only", "found"),
    [
        ({"LANG": "zh_CN.UTF-8"}, None, False, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, None, False, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW.UTF-8"}, None, False, "zh"),
        ({"LANG": "en_US.UTF-8"}, "zh", False, "zh"),
        ({"LANG": "zh_CN.UTF-8"}, "en", False, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh", True, "en"),
        ({"LANG": "de_DE.UTF-8"}, None, False, "en"),
        ({}, None, False, "en"),
        ({"LC_ALL": "", "LANG": "zh_CN"}, None, False, "zh"),
    ],
)
def test_the_language_is_chosen_as_locales_are(
    environment: dict[str, str], asked: str | None, ascii_only: bool, found: str
) -> None:
    """--lang, then LC_ALL, LC_MESSAGES, LANG; a terminal without the letters gets English."""
    assert wanted(environment, asked, ascii_only=ascii_only) == found
