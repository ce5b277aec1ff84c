"""Edits of er.toml's text: they mean what was meant, and all else stands as it stood."""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from er import first_config
from er.config import edits, parse
from er.config.edits import EditError

TOP = Path(__file__).parent.parent
SHIPPED = (TOP / "etc/er.toml").read_text(encoding="utf-8")
NEW = {"name": "new", "model": "m", "gpu": [0, 1], "port": 8009, "kv_cache": "6GiB"}
MORE = {"args": ("--x", "a\"b'"), "env": {"A": "b c", "é": "\\"}}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def comments(text: str) -> Counter[str]:
    return Counter(line.strip() for line in text.split("\n") if line.lstrip().startswith("#"))


def subsequence(part: str, whole: str) -> bool:
    """Whether all lines of `part` stand in `whole`, in that order; line ends and a mark aside."""
    part, whole = (text.removeprefix("\ufeff") for text in (part, whole))
    rest = iter(line.rstrip("\r\n") for line in lines(whole))
    return all(line.rstrip("\r\n") in rest for line in lines(part))


# -- the shipped file --------------------------------------------------------------------------


def test_one_more_replica_in_the_shipped_file() -> None:
    """Behind the last one and before the words that follow it; written as that one is."""
    values = {"name": "embedding-2", "model": "Qwen3-Embedding-0.6B", "gpu": 1, "port": 8002}
    text = edits.add(SHIPPED, "replica", values)
    added = [line[2:] for line in difflib.ndiff(lines(SHIPPED), lines(text)) if line[0] == "+"]
    assert "".join(added) == (
        '[[replica]]\nname = "embedding-2"\nmodel = "Qwen3-Embedding-0.6B"\ngpu = 1\n'
        "port = 8002\n\n"
    )
    assert text.index("embedding-2") < text.index("# More replicas on a card")
    assert parse(text, Path("er.toml")).replicas[-1].name == "embedding-2"
    assert edits.remove(text, "replica", "embedding-2") == SHIPPED


def test_the_shipped_file_s_tables_go_with_what_is_theirs_alone() -> None:
    """A model's settings behind a # go with it; the words for all replicas stay."""
    text = edits.remove(SHIPPED, "replica", "reranker")
    assert "# More replicas on a card" in text and '"reranker"' not in text
    for name in ("embedding", "reranker"):
        shorter = edits.remove(SHIPPED, "replica", name)
        assert comments(shorter) == comments(SHIPPED)
    text = edits.remove(edits.remove(SHIPPED, "replica", "embedding"), "model", MODEL)
    assert "the task sentence for queries" not in text and "# token_ids" not in text
    assert "# Who is told when something lasts" in text and "[[alert]]" in text
    assert "\n\n\n" not in text


MODEL = "Qwen3-Embedding-0.6B"


@pytest.mark.parametrize("many", [None, 0, 1, 2])
def test_the_files_that_an_installation_makes(many: int | None) -> None:
    """For no vLLM, the CPU, one card, two: whatever is added goes again without a trace."""
    notes, where = first_config.choose(
        [first_config.Card(i, "H200", 141 << 30, 0) for i in range(many or 0)]
    )
    text = first_config.render(SHIPPED, notes, {} if many is None else where, None)
    after = edits.add(text, "replica", NEW)
    assert tomllib.loads(after)["replica"][-1] == NEW and not comments(text) - comments(after)
    assert edits.remove(after, "replica", "new") == text
    longer = edits.add(text, "model", {"name": "m", "task": "embed", "path": "/m"})
    assert edits.remove(longer, "model", "m") == text


def test_values_change_on_their_line() -> None:
    """The comment behind stays where it is; a line that goes with a comment stays as one."""
    text = edits.change(SHIPPED, "replica", "embedding", {"port": 9000, "gpu": "cpu"})
    assert 'gpu = "cpu"\nport = 9000                      # on loopback\n' in text
    text = edits.change(
        SHIPPED, "replica", "embedding", {"gpu_memory_utilization": None, "kv_cache": "6GiB"}
    )
    assert "# gpu_memory_utilization = 0.90    # of the card's total" in text
    assert '\nkv_cache = "6GiB"\n' in text
    text = edits.change(SHIPPED, "replica", "reranker", {"gpu_memory_utilization": None})
    assert len(lines(text)) == len(lines(SHIPPED)) - 1
    assert edits.change(SHIPPED, "replica", "reranker", {"port": 8001}) == SHIPPED


# -- forms -------------------------------------------------------------------------------------

TWO = """\
# at the very top

[[model]]
name = "m"

# of a, directly above
[[replica]] # behind the header
name = 'a'  # its name
port = 1
# kv_cache = "1GiB"

# of nobody
[[replica]]
name = 'b'
args = [
  "[[replica]]", # no header
]
  [replica.env]
  K = '''
# no comment
'''
# the end
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_the_last_line_stay(end: str, final: bool, mark: str) -> None:
    text = mark + TWO.replace("\n", end)
    text = text if final else text.removesuffix(end)
    text = edits.add(text, "replica", NEW)
    assert text.startswith(mark) and text.endswith(end) is final
    assert text.count("\n") == text.count(end)
    assert f"kv_cache = '6GiB'{end if final else ''}" in text, "quoted as the last one"
    tree = tomllib.loads(text.removeprefix(mark))
    assert tree["replica"][-1] == NEW and tree["replica"][1]["env"] == {"K": "# no comment\n"}
    back = edits.remove(text, "replica", "new")
    assert back == mark + (TWO if final else TWO.removesuffix("\n")).replace("\n", end)


def test_a_table_goes_with_its_own_comments_alone() -> None:
    """Directly above behind a blank line, inside, directly below before one."""
    text = edits.remove(TWO, "replica", "a")
    gone = comments(TWO) - comments(text)
    assert set(gone) == {"# of a, directly above", '# kv_cache = "1GiB"'}
    text = edits.remove(TWO, "replica", "b")
    assert set(comments(TWO) - comments(text)) == {"# of nobody", "# no comment", "# the end"}
    assert "[replica.env]" not in text
    close = 'x = 1\n[[model]]\nname = "m"\n# whose?\n[[model]]\nname = "n"\n'
    assert edits.remove(close, "model", "n").endswith("# whose?\n"), "not clear, so it stays"
    assert "# whose?" in edits.remove(close, "model", "m")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('[[replica]]\nname="a"\nport=1\n', "port=8009"),
        ('  [[replica]]\n    name   = "a"\n    port   = 1\n', "    port   = 8009"),
        ('[[replica]]\nname\t=\t"a"\n', "port\t=\t8009"),
        ("[[replica]]\n", "port = 8009"),
    ],
)
def test_a_new_table_is_written_as_the_last_one(table: str, line: str) -> None:
    """Indentation, the equals signs, and whether blank lines stand between tables."""
    text = edits.add(table, "replica", NEW)
    assert line in text.splitlines() and "\n\n" not in text.removeprefix(table).lstrip("\n")
    apart = edits.add(f"{table}\n{table}", "replica", NEW)
    assert apart.startswith(f"{table}\n{table}\n")
    close = edits.add(f"{table}{table}", "replica", NEW)
    assert not close.startswith(f"{table}{table}\n")


def test_the_first_replica_comes_behind_the_models() -> None:
    text = edits.add('[[model]]\nname = "m"\n\n[cache]\n', "replica", NEW)
    assert text.index("[[model]]") < text.index("[[replica]]") < text.index("[cache]")
    assert tomllib.loads(text)["replica"] == [NEW]
    text = edits.add('[[model]]\nname = "m"\n', "replica", {**NEW, **MORE})
    assert tomllib.loads(text)["replica"][0]["env"] == MORE["env"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = [", "not TOML"),
        ('replica = [{name = "a"}]\n', "not all [[replica]] tables"),
        ('[[replica]]\nname = "a"\n[x]\n[replica.env]\nA = "b"\n', "far from it"),
        ("[x]\n", "no table is there"),
    ],
)
def test_what_is_not_told_apart_with_certainty_is_not_touched(text: str, why: str) -> None:
    """With the lines to write by hand."""
    with pytest.raises(EditError) as caught:
        edits.add(text, "replica", NEW)
    assert why in str(caught.value) and '    name = "new"\n' in str(caught.value)


def test_changes_that_can_t_be_made_to_the_letter_are_not_made() -> None:
    """Two of a name, none, a value in a form of its own."""
    twice = '[[replica]]\nname = "a"\n[[replica]]\nname = "a"\n'
    for text in (twice, '[[replica]]\nname = "b"\n'):
        with pytest.raises(EditError, match="tables of that name"):
            edits.remove(text, "replica", "a")
        with pytest.raises(EditError, match="port = 1"):
            edits.change(text, "replica", "a", {"port": 1})
    with pytest.raises(EditError, match="no kv_cache"):
        edits.change('[[replica]]\nname="a"\n"kv_cache"="1"\n', "replica", "a", {"kv_cache": None})


def test_a_webhook_s_address_is_not_shown() -> None:
    secret = "https://x.example/hook/TOKEN"
    text = f'[[alert]]\nwebhook = "{secret}"\n# webhook = \'{secret}\'\nwebhook="""{secret}\n"""\n'
    shown = edits.masked(f'{text}a = {{ webhook = "{secret}", b = 1 }}\nwebhook_file = "/x"\n')
    assert "TOKEN" not in edits.masked('webhook = "https://x.example/a\\"TOKEN" # mine')
    assert "TOKEN" not in shown and shown.count("\n") == 7 and 'webhook_file = "/x"' in shown


# -- any file ----------------------------------------------------------------------------------

COMMENT = st.sampled_from(["# one", "  # two", "#", '# [[replica]] "', "# name = 'x'", "#\tthree"])
BLANK = st.sampled_from(["", "  "])
NOISE = st.lists(st.one_of(COMMENT, BLANK), max_size=4)
BEHIND = st.sampled_from(["", "   # behind", '# "[[replica]]"'])
VALUES = st.sampled_from(
    [
        "1",
        '"text # no comment"',
        "'literal'",
        '[\n  "a", # in it\n  "[[replica]]",\n]',
        '"""\n# no comment\n[[replica]]\nname = "zz"\n"""',
        "'''\n[[model]]\n# no\n'''",
        "{ a = 1, b = [2, 3] }",
        "2026-11-27T00:00:00Z",
    ]
)


@st.composite
def table(draw: st.DrawFn, kind: str, name: str) -> list[str]:
    """A table's lines with noise around and inside."""
    indent, space = draw(st.sampled_from(["", "  "])), draw(st.sampled_from(["", " ", "   "]))
    quote = draw(st.sampled_from("\"'"))
    body = [f"{indent}name{space}={space}{quote}{name}{quote}{draw(BEHIND)}"]
    for key in draw(st.lists(st.sampled_from(["port", "a", "b-c"]), unique=True)):
        value = str(draw(st.integers(1, 9))) if key == "port" else draw(VALUES)
        body += draw(NOISE)
        body.append(f"{indent}{key}{space}={space}{value}{draw(BEHIND)}")
    if draw(st.booleans()):
        body += [*draw(NOISE), f"[{kind}.env]", f"A = {draw(VALUES)}{draw(BEHIND)}"]
    header = draw(st.sampled_from([f"[[{kind}]]", f"  [[ {kind} ]]", f'[["{kind}"]]  # h']))
    return [*draw(NOISE), header, *draw(NOISE), *body, *draw(NOISE)]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A file and its replicas' names."""
    kinds = draw(st.lists(st.sampled_from(["replica", "model", "other"]), max_size=5))
    kinds.insert(draw(st.integers(0, len(kinds))), "replica")
    found = [*draw(NOISE), *draw(st.sampled_from([[], ["top = 1"], [f"x = {draw(VALUES)}"]]))]
    names = []
    for number, kind in enumerate(kinds):
        if kind == "other":
            found += [*draw(NOISE), f"[other{number}]", f"v = {draw(VALUES)}"]
            continue
        found += draw(table(kind, f"n{number}"))
        names += [f"n{number}"] if kind == "replica" else []
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = "\n".join(found) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", end), names


def meant(text: str) -> dict[str, Any]:
    return tomllib.loads(text.removeprefix("\ufeff"))


@settings(max_examples=60, deadline=None)
@given(files())
def test_any_file_with_one_more_means_that_and_loses_nothing(found: tuple[str, list[str]]) -> None:
    """Every line that was there is there, in its order; taken away again it is the same file."""
    text, _ = found
    after = edits.add(text, "replica", {**NEW, **MORE})
    tree = meant(text)
    told = {key: [*v] if isinstance(v, tuple) else v for key, v in {**NEW, **MORE}.items()}
    assert meant(after) == {**tree, "replica": [*tree["replica"], told]}
    assert subsequence(text, after)
    back = edits.remove(after, "replica", "new")
    assert meant(back) == tree and not comments(text) - comments(back)


@settings(max_examples=60, deadline=None)
@given(files())
def test_any_file_with_one_less_means_that_and_loses_no_others(
    found: tuple[str, list[str]],
) -> None:
    """What goes is one piece of the file, from the comments above its header to those below."""
    text, names = found
    tree, gone = meant(text), Counter[str]()
    for name in names:
        after = edits.remove(text, "replica", name)
        left = [one for one in tree["replica"] if one["name"] != name]
        assert meant(after).get("replica", []) == left
        assert {k: v for k, v in meant(after).items() if k != "replica"} == {
            k: v for k, v in tree.items() if k != "replica"
        }
        assert subsequence(after, text)
        gone += comments(text) - comments(after)
    assert gone <= comments(text), "a comment goes with one table at the most"


@settings(max_examples=60, deadline=None)
@given(files(), st.integers(1, 65535), st.sampled_from([0, "cpu", [0, 1]]))
def test_any_file_with_other_values_differs_in_their_lines_alone(
    found: tuple[str, list[str]], port: int, gpu: Any
) -> None:
    text, names = found
    for number, name in enumerate(names):
        after = edits.change(text, "replica", name, {"port": port, "gpu": gpu})
        tree = meant(text)
        tree["replica"][number] |= {"port": port, "gpu": gpu}
        assert meant(after) == tree and not comments(text) - comments(after)
        rows = [r for r in difflib.ndiff(text.splitlines(), after.splitlines()) if r[0] in "+-"]
        assert all("port" in row or "gpu" in row for row in rows), rows
        if "gpu" not in tree["replica"][number]:
            gone = edits.change(after, "replica", name, {"gpu": None})
            assert meant(gone)["replica"][number].get("gpu") is None
