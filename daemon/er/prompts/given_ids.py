"""Token ids that clients send in place of text: OpenAI's become the text behind them again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from er.job import Ids, Refusal

CL100K_IDS = 100256  # ordinary tokens; control tokens lie above, and are no text


def token_ids_refusal(what: str = "input") -> Refusal:
    """The answer to token ids where er.toml leaves `token_ids` at "refuse"."""
    return Refusal(
        400,
        "token_ids_refused",
        f"{what} holds token ids. They are most likely of another model's tokenizer and would give "
        "wrong vectors without any error, so they are refused: send text. In LangChain: "
        "OpenAIEmbeddings(..., check_embedding_ctx_length=False). If a client can send nothing "
        'else, the operator can set token_ids = "cl100k" (ids are decoded to text first) or '
        'token_ids = "model" (they are this model\'s own ids) for the model in er.toml.',
        param=what,
    )


def cl100k_texts(ids: Sequence[Ids]) -> list[str]:
    """The texts behind lists of OpenAI's cl100k_base ids, as LangChain and tiktoken make them.

    A list may begin or end inside a character, since clients cut long texts by tokens; that
    character is left out. Raises Refusal 400 for anything else that is no text. The first call
    reads the table (about a second); an empty list does just that.
    """
    encoding = _cl100k()
    return [_cl100k_text(encoding, given, i) for i, given in enumerate(ids)]


def _cl100k_text(encoding: Any, ids: Ids, index: int) -> str:
    try:
        if any(not 0 <= n < CL100K_IDS for n in ids):
            raise ValueError
        data: bytes = encoding.decode_bytes(list(ids))
        start = 0
        while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
            start += 1
        end = len(data)
        for back in range(1, min(3, end) + 1):
            lead = data[end - back]
            if lead & 0xC0 != 0x80:
                needs = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
                end -= back if needs > back else 0
                break
        return data[start:end].decode()
    except (KeyError, ValueError):
        raise Refusal(
            400,
            "invalid_request",
            f"input {index} (counting from 0) holds token ids that are no text in cl100k_base; "
            "send text instead",
            param="input",
        ) from None


@cache
def _cl100k() -> Any:
    # Imported here: it takes a second and 100 MB, and few configurations ever need it.
    from bpe_openai import get_encoding

    return get_encoding("cl100k_base")
