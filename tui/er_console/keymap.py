"""The keys in words: what the help box lists for a page, and the palette offers. Pure.

A page's own keys come from its footer's hints, so help tells the truth about what can be pressed
now; here stands what a hint's one word is too short for, and the keys that no footer has room for.
"""

from __future__ import annotations

from collections.abc import Sequence

from er_console.language import noted, say
from er_console.looks import Looks, fit, told, width_of, wrapped
from er_console.state import Missing

Pressed = tuple[str, str, bool]  # a key, the footer's word for it, and whether it can be pressed

# What a key does on a page, where the word in the footer says less: (page, key).
MEANT: dict[tuple[str, str], str] = {
    ("overview", "s"): noted("start what is under the cursor"),
    ("overview", "S"): noted("stop what is under the cursor, after asking"),
    ("overview", "R"): noted("restart what is under the cursor, after asking"),
    ("overview", "D"): noted("take the replica out of service, or back"),
    ("overview", "l"): noted("log of what is under the cursor"),
    ("overview", "w"): noted("what is wrong, and what to do"),
    ("traffic", "b"): noted("slowest, failed, by model, by key, by dialect; B goes back"),
    ("traffic", "enter"): noted("all that is known of the request"),
    ("traffic", "l"): noted("the request's lines in the log"),
    ("traffic", "z"): noted("other span: 5 minutes, 1 hour, 24 hours"),
    ("keys", "N"): noted("new key; its secret is shown once"),
    ("keys", "E"): noted("edit name, limit, expiry and models"),
    ("keys", "B"): noted("edit team, scopes, networks, tokens, quota and weight"),
    ("keys", "O"): noted("rotate: new secret, the old one stays valid for a while"),
    ("keys", "X"): noted("revoke the key, after asking"),
    ("keys", "y"): noted("copy the key's id"),
    ("logs", "f"): noted("next unit"),
    ("logs", "p"): noted("pause: nothing moves"),
    ("logs", "G"): noted("follow the newest line"),
    ("logs", "L"): noted("only this level and worse"),
    ("logs", "w"): noted("wrap long lines"),
    ("logs", "enter"): noted("all lines of the line's request, else all fields of the line"),
    ("logs", "e"): noted("the lines that are shown in $PAGER"),
    ("logs", "/"): noted("filter: words !word key=ID rid=ID unit=NAME level>=warn"),
    ("try", "e"): noted("edit the fields"),
    ("try", "enter"): noted("send the request"),
    ("try", "m"): noted("next model"),
    ("try", "d"): noted("side: query or document"),
    ("try", "o"): noted("write it as clients of OpenAI, Cohere or TEI do"),
    ("try", "y"): noted("copy as a curl command for this machine"),
    ("try", "Y"): noted("copy as a curl command for elsewhere"),
    ("config", "A"): noted("apply er.toml, after asking"),
    ("config", "r"): noted("read er.toml and check it again"),
    ("config", "d"): noted("er.toml, or what is different from what is applied"),
    ("config", "P"): noted("go back to what was applied before, after asking"),
}
SAME = {"replica": "overview"}  # the same rows, the same keys
FILTER = noted("show only rows with these words; ! in front turns it round")

DIGITS = "1-{last}"
GENERAL: tuple[tuple[str, str], ...] = (
    ("?", noted("help for this screen")),
    (DIGITS, noted("go to a page")),
    ("j k", noted("down, up, as the arrows do; g first, G last")),
    ("tab", noted("next field")),
    ("enter", noted("more of the row")),
    ("esc", noted("back")),
    (":", noted("commands and themes")),
    ("q", noted("quit")),
)


def meant(page: str, key: str, label: str) -> str:
    """What the key does there, in words; its `label` in the footer where those say it all."""
    if key == "/":
        return say(FILTER)
    found = MEANT.get((SAME.get(page, page), key))
    return say(found) if found else label


def help_text(
    page: str,
    pressed: Sequence[Pressed],
    reasons: Sequence[Missing],
    looks: Looks,
    width: int,
    last: str,
) -> str:
    """The help box: the page's keys, then the general ones, and why some can't be pressed.

    `width` is the box's in cells; `last` is the digit of the last page.
    """
    own = [(key, meant(page, key, label), usable) for key, label, usable in pressed]
    taken = {key for key, *_ in own}
    rest = [(key.format(last=last), say(what), True) for key, what in GENERAL if key not in taken]
    shown = [(key if usable else f"({key})", what) for key, what, usable in own + rest]
    column = max(width_of(key) for key, _ in shown) + 2
    rows = []
    for key, what in shown:
        first, *more = wrapped(what, max(8, width - column))
        rows.append(fit(key, column) + first)
        rows += [" " * column + row for row in more]
    if not all(usable for _, _, usable in own):
        rows += ["", *wrapped(say("(brackets round a key: it can't be pressed now)"), width)]
    for missing in reasons:
        rows += ["", *wrapped(told(missing), width)]
    return "\n".join(looks.words(row) for row in rows)
