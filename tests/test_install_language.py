"""install.sh in Chinese: each message has its Chinese, and none is printed past the words."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parent.parent
WORDS, CHINESE = TOP / "etc/install/words.sh", TOP / "etc/install/zh.sh"
SHELL = [TOP / "install.sh", *sorted((TOP / "etc/install").glob("*.sh"))]
SPOKEN = [path for path in SHELL if path not in (WORDS, CHINESE)]
SAYING = ("say", "step", "stop", "wrong", "act", "complain", "word")
ENDS = ("\n", ";", ";;", "&", "&&", "|", "||", "(", ")", "{", "}")
BEFORE = ("!", "if", "elif", "while", "until", "then", "do", "else")
PASSED_ON = ('"$@"', '"${message[@]}"')  # in words.sh itself
# What these print other programs read: versions, names of folders and units, a count of bytes.
FOR_PROGRAMS = {
    *('echo "${ID:-}"', 'echo "${VERSION_ID:-}"', 'echo "${PRETTY_NAME:-$ID}"'),
    *('echo "$version-$hash"', "printf '%s' \"$said\"", "printf '%s\\n' \"$path\""),
    # packages; an option's value; a line to type; what apt reads
    *("printf '%s\\n' \"${want[@]}\"", "printf '%s\\n' \"$2\"", "printf '%s\\n' \"$line\""),
    *("printf -v source '%s; ' \"${parts[@]}\"", 'echo "$ID:$VERSION_ID"'),
    'echo "$about_head" >"$fetch/about"',
    'echo "deb [trusted=yes] file:$work/from/packages ./" >"$work/sources.list"',
    "printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "
    '"${deb##*/}" "$(stat -c %s "$deb")" "${sum%% *}"',
}


class Call(NamedTuple):
    """One `say …`: where, its format as written, and the values behind it."""

    place: str
    name: str
    format: str
    values: list[str]


def tokens(text: str) -> list[str]:
    """The words of a bash text, quotes kept, and what separates commands; without comments."""
    text = re.sub(r"<<-?'?(\w+)'?(.*?\n).*?^\1$", r"\2", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for token in WORD.finditer(text):
        comment = token[0].startswith("#")
        if token[0] == "\n" or (token[0].strip(" \t\\\n") and not comment):
            found.append(token[0])
    return found


NESTED = r"\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
PIECE = (
    rf"(?:'[^']*'|\"(?:{NESTED}|\\.|[^\"\\])*\"|{NESTED}"
    r"|\$\{[^}]*\}|\\.|[^\s;&|(){}'\"\\])"
)
WORD = re.compile(
    rf"(?<![^\s;&|(){{}}])#[^\n]*|\\\n|[ \t]+|\n|;;|&&|\|\||{PIECE}+|[;&|(){{}}]", re.DOTALL
)


def calls(path: Path) -> list[Call]:
    """Every call of SAYING in a file; one without a format is an empty line, and no message."""
    found = []
    words = tokens(path.read_text(encoding="utf-8"))
    for place, name in enumerate(words):
        behind = words[place + 1 : place + 2]
        before = words[place - 1] if place else "\n"
        if name not in SAYING or behind in (["("], []) or before not in (*ENDS, *BEFORE):
            continue
        rest = []
        for word in words[place + 1 :]:
            if word in ENDS or word == "--" or word.startswith(">&"):
                break
            rest.append(word)
        if name == "act":
            assert words[place + 1 + len(rest)] == "--", f"{path.name}: act {rest} without --"
        if rest and rest[0] not in PASSED_ON:
            found.append(Call(path.name, name, rest[0], rest[1:]))
    return found


def plain(written: str) -> str:
    """A quoted format as bash gives it on. Fails for one that isn't a plain literal."""
    assert written[0] in "'\"", f"a format is a literal, values follow it: {written}"
    assert written[0] == written[-1], written
    if written[0] == '"':
        assert not re.search(r"[$`\\]", written), f"a format has no values in itself: {written}"
    return written[1:-1]


def said() -> dict[str, str]:
    """The catalogue as bash has it."""
    script = f"""
        declare -A chinese; . {CHINESE}
        for key in "${{!chinese[@]}}"; do printf '%s\\0%s\\0' "$key" "${{chinese[$key]}}"; done
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    parts = done.stdout.decode().split("\0")[:-1]
    return dict(zip(parts[::2], parts[1::2], strict=True))


ALL = [call for path in SHELL if path != CHINESE for call in calls(path)]


def test_the_scan_finds_what_there_is() -> None:
    """More than a grep for the commonest would, with the values of each."""
    assert len(ALL) > 100
    assert {call.name for call in ALL} == set(SAYING)
    wanted = Call("machine.sh", "say", "'System: %s, %s'", ['"$name"', '"$(uname -m)"'])
    assert wanted in ALL
    several = [call for call in ALL if "\n" in call.format]
    assert len(several) > 10


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: path.name)
def test_each_format_has_its_values_and_its_chinese(path: Path) -> None:
    catalogue = said()
    for call in calls(path):
        english = plain(call.format)
        assert english.count("%s") == len(call.values) == english.count("%"), call
        if re.search(r"[A-Za-z]", english.replace("%s", "")):
            assert english in catalogue, f"{call.place}: {english!r} has no Chinese in zh.sh"


def test_the_catalogue_fits() -> None:
    """Same values, same lines' indents, nothing that is said no more, and it is Chinese."""
    known = {plain(call.format) for call in ALL}
    for english, chinese in said().items():
        assert english in known, f"no longer said: {english!r}"
        assert chinese.count("%s") == english.count("%s") == chinese.count("%"), english
        assert re.search(r"[\u4e00-\u9fff，；（]", chinese), english
        assert re.match(" *", chinese)[0] == re.match(" *", english)[0], english  # type: ignore[index]
        for code in re.findall(r"(?<!\w)--?[a-z-]+|/[a-z/.]+\b|\b[A-Z_]{4,}=", english):
            assert code in chinese, (english, code)


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: path.name)
def test_nothing_is_printed_past_the_words(path: Path) -> None:
    """`echo` and `printf` are for what other commands read."""
    for line in tokens_by_command(path):
        if line.split()[0] in ("echo", "printf"):
            assert line in FOR_PROGRAMS, f"{path.name}: {line}"


def tokens_by_command(path: Path) -> list[str]:
    lines: list[list[str]] = [[]]
    for word in tokens(path.read_text(encoding="utf-8")):
        if word in ENDS or word in BEFORE:
            lines.append([])
        else:
            lines[-1].append(word)
    return [" ".join(line) for line in lines if line]


def test_the_demos_words_have_their_chinese() -> None:
    """demo_requests.py runs alone; its catalogue is within it."""
    demo = runpy.run_path(str(TOP / "etc/install/demo_requests.py"))
    source = (TOP / "etc/install/demo_requests.py").read_text(encoding="utf-8")
    asked = set(re.findall(r'\bsaid\(\s*"([^"]+)"', source))
    assert asked == set(demo["CHINESE"]) and len(asked) >= 4
    for english, chinese in demo["CHINESE"].items():
        assert sorted(re.findall(r"\{.*?\}", english)) == sorted(re.findall(r"\{.*?\}", chinese))


def run(*options: str, **env: str) -> str:
    done = subprocess.run(
        ["bash", str(TOP / "install.sh"), *options],
        env={"PATH": os.environ["PATH"], "HOME": "/root"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("env", "chinese"),
    [
        ({}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN"}, True),
        ({"LANG": "zh_TW.utf8"}, True),
        ({"LANG": "zh_CN.GB18030"}, False),
        ({"LANG": "zh_CN.UTF-8", "TERM": "linux"}, False),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
    ],
    ids=str,
)
def test_the_language_is_the_locales(env: dict[str, str], chinese: bool) -> None:
    said = run("--nope", **env)
    english = "install.sh: no option --nope\nTry ./install.sh --help\n"
    assert said == (
        "install.sh: 没有选项 --nope\n用法见：./install.sh --help\n" if chinese else english
    )


def test_help_has_the_same_options_in_both() -> None:
    english, chinese = run("--help"), run("--help", LANG="zh_CN.UTF-8")
    names = re.findall(r"^  (--[a-z-]+) ", english, re.MULTILINE)
    assert len(names) >= 9
    assert re.findall(r"^  (--[a-z-]+) ", chinese, re.MULTILINE) == names
    assert "要英文" in chinese


def test_a_dry_run_leaves_no_english() -> None:
    """What this machine is, and all of a removal; names, paths and code apart."""
    for options in (("--dry-run", "--demo"), ("--dry-run", "--uninstall", "--purge")):
        said = run(*options, LANG="zh_CN.UTF-8")
        assert re.search(r"[\u4e00-\u9fff]", said)
        for line in said.splitlines():
            bare = re.sub(r"[\w./-]*[./-][\w./-]*|\bpid \d+|\([^)]*\)", "", line)
            assert not re.search(r"\b[a-z]{3,} [a-z]{3,}\b", bare), line
