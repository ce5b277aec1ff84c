"""`er help`: the manual's pages, in English (er/help/*.md) and Chinese (er/help/zh/*.md).

The language is --lang, else that of LC_ALL, LC_MESSAGES or LANG (er/chinese), as the console
chooses it: a terminal that can't show Chinese gets English.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import resources

from er.chinese import shows, wanted

LANGUAGES = ("en", "zh")
WRONG_USE = 64
# Pages for those who set another program up; the rest are about ER itself.
APPLICATIONS = (
    *("anythingllm", "dify", "fastgpt", "langchain", "one-api", "open-webui", "ragflow"),
    "xinference",
)
WORDS = {
    "en": {
        "head": "The manual. Read a page with: er help TOPIC\n",
        "applications": "\nSetting up applications:\n",
        "no terminal": "(This terminal can't show Chinese: it needs UTF-8 and TERM not linux.)\n",
    },
    "zh": {
        "head": "手册。阅读一页：er help 主题\n",
        "applications": "\n对接各种应用：\n",
        "no page": "（这一页还没有中文版，以下是英文。）\n",
    },
}


@cache
def pages(language: str = "en") -> dict[str, str]:
    """The manual in one of LANGUAGES: topic -> text."""
    folder = resources.files("er") / "help"
    folder = folder if language == "en" else folder / language
    found = [p for p in folder.iterdir() if p.name.endswith(".md")]
    return {p.name.removesuffix(".md"): p.read_text(encoding="utf-8") for p in found}


def show_help(topic: str | None, asked: str | None = None) -> int:
    """Print a page, or the list of pages. Returns 64 for a topic that there is not."""
    language = wanted(os.environ, asked)
    if language == "zh" and not shows(os.environ, sys.stdout.encoding):
        language = "en"
        if asked:
            print(WORDS["en"]["no terminal"])
    known, translated = pages(), pages(language)
    own = sorted(set(known) - set(APPLICATIONS))
    words = WORDS[language]
    if topic is None:
        print(words["head"])
        for heading, names in (("", own), (words["applications"], APPLICATIONS)):
            if heading:
                print(heading)
            for name in names:
                text = translated.get(name, known[name])
                print(f"  {name:14} {text.splitlines()[0].lstrip('# ')}")
        return 0
    if topic not in known:
        near = ", ".join((*own, *APPLICATIONS))
        print(f"er help: no page {topic!r}; there are: {near}", file=sys.stderr)
        return WRONG_USE
    if topic not in translated:
        print(words["no page"])
    print(translated.get(topic, known[topic]), end="")
    return 0
