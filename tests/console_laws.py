"""What must hold on every screen of the console, whatever it shows: a law yields its breaches."""

from __future__ import annotations

import re
from collections.abc import Iterator

from console_frames import Frame
from er_console.looks import STATES, width_of

GLYPHS = "".join(glyph for glyph, _, _ in STATES.values())
# Rich's and Textual's markup, fields that nobody filled in, Python's own words for nothing.
LEAKS = re.compile(r"\[/|\[(?:bold|dim|b|i|red|\$|@)\b|\{[a-z_]+\}|\bNone\b|\b[Nn]a[Nn]\b|\\x1b")
LOG_ROW = re.compile(r"\d\d:\d\d:\d\d \S+ +(?:EMERG|ALERT|CRIT|ERR|WARN|NOTE|INFO|DEBUG)\b")
FILE_ROW = re.compile(r"^│?\s*\S?\s*\d{1,4}  ")  # er.toml beside its line numbers
COMMAND = re.compile(
    r"(?:\b(?:sudo|er|curl|journalctl|systemctl|nvidia-smi|usermod|set|ss|apt-get)\b|--?\w)[ -~]*?"
    r"(?=  |│|$|[^ -~])"
)
# What is no word of a language: paths, units, addresses, ids, keys of er.toml, figures with units.
NAME = re.compile(r"[A-Za-z0-9_$]*[/_@.:=0-9$-][A-Za-z0-9_/@.:=*$-]*")
CUT = re.compile(r"[\w-]+(?:[│╭╮╰╯]|…)|[│╭╮╰╯][\w-]+")  # what a box or an edge has left of a word
WORD = re.compile(r"[A-Za-z]{2,}")
KEPT_WORDS = frozenset(
    [
        *("ER", "GPU", "CPU", "KV", "CUDA", "NVML", "NVIDIA", "PCIe", "vLLM", "systemd", "Qwen"),
        *("pid", "rid", "token", "tokens", "ms", "MB", "GB", "GiB", "KB", "kB", "OK", "DEMO"),
        *("en", "zh", "MRR"),
        *("API", "URL", "HTTP", "JSON", "SSH", "ID", "esc", "enter", "Enter", "tab", "curl"),
        *(
            "openai",
            "cohere",
            "tei",
            "off",
            "root",
            "tmux",
            "journal",
            "adm",
            "instruction",
            "dimensions",
            "model",
        ),
    ]
)


def widths(frame: Frame) -> Iterator[str]:
    """Every row is as wide as the screen, and there are as many as it is high."""
    width, height = frame.size
    if len(frame.rows) != height:
        yield f"{len(frame.rows)} rows of {height}"
    for row in frame.rows:
        if width_of(row) != width:
            yield f"{width_of(row)} cells: {row}"


def leaks(frame: Frame) -> Iterator[str]:
    """No markup, no field in braces, no control character."""
    for row in frame.rows:
        if LEAKS.search(row) or not all(sign.isprintable() for sign in row):
            yield row


def colours_alone(frame: Frame) -> Iterator[str]:
    """Whatever is green, yellow or red says so by a sign, a word or a figure too."""
    for row, role, said in frame.coloured:
        if not any(sign.isalnum() or sign in GLYPHS for sign in said):
            yield f"row {row}, {role}: {said}"


def english(frame: Frame, names: frozenset[str]) -> Iterator[str]:
    """Words that a Chinese screen still says in English, `names` and log lines aside."""
    for row in frame.rows:
        if LOG_ROW.search(row) or FILE_ROW.search(row) or '"' in row:
            continue
        said = CUT.sub(" ", row)
        for name in sorted(names, key=len, reverse=True):
            said = said.replace(name, " ")
        words = WORD.findall(NAME.sub(" ", COMMAND.sub(" ", said)))
        left = [word for word in words if word not in KEPT_WORDS]
        if left:
            yield f"{' '.join(left)}   <- {row.strip()}"
