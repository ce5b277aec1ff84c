"""Values of an er.toml that no struct may hold: a finding on their own line, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from er.config import Config, ConfigError, Finding, load, parse

TOML = """[gateway]
listen = ["0.0.0.0:2048"]
[[model]]
name = "m"
task = "embed"
path = "/m"
[[replica]]
name = "r"
model = "m"
gpu = 0
port = 8000
"""
REMOTE = TOML.replace("gpu = 0\nport = 8000", 'url = "http://h:8000"')


def findings(text: str) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("er.toml"))
    return caught.value.findings


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        (TOML, "0.0.0.0:2048", "0.0.0.0:²", "a port is a number from 1 to 65535"),
        (TOML, "[gateway]", '[gateway]\ntimeout = "999999d"', "it must be from 0.1 s to 86400 s"),
        (TOML, '"/m"', '"/m\\u0000"', "path has a NUL character in it"),
        (TOML, '"m"', '"m\\u0000"', "name has a NUL character in it"),
        (TOML, "gpu = 0", 'gpu = 0\nargs = ["a\\u0000"]', "args has a NUL character in it"),
        (TOML, "gpu = 0", 'gpu = 0\nenv = { "A=B" = "x" }', "env has 'A=B'; a variable's name"),
        (TOML, "gpu = 0", 'gpu = 0\nenv = { A = "\\u0000" }', "env has a NUL character in it"),
        (REMOTE, "http://h:8000", "http://[::1", "write http://HOST:PORT"),
        (REMOTE, "http://h:8000", "http://h:99999", "write http://HOST:PORT"),
        (REMOTE, "http://h:8000", "http://h:8000?a=b", "write http://HOST:PORT"),
        (REMOTE, "http://h:8000", "http://me:secret@h:8000", "has a user or password in it"),
    ],
)
def test_what_no_program_can_be_given_is_found(text: str, old: str, new: str, said: str) -> None:
    changed = text.replace(old, new, 1)
    found = findings(changed)
    assert said in found[0].message
    key = found[0].message.split()[0]
    assert changed.splitlines()[found[0].line - 1].startswith(key)
    assert "secret" not in found[0].message


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_numbers_and_nesting_beyond_measure_are_no_toml(value: str) -> None:
    assert "not TOML" in findings(f"x = {value}")[0].message


def test_the_mark_that_some_editors_put_first_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "er.toml"
    path.write_text("\ufeff" + TOML, encoding="utf-8")
    loaded: Config = load(path)
    assert loaded.replicas[0].name == "r"
