"""What `er connect` prints for each client, to be pasted as it stands. Pure.

Code, shell and variables come whole: what is to be known of them stands in their comments. The
forms of applications come as a table, one row for each field. What each client asks, and how often,
is in `er help` under its name; tests/golden/apps has its requests as they were recorded.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from er.chinese import heard, spoken
from er.chinese.wording import folded, width
from er.cli.screen import clean, table
from er.job import Task

SECRET = "ER_API_KEY"  # the variable that holds it
WIDTH = 100  # letters in a line of words
WHOLE = re.compile(r"`[^`]+`")  # is typed, so it stays in one line
BATCH = 32  # texts a request: engines are busy with that, and a refusal costs little


class Served(NamedTuple):
    """A model as clients are told of it."""

    name: str
    task: Task
    max_tokens: int  # of one text, or of a query and a document
    dimensions: int | None  # None: not known, or no vectors
    items: int  # texts (documents) in a request
    tokens: int  # of all of them


class Facts(NamedTuple):
    """What a text is made of. At least one of the models is there."""

    root: str  # http://host:port
    ca: str  # a certificate's file that clients must trust, "" = none
    key: str  # as it is shown where the secret goes
    embed: Served | None
    score: Served | None
    remarks: tuple[str, ...]  # sentences, the key's first

    @property
    def batch(self) -> int:
        """Texts that are sure to fit in a request, however long."""
        assert self.embed is not None
        longest = self.embed.tokens // self.embed.max_tokens
        return max(1, min(BATCH, self.embed.items, longest))


def limits(model: Served) -> str:
    """A model's figures in a line."""
    if model.task == "embed":
        width = f"vectors of {model.dimensions} numbers, " if model.dimensions else ""
        return (
            f"{model.name}: {width}texts of up to {model.max_tokens} tokens; at most "
            f"{model.items} texts and {model.tokens} tokens in a request"
        )
    return (
        f"{model.name}: query and document together up to {model.max_tokens} tokens (longer "
        f"documents are cut); at most {model.items} documents in a request"
    )


def told(facts: Facts, before: str = "") -> list[str]:
    """Figures and remarks, a line each, with `before` in front."""
    models = [limits(model) for model in (facts.embed, facts.score) if model is not None]
    lines = []
    for said in (*models, *facts.remarks):
        if spoken():
            pieces = folded(heard(clean(said)), WIDTH - width(before) - 2)
            lines += [f"{before}{'  ' * bool(at)}{piece}" for at, piece in enumerate(pieces)]
            continue
        whole = WHOLE.sub(lambda found: found[0].replace(" ", "\0"), clean(said))
        wrapped = textwrap.wrap(
            whole,
            WIDTH,
            initial_indent=before,
            subsequent_indent=f"{before}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [line.replace("\0", " ") for line in wrapped]
    return lines


def _table(facts: Facts, rows: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """A form: label, what an embedding model's has, what a reranker's has."""
    columns = [c for c, model in ((1, facts.embed), (2, facts.score)) if model is not None]
    heads = ("field", "embedding model", "reranker")
    lines = [[row[0], *(row[c] or "" for c in columns)] for row in (heads, *rows)]
    return [*table(lines, gap="   ", named=False), "", *told(facts)]


def _name(model: Served | None) -> str | None:
    return None if model is None else clean(model.name)


def _tokens(model: Served | None) -> str | None:
    return None if model is None else str(model.max_tokens)


def dify(facts: Facts) -> list[str]:
    """The plugin OpenAI-API-compatible."""
    base = f"{facts.root}/v1"
    rows: list[tuple[str, str | None, str | None]] = [
        ("Model Type", "Text Embedding", "Rerank"),
        ("Model Name", _name(facts.embed), _name(facts.score)),
        ("API Key", facts.key, facts.key),
        ("API Base URL", base, base),
        ("Model context size", _tokens(facts.embed), _tokens(facts.score)),
    ]
    head = ["Dify, plugin OpenAI-API-compatible, Add Model (more: er help dify)", ""]
    return [*head, *_table(facts, rows)]


def ragflow(facts: Facts) -> list[str]:
    """The provider OpenAI-API-Compatible."""
    base = f"{facts.root}/v1"
    rows: list[tuple[str, str | None, str | None]] = [
        ("Model type", "embedding", "rerank"),
        ("Model name", _name(facts.embed), _name(facts.score)),
        ("Base url", base, base),
        ("API-Key", facts.key, facts.key),
        ("Max tokens", _tokens(facts.embed), _tokens(facts.score)),
    ]
    head = ["RAGFlow, Model providers, OpenAI-API-Compatible (more: er help ragflow)", ""]
    return [*head, *_table(facts, rows)]


def fastgpt(facts: Facts) -> list[str]:
    """A model with a request URL of its own, and what its JSON may say besides."""
    root = facts.root
    rows: list[tuple[str, str | None, str | None]] = [
        ("model type", "Index model", "Rerank model"),
        ("model", _name(facts.embed), _name(facts.score)),
        ("custom request URL", f"{root}/v1/embeddings", f"{root}/v1/rerank"),
        ("custom request key", facts.key, facts.key),
    ]
    lines = ["FastGPT, Account, Models (more: er help fastgpt)", "", *_table(facts, rows)]
    if facts.embed is not None:
        more = {
            "queryConfig": {"input_type": "query"},
            "batchSize": facts.batch,
            "maxToken": facts.embed.max_tokens,
        }
        lines += ["", "In the index model's JSON:", "", *json.dumps(more, indent=2).splitlines()]
    return lines


def open_webui(facts: Facts) -> list[str]:
    """Its variables; values as an .env file takes them."""
    lines = ["# Open WebUI's variables, for .env or compose (more: er help open-webui)"]
    lines += told(facts, "# ")
    if facts.embed is not None:
        lines += [
            "",
            "RAG_EMBEDDING_ENGINE=openai",
            f"RAG_OPENAI_API_BASE_URL={facts.root}/v1",
            f"RAG_OPENAI_API_KEY={facts.key}",
            f"RAG_EMBEDDING_MODEL={_name(facts.embed)}",
            f"RAG_EMBEDDING_BATCH_SIZE={facts.batch}",
            "RAG_EMBEDDING_CONCURRENT_REQUESTS=8",
            "RAG_EMBEDDING_PREFIX_FIELD_NAME=input_type",
            "RAG_EMBEDDING_QUERY_PREFIX=query",
            "RAG_EMBEDDING_CONTENT_PREFIX=document",
        ]
    if facts.score is not None:
        lines += [
            "",
            "ENABLE_RAG_HYBRID_SEARCH=true",
            "RAG_RERANKING_ENGINE=external",
            f"RAG_EXTERNAL_RERANKER_URL={facts.root}/v1/rerank",
            f"RAG_EXTERNAL_RERANKER_API_KEY={facts.key}",
            f"RAG_RERANKING_MODEL={_name(facts.score)}",
        ]
    return lines


def langchain(facts: Facts) -> list[str]:
    """Python: Cohere's classes, which say by themselves what is a question; and OpenAI's."""
    more = " langchain-openai" if facts.embed is not None else ""
    lines = [f"# LangChain: pip install langchain-cohere{more} (more: er help langchain)"]
    lines += [*told(facts, "# "), *_secret(facts), ""]
    cohere = [
        *(["CohereEmbeddings"] if facts.embed is not None else []),
        *(["CohereRerank"] if facts.score is not None else []),
    ]
    lines += [f"from langchain_cohere import {', '.join(cohere)}"]
    lines += ["from langchain_openai import OpenAIEmbeddings"] if facts.embed is not None else []
    root, base = _quoted(facts.root), _quoted(f"{facts.root}/v1")
    key = f'os.environ["{SECRET}"]'
    if facts.embed is not None:
        lines += [
            "",
            "# For a vector store: it marks questions as such. truncate: refuse long texts.",
            "embeddings = CohereEmbeddings(",
            f"    base_url={root},",
            f"    cohere_api_key={key},",
            f"    model={_quoted(facts.embed.name)},",
            '    truncate="NONE",',
            ")",
            "# By OpenAI's class, which marks none: one object for documents, one for questions.",
        ]
        for name, ending in (("documents", ""), ("questions", ":query")):
            lines += [
                f"{name} = OpenAIEmbeddings(",
                f"    base_url={base},",
                f"    api_key={key},",
                f"    model={_quoted(facts.embed.name + ending)},",
                "    check_embedding_ctx_length=False,  # send texts, not OpenAI's tokens",
                f"    chunk_size={facts.batch},  # texts in a request",
                ")",
            ]
    if facts.score is not None:
        lines += [
            "",
            f"reranker = CohereRerank(base_url={root}, cohere_api_key={key},",
            f"                        model={_quoted(facts.score.name)}, top_n=3)",
        ]
    return lines


def llama_index(facts: Facts) -> list[str]:
    """Python: OpenAI-like embeddings, Cohere's reranker."""
    packages = [
        *(["llama-index-embeddings-openai-like"] if facts.embed is not None else []),
        *(["llama-index-postprocessor-cohere-rerank"] if facts.score is not None else []),
    ]
    lines = [f"# LlamaIndex: pip install {' '.join(packages)} (more: er help langchain)"]
    lines += [*told(facts, "# "), *_secret(facts), ""]
    root, base = _quoted(facts.root), _quoted(f"{facts.root}/v1")
    key = f'os.environ["{SECRET}"]'
    if facts.embed is not None:
        lines.append("from llama_index.embeddings.openai_like import OpenAILikeEmbedding")
    if facts.score is not None:
        lines.append("from llama_index.postprocessor.cohere_rerank import CohereRerank")
    if facts.embed is not None:
        lines += ["", "# One object for documents, to build the index; one for questions, to ask."]
        for name, ending in (("documents", ""), ("questions", ":query")):
            lines += [
                f"{name} = OpenAILikeEmbedding(",
                f"    api_base={base},",
                f"    api_key={key},",
                f"    model_name={_quoted(facts.embed.name + ending)},",
                f"    embed_batch_size={facts.batch},",
                ")",
            ]
    if facts.score is not None:
        lines += [
            "",
            f"reranker = CohereRerank(base_url={root}, api_key={key},",
            f"                        model={_quoted(facts.score.name)}, top_n=3)",
        ]
    return lines


def curl(facts: Facts) -> list[str]:
    """Shell: what there is, two texts, a question, a ranking. The key goes by standard input."""
    lines = ["# more: er help api", *told(facts, "# ")]
    lines += [f"export CURL_CA_BUNDLE={_word(facts.ca)}"] if facts.ca else []
    lines += [f'export {SECRET}="${{{SECRET}:-{facts.key}}}"', ""]
    # In front of curl, not among its arguments, which every user of the machine can see.
    ask = f"echo \"Authorization: Bearer ${SECRET}\" | curl -sS --fail-with-body -w '\\n' -H @-"
    lines += [f"{ask} {_word(facts.root + '/v1/models')}"]
    bodies: list[tuple[str, dict[str, object]]] = []
    if facts.embed is not None:
        name = facts.embed.name
        bodies += [
            ("/v1/embeddings", {"model": name, "input": ["first text", "第二段文字"]}),
            ("/v1/embeddings", {"model": f"{name}:query", "input": "what is it?"}),
        ]
    if facts.score is not None:
        documents = ["the first document", "第二篇文档"]
        name, query = facts.score.name, "what is it?"
        body: dict[str, object] = {"model": name, "query": query, "documents": documents}
        bodies.append(("/v1/rerank", body))
    for path, given in bodies:
        text = _word(json.dumps(given, ensure_ascii=False))
        lines += [
            f"{ask} {_word(facts.root + path)} \\",
            f"  -H 'Content-Type: application/json' -d {text}",
        ]
    return lines


def _secret(facts: Facts) -> list[str]:
    """Where Python gets the key, and the certificate to trust."""
    trust = [f'os.environ.setdefault("SSL_CERT_FILE", {_quoted(facts.ca)})'] if facts.ca else []
    return [f"# The key comes from the variable {SECRET}: {facts.key}", "import os", *trust]


def _quoted(text: str) -> str:
    """As a string of Python."""
    return json.dumps(clean(text), ensure_ascii=False)


def _word(text: str) -> str:
    """As a word of the shell."""
    return "'" + clean(text).replace("'", "'\\''") + "'"


CLIENTS: dict[str, Callable[[Facts], list[str]]] = {
    "dify": dify,
    "ragflow": ragflow,
    "fastgpt": fastgpt,
    "open-webui": open_webui,
    "langchain": langchain,
    "llama-index": llama_index,
    "curl": curl,
}
# Those whose indexing asks more often than the usual rate allows.
OFTEN = ("dify", "ragflow", "fastgpt", "open-webui")
