"""A report as one HTML file: style and plots are in it, and nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from er.report.facts import Summary
from er.report.parts import Heading, Part, Plot, Sentences, Table, head, parts
from er.report.plots import DASHES, INK, safe, svg
from er.report.words import Words

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 20px; background: #fff; color: #1a1a1a;
  font: 14px/1.4 system-ui, "Noto Sans", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 22px; margin: 0; } .span { color: #444; margin: 2px 0 12px; }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 12px 28px; align-items: start; }
section { break-inside: avoid; min-width: 0; }
.wide { grid-column: 1 / -1; }
h2 { font-size: 16px; border-bottom: 1px solid #777; margin: 6px 0; padding-bottom: 2px; }
h3 { font-size: 13px; margin: 8px 0 2px; }
p { margin: 3px 0; overflow-wrap: anywhere; }
.short { border-left: 4px solid #0b3d6b; padding: 4px 12px; margin: 0 0 12px; background: #f4f6f8; }
.short li { margin: 2px 0; } .short ul { margin: 0; padding-left: 16px; }
table { border-collapse: collapse; width: 100%; font-size: 12px; margin: 2px 0 6px; }
th, td { text-align: left; padding: 2px 6px; border-bottom: 1px solid #bbb; vertical-align: top;
  overflow-wrap: anywhere; }
th { border-bottom: 1px solid #555; font-weight: 600; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 10px; fill: #1a1a1a; }
svg .grid { stroke: #ccc; stroke-width: 0.7; }
.legend { font-size: 12px; margin: 0; } .legend svg { display: inline; width: 28px; height: 8px; }
footer { color: #444; font-size: 12px; margin-top: 10px; border-top: 1px solid #777; }
@media (max-width: 760px) { main { grid-template-columns: 1fr; } }
@media print {
  @page { size: A4; margin: 10mm; }
  body { padding: 0; max-width: none; font-size: 8.5pt; line-height: 1.25; }
  main { gap: 4px 18px; } h1 { font-size: 14pt; } h2 { font-size: 10pt; margin: 3px 0; }
  h3 { font-size: 8.5pt; margin: 3px 0 0; } table { font-size: 7pt; } th, td { padding: 1px 4px; }
  .short { background: none; margin: 0 0 6px; }
}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: Summary, words: Words) -> str:
    """The whole file. Whatever clients wrote (names, models, comments) is escaped."""
    title, span = (safe(text) for text in head(found, words))
    first, *rest = parts(found, words)
    last = rest.pop()
    out = [
        f'<!doctype html>\n<html lang="{"zh-CN" if words.language == "zh" else "en"}">\n<head>\n',
        '<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        f'<header><h1>{title}</h1><p class="span">{span}</p></header>\n',
        f'<div class="short">{_sentences(first, words)}</div>\n<main>\n',
        *_sections(rest, words),
        f"</main>\n<footer>{_sentences(last, words)}</footer>\n</body>\n</html>\n",
    ]
    return "".join(out)


def _sections(rest: Iterable[Part], words: Words) -> Iterable[str]:
    """Each heading with what follows it; one with a table of many columns takes the whole width."""
    listed = list(rest)
    starts = [i for i, part in enumerate(listed) if isinstance(part, Heading)]
    for begin, end in pairwise([*starts, len(listed)]):
        body = listed[begin:end]
        wide = any(isinstance(p, Table) and len(p.head) >= 6 and p.right == 6 for p in body)
        out = "".join(_part(part, words) for part in body)
        yield f"<section{' class=wide' if wide else ''}>\n{out}</section>\n"


def _part(part: Part, words: Words) -> str:
    match part:
        case Heading(text):
            return f"<h2>{safe(text)}</h2>\n"
        case Table():
            return _table(part)
        case Plot():
            return f"<h3>{safe(part.title)}</h3>\n{_legend(part)}{svg(part)}\n"
        case _:
            return _sentences(part, words)


def _sentences(part: Part, words: Words) -> str:
    assert isinstance(part, Sentences)
    if part.strong:
        items = "".join(f"<li>{safe(line)}</li>" for line in part.lines)
        return f"<h2>{safe(words('short'))}</h2><ul>{items}</ul>"
    return "".join(f"<p>{safe(line)}</p>\n" for line in part.lines)


def _table(part: Table) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        shown = "".join(
            f"<{tag}{' class=n' if i >= part.right else ''}>{safe(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{shown}</tr>\n"

    title = f"<h3>{safe(part.title)}</h3>\n" if part.title else ""
    body = "".join(row(cells, "td") for cells in part.rows)
    return f"{title}<table><thead>{row(part.head, 'th')}</thead><tbody>{body}</tbody></table>\n"


def _legend(part: Plot) -> str:
    """What bars of several series are; lines have their names at their ends."""
    if len(part.series) < 2:
        return ""
    shown = []
    for number, series in enumerate(part.series):
        if part.kind == "bars":
            fill = INK[0] if number == 0 else "url(#hatch)"
            box = f'<rect width="28" height="8" fill="{fill}" stroke="{INK[number]}"/>'
        else:
            ink, dash = INK[number % len(INK)], DASHES[number % len(DASHES)]
            box = (
                f'<line x2="28" y1="4" y2="4" stroke="{ink}" stroke-width="2" '
                f'stroke-dasharray="{dash}"/>'
            )
        shown.append(f'<svg viewBox="0 0 28 8" aria-hidden="true">{box}</svg> {safe(series.name)}')
    return f'<p class="legend">{" &nbsp; ".join(shown)}</p>\n'
