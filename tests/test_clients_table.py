"""The READMEs' table of clients is what the tests declare, and declarations mean what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import client_rows
from client_rows import Client

TOP = Path(__file__).parent.parent


@pytest.mark.parametrize("name", client_rows.READMES)
def test_the_readmes_have_what_the_tests_declare(name: str) -> None:
    """As tests/clients_table writes it."""
    text = (TOP / name).read_text(encoding="utf-8")
    declared = client_rows.with_table(text, client_rows.READMES[name])
    assert text == declared, "run tests/clients_table"


def test_every_row_is_proven_and_none_is_lost() -> None:
    rows = client_rows.declared()
    for row in rows:
        assert row.proven, f"{row.name} has no test"
    names = {row.name.partition(",")[0] for row in rows}
    assert names >= {"OpenAI", "Cohere", "Voyage", "DashScope", "Ollama", "Hugging Face"}
    assert names >= {"LangChain", "LlamaIndex", "Haystack", "LiteLLM"}
    assert names >= {"Dify", "RAGFlow", "FastGPT", "Open WebUI", "one-api"}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows that are made here stay out of the table."""
    monkeypatch.setattr(Client, "all", {})
    yield


@pytest.mark.usefixtures("alone")
def test_a_line_is_run_for_this_gateway() -> None:
    row = Client(
        "x",
        packages=["pytest"],
        lines=['urllib.request.Request("http://HOST:2048/v1", data=text, method="POST")'],
    )
    assert row.unused() == list(row.lines)
    made = row.make(0, "http://127.0.0.1:1", "k", {"text": b"t"}, method="PUT")
    assert (made.full_url, made.data, made.method) == ("http://127.0.0.1:1/v1", b"t", "PUT")
    assert row.unused() == []
    row.proves("errors", "embeddings")(lambda: None)
    assert row.row(chinese=False) == (
        f"| x | pytest {pytest.__version__} | embeddings, errors | `{row.lines[0]}` |"
    )
    assert "embedding、错误" in row.row(chinese=True)
    assert "主机" in row.row(chinese=True)


@pytest.mark.usefixtures("alone")
def test_an_assignment_ends_with_the_test() -> None:
    row = Client("x", packages=["pytest"], lines=['string.digits = "http://HOST:2048"'])
    with pytest.MonkeyPatch.context() as patch:
        row.assign(0, "here", "k", patch)
        assert __import__("string").digits == "here"
    assert __import__("string").digits == "0123456789"


@pytest.mark.usefixtures("alone")
def test_an_application_is_declared_by_its_form() -> None:
    row = Client(
        "y", recorded="1.2", fields={"URL": "http://HOST:2048/v1"}, page="api", note=("a", "甲")
    )
    assert row.field("URL", "http://h", "k") == "http://h/v1"
    row.proves("rerank")(lambda: None)
    assert row.row(chinese=False) == (
        "| y | 1.2 | rerank | URL: `http://HOST:2048/v1`<br>`er help api`<br>a |"
    )
    assert row.row(chinese=True).endswith("<br>甲 |")


@pytest.mark.usefixtures("alone")
def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(AssertionError, match="sideways"):
        Client("x", packages=["pytest"], lines=["1"]).proves("sideways")
    with pytest.raises(AssertionError, match="twice"):
        Client("x", packages=["pytest"], lines=["2"])
    with pytest.raises(AssertionError, match="packages"):
        Client("z", lines=["1"])
