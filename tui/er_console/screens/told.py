"""A trial's answer as lines: times, vectors or order, a refusal in full, curl. Pure."""

from __future__ import annotations

import math

from er_console.language import count, heard, noted, say
from er_console.looks import Line, Looks, cut, fit, wrapped
from er_console.reading import text
from er_console.trial import Answered, Asked, split

FIRST_CELLS = 7  # of one number, "-0.0123" with its sign
TEXT_LEAST = 12
BAR_CELLS = 60
SIGNS, SIGNS_ASCII = "░▒█▓", ".:#="
GOOD = 200
PART_WORDS = {
    "queue": noted("queue"),
    "tokenise": noted("tokenise"),
    "engine": noted("engine"),
    "encode": noted("encode, rest"),
}
# What a refusal means for the one who asks; a code before its status.
MEANT: dict[str | int, str] = {
    401: noted("The gateway did not take the key."),
    403: noted("This key may not use this model, or this address."),
    404: noted("There is no such model or address here; m takes a model that there is."),
    413: noted("The request is larger than er.toml allows (max_body)."),
    429: noted("Asked too often: clients that wait as long as retry-after says are served."),
    "no_healthy_replica": noted("No replica of this model answers now; page 2 says why."),
    503: noted("More is asked than can be computed in time; later it may be served."),
    504: noted("It was not computed within the time that er.toml gives (timeout)."),
    500: noted("A fault of ER's own; page 5 has the lines of this request."),
    400: noted("The request is wrong: correct it, sending it again as it is does not help."),
}


def told_lines(asked: Asked, answer: Answered, looks: Looks, width: int) -> list[Line]:
    """All that is told of an answer, in lines of at most `width` cells or little more."""
    good = answer.status == GOOD
    said = f" {looks.glyph('ok' if good else 'failed')} {answer.status} "
    head: Line = [(said, "good" if good else "bad")]
    head += [(say("in {ms} ms", ms=f"{answer.took_ms:.1f}") + "   ", "strong")]
    parts = split(answer.parts)
    if not parts:
        head.append((say("no server-timing"), ""))
    lines: list[Line] = [head, *(_split_lines(parts, looks, width) if parts else [])]
    tokens = "" if answer.tokens is None else count(answer.tokens, "{n} token", "{n} tokens")
    request = say("request id {id}", id=answer.request_id or "-")
    lines.append([(f"   {tokens}{'   ' if tokens else ''}{request}", "dim")])
    if not good:
        lines += _refusal_lines(answer, looks, width)
    elif asked.task == "score":
        lines += _order(asked, answer, looks, width)
    else:
        lines += _vectors(asked, answer, looks, width)
    return lines


def _split_lines(parts: tuple[tuple[str, float], ...], looks: Looks, width: int) -> list[Line]:
    """Where the gateway's time went: figures, each with its sign, and a bar of those signs."""
    signs = dict(zip(PART_WORDS, SIGNS_ASCII if looks.ascii_only else SIGNS, strict=True))
    figures = [f"{signs[name]} {say(PART_WORDS[name])} {ms:.2f}" for name, ms in parts]
    total = sum(ms for _, ms in parts) or 1.0
    room = max(len(parts), min(BAR_CELLS, width - 3))
    bar = "".join(signs[name] * max(1 if ms else 0, round(room * ms / total)) for name, ms in parts)
    return [[(f"   {'  '.join(figures)} ms", "")], [(f"   {bar}", "plot")]]


def _refusal_lines(answer: Answered, looks: Looks, width: int) -> list[Line]:
    """Code and message in full, what that means, and when to come again."""
    rows = wrapped(looks.words(f"{answer.code}: {heard(answer.message)}"), width - 3)
    lines: list[Line] = [[(f"   {row}", "bad")] for row in rows]
    meant = MEANT.get(answer.code) or MEANT.get(answer.status)
    if meant:
        lines += [[(f"   {row}", "")] for row in wrapped(looks.words(say(meant)), width - 3)]
    if answer.retry_after:
        again = say("again in {seconds} s (retry-after)", seconds=answer.retry_after)
        lines.append([(f"   {again}", "warn")])
    return lines


def _order(asked: Asked, answer: Answered, looks: Looks, width: int) -> list[Line]:
    rank, score = fit(say("rank"), 5, right=True), fit(say("score"), 9, right=True)
    lines: list[Line] = [[(f"  {rank}  {score}  {say('document')}", "dim")]]
    for place, ranked in enumerate(answer.ranked, 1):
        document = _shown(asked.texts[ranked.index], looks, width - 23)
        lines.append([(f"   {place:>4}  {ranked.score:>9.4f}  ", "strong"), (document, "")])
    return lines


def _vectors(asked: Asked, answer: Answered, looks: Looks, width: int) -> list[Line]:
    if not answer.vectors:
        return [[(f"   {say('no vector came back')}", "bad")]]
    first = answer.vectors[0]
    many = count(
        len(answer.vectors),
        "{n} vector of {size} numbers",
        "{n} vectors of {size} numbers",
        size=first.dimensions,
    )
    lines: list[Line] = [[(f"   {many}", "")]]
    columns = 8 if width >= 120 else 4
    norm, near = fit(say("norm"), 6, right=True), fit(say("to 1st"), 7, right=True)
    numbers = fit(say("first numbers"), columns * (FIRST_CELLS + 1) + 3)
    lines.append([(f"   {norm}  {near}  {numbers} {say('text')}", "dim")])
    for said, vector in zip(asked.texts, answer.vectors, strict=False):
        figures = "".join(_number(x) for x in vector.first[:columns])
        more = "..." if vector.dimensions > columns else "   "
        row = f"   {vector.norm:>6.4f}  {vector.near:>7.4f} {figures}{more}  "
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
    titles = (say("here (y copies)"), say("elsewhere, with a key in ER_API_KEY (Y copies)"))
    for title, line in zip(titles, curls, strict=True):
        lines += [[("", "")], [(f" {title}", "dim")]]
        lines += [[(f" {row}", "")] for row in cut(line, width)]
    return lines
