"""Chinese: the Logs page, its filter, and why there is no log."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # Keys and units.
    "pause": "暂停",
    "follow": "跟随",
    "level": "级别",
    "pager": "分页器",
    "wrap": "折行",
    "audit": "审计",
    "all lines of the line's request, else all fields of the line": (
        "该行所属请求的全部日志；没有请求时显示该行的全部字段"
    ),
    "the lines that are shown in $PAGER": "在 $PAGER 中查看所显示的日志",
    "filter: words !word key=ID rid=ID unit=NAME level>=warn": (
        "筛选：词 !词 key=ID rid=ID unit=名称 level>=warn"
    ),
    # The row of state.
    "following": "跟随中",
    "following; no line yet": "跟随中；还没有日志",
    "following; no line passes": "跟随中；没有符合条件的日志",
    "PAUSED, {n} newer: G follows again": "已暂停，新增 {n} 行：按 G 继续跟随",
    "{n} line lost": "丢失 {n} 行",
    "{n} lines lost": "丢失 {n} 行",
    "{n} line came too fast to be shown; journalctl has it": (
        "{n} 行来得太快，未能显示；可用 journalctl 查看"
    ),
    "{n} lines came too fast to be shown; journalctl has them": (
        "{n} 行来得太快，未能显示；可用 journalctl 查看"
    ),
    "only warnings and worse": "只看警告及更严重的",
    "only errors": "只看错误",
    "only refused and failed requests": "只看被拒绝和失败的请求",
    "only failed requests": "只看失败的请求",
    "looking for request {id}": "正在查找请求 {id}",
    "request {id}: {n} line; esc goes back": "请求 {id}：{n} 行；按 esc 返回",
    "request {id}: {n} lines; esc goes back": "请求 {id}：{n} 行；按 esc 返回",
    "no line of request {id}: the journal has it no more, or never had; esc goes back": (
        "没有请求 {id} 的日志：journal 中已不再保留，或从未有过；按 esc 返回"
    ),
    # The filter.
    "words  !word  key=ID  rid=ID  unit=NAME  level>=warn; all must hold": (
        "词  !词  key=ID  rid=ID  unit=名称  level>=warn；须全部满足"
    ),
    "only {terms}": "只看{terms}",
    'with "{word}"': "含“{word}”",
    'without "{word}"': "不含“{word}”",
    "client key {key}": "客户端密钥 {key}",
    "request {request}": "请求 {request}",
    "unit {unit}": "单元 {unit}",
    "level {level} and worse": "级别 {level} 及更严重",
    "{term}: write {name}=VALUE": "{term}：请写成 {name}=值",
    "{term}: the fields are {known}": "{term}：可用的字段有 {known}",
    "write level>={value}: that level and worse": "请写成 level>={value}：该级别及更严重的",
    "level>={value}: the levels are {known}": "level>={value}：可用的级别有 {known}",
    # One record.
    "The journal has this record no more; this is what was shown of it.": (
        "journal 中已没有这条记录；以下是之前显示的内容。"
    ),
    # The pager.
    "there is no pager here": "本机没有分页器",
    "install less, or set PAGER": "请安装 less，或设置 PAGER",
    "{command} can't be started: {reason}": "无法启动 {command}：{reason}",
    "this terminal can't be given to a pager": "这个终端不能交给分页器使用",
    # No log.
    "no right to read the journal: it is for groups systemd-journal and adm": (
        "无权读取 journal：仅限 systemd-journal 组和 adm 组"
    ),
    "there is no journal on this machine": "本机没有 journal",
    "the audit has no journal yet (namespace er-audit): no request was recorded": (
        "审计还没有 journal（命名空间 er-audit）：尚未记录过请求"
    ),
    "there is no journalctl here: no journal to read": "本机没有 journalctl：无法读取 journal",
    "journalctl ends again and again": "journalctl 反复退出",
    "journalctl took longer than {limit} s": "journalctl 用时超过 {limit} 秒",
    "{id} is no request id": "{id} 不是请求 ID",
}
