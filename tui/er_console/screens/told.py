"""A trial's answer as lines: times, vectors or order, a refusal in full, curl. Pure."""

from __future__ import annotations

import math

from er_console.judgement import plural
from er_console.looks import Line, Looks, cut, fit, wrapped
from er_console.reading import text
from er_console.trial import PARTS, Answered, Asked

FIRST_CELLS = 7  # of one number, "-0.0123" with its sign
TEXT_LEAST = 12
GOOD = 200


def told_lines(asked: Asked, answer: Answered, looks: Looks, width: int) -> list[Line]:
    """All that is told of an answer, in lines of at most `width` cells or little more."""
    good = answer.status == GOOD
    said = f" {looks.glyph('ok' if good else 'failed')} {answer.status} "
    head: Line = [(said, "good" if good else "bad")]
    head += [(f"in {answer.took_ms:.1f} ms   ", "strong")]
    shown = [f"{name} {answer.parts[name]:.2f}" for name in PARTS if name in answer.parts]
    head += [(f"{'  '.join(shown)} ms" if shown else "no server-timing", "")]
    lines: list[Line] = [head]
    tokens = f"{answer.tokens} tokens   " if answer.tokens is not None else ""
    lines.append([(f"   {tokens}request id {answer.request_id or '-'}", "dim")])
    if not good:
        rows = wrapped(looks.words(f"{answer.code}: {answer.message}"), width - 3)
        lines += [[(f"   {row}", "bad")] for row in rows]
        if answer.retry_after:
            lines.append([(f"   again in {answer.retry_after} s (retry-after)", "warn")])
    elif asked.task == "score":
        lines += _order(asked, answer, looks, width)
    else:
        lines += _vectors(asked, answer, looks, width)
    return lines


def _order(asked: Asked, answer: Answered, looks: Looks, width: int) -> list[Line]:
    lines: list[Line] = [[("   rank      score  document", "dim")]]
    for place, ranked in enumerate(answer.ranked, 1):
        document = _shown(asked.texts[ranked.index], looks, width - 23)
        lines.append([(f"   {place:>4}  {ranked.score:>9.4f}  ", "strong"), (document, "")])
    return lines


def _vectors(asked: Asked, answer: Answered, looks: Looks, width: int) -> list[Line]:
    if not answer.vectors:
        return [[("   no vector came back", "bad")]]
    first = answer.vectors[0]
    many = plural(len(answer.vectors), "vector")
    lines: list[Line] = [[(f"   {many} of {first.dimensions} numbers", "")]]
    columns = 8 if width >= 120 else 4
    head = f"   {'norm':>6}  {'to 1st':>7}  {'first numbers':<{columns * (FIRST_CELLS + 1) + 3}}"
    lines.append([(f"{head} text", "dim")])
    for said, vector in zip(asked.texts, answer.vectors, strict=False):
        numbers = "".join(_number(x) for x in vector.first[:columns])
        more = "..." if vector.dimensions > columns else "   "
        row = f"   {vector.norm:>6.4f}  {vector.near:>7.4f} {numbers}{more}  "
        role = "strong" if math.isfinite(vector.norm) else "bad"
        lines.append([(row, role), (_shown(said, looks, width - len(row)), "dim")])
    return lines


def _number(x: float) -> str:
    return f"{x:>{FIRST_CELLS + 1}.4f}"


def _shown(said: str, looks: Looks, width: int) -> str:
    more = "~" if looks.ascii_only else "…"
    return fit(looks.words(text(said)), max(TEXT_LEAST, width), more=more).rstrip()


def asked_lines(curls: tuple[str, str], width: int) -> list[Line]:
    """The curl lines, cut where the screen ends; `y` and `Y` copy them whole."""
    lines: list[Line] = []
    titles = ("here (y copies)", "elsewhere, with a key in ER_API_KEY (Y copies)")
    for title, line in zip(titles, curls, strict=True):
        lines += [[("", "")], [(f" {title}", "dim")]]
        lines += [[(f" {row}", "")] for row in cut(line, width)]
    return lines
