"""Chinese: the frame of the console: header, tabs, footer, help, options."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # The frame of a page.
    "Overview": "概览",
    "Replicas": "副本",
    "Traffic": "流量",
    "Keys": "密钥",
    "Logs": "日志",
    "Try": "试用",
    "Config": "配置",
    "help": "帮助",
    "quit": "退出",
    "filter; ! in front turns it round": "筛选；以 ! 开头则反选",
    "read-only": "只读",
    "read-only (?)": "只读 (?)",
    "read-only: {reason}": "只读：{reason}",
    "{reason}. {remedy}": "{reason}。{remedy}",
    "{source}: {reason}": "{source}：{reason}",
    # Help.
    "Keys: {page}": "按键：{page}",
    "(brackets round a key: it can't be pressed now)": "（带括号的按键现在不能用）",
    "help for this screen": "本页帮助",
    "go to a page": "转到某页",
    "down, up, as the arrows do; g first, G last": "下、上，同方向键；g 第一行，G 最后一行",
    "next field": "下一个输入框",
    "more of the row": "查看该行详情",
    "back": "返回",
    "commands and themes": "命令与主题",
    "show only rows with these words; ! in front turns it round": (
        "只显示含这些字的行；以 ! 开头则反选"
    ),
    "start what is under the cursor": "启动光标所在的单元",
    "stop what is under the cursor, after asking": "停止光标所在的单元（先确认）",
    "restart what is under the cursor, after asking": "重启光标所在的单元（先确认）",
    "take the replica out of service, or back": "让副本退出服务，或恢复服务",
    "log of what is under the cursor": "光标所在单元的日志",
    "what is wrong, and what to do": "哪里有问题，该怎么办",
    "other span: 5 minutes, 1 hour, 24 hours": "切换时段：5 分钟、1 小时、24 小时",
    "new key; its secret is shown once": "新建密钥；密文只显示一次",
    "rotate: new secret, the old one stays valid for a while": "轮换：生成新密文，旧密文暂时仍有效",
    "revoke the key, after asking": "吊销密钥（先确认）",
    "copy the key's id": "复制密钥 ID",
    "next unit": "下一个单元",
    "pause: nothing moves": "暂停：画面不再滚动",
    "follow the newest line": "跟随最新一行",
    "only this level and worse": "只看该级别及更严重的",
    "wrap long lines": "长行换行",
    "edit the fields": "编辑输入框",
    "send the request": "发送请求",
    "next model": "下一个模型",
    "side: query or document": "用途：查询或文档",
    "copy as a curl command for this machine": "复制为本机可用的 curl 命令",
    "copy as a curl command for elsewhere": "复制为其他机器可用的 curl 命令",
    "apply er.toml, after asking": "应用 er.toml（先确认）",
    "read er.toml and check it again": "重新读取并检查 er.toml",
    # The palette.
    "type to find a command": "输入文字查找命令",
    "no such command": "没有这个命令",
    "key {key}": "按键 {key}",
    "key {key}; can't be pressed now": "按键 {key}；现在不能用",
    "Theme {theme}": "主题 {theme}",
    "colours": "配色",
    "Help": "帮助",
    "Quit": "退出",
    # What an action came to.
    "q quits (ctrl+q in a field too)": "按 q 退出（在输入框里按 ctrl+q）",
    "or: {command}": "或者：{command}",
    "no unit of systemd runs this replica here": "这个副本在本机不由 systemd 单元运行",
    "start it where it was started": "请在原来启动它的地方启动",
    "stop it where it was started": "请在原来启动它的地方停止",
    "restart it where it was started": "请在原来启动它的地方重启",
    "start done": "启动完成",
    "stop done": "停止完成",
    "restart done": "重启完成",
    "{unit}: wait for the start": "{unit}：请等启动结束",
    "{unit}: wait for the stop": "{unit}：请等停止结束",
    "{unit}: wait for the restart": "{unit}：请等重启结束",
    # Read-only, and the browser.
    "opened with --readonly": "以 --readonly 打开",
    "open it again without --readonly": "去掉 --readonly 重新打开",
    "a browser only looks": "浏览器里只能看",
    "to act, run er-console in a terminal": "要操作，请在终端里运行 er-console",
    "Open it as 127.0.0.1 or localhost.": "请用 127.0.0.1 或 localhost 打开。",
    "This address works once, in one browser, while er-console --serve runs.": (
        "这个地址只能用一次，只限一个浏览器，且 er-console --serve 要在运行。"
    ),
    "For a new address end it and start er-console --serve again.": (
        "要新地址，请结束后重新运行 er-console --serve。"
    ),
    "Only er-console's own page may ask for this.": "只有 er-console 自己的页面可以请求它。",
    "{n} windows are open already.": "已经打开了 {n} 个窗口。",
    "The console has ended.": "控制台已结束。",
    "Again": "重新打开",
    "{address} can't be used: {reason}; choose another --port": (
        "{address} 不能用：{reason}；请换一个 --port"
    ),
    "Open it in a browser here; it works once. Read-only. Ctrl+C ends it.": (
        "在本机浏览器打开；只能用一次。只读。按 Ctrl+C 结束。"
    ),
    "From elsewhere, first: {command}": "从别处访问，先运行：{command}",
    # The command line.
    """Watch and steer ER: health, GPUs, traffic, keys, logs, start and stop.

Reads the admin API (RUNTIME_DIRECTORY/admin.sock, default /run/er), systemd, the journal and the
GPU driver; each may be missing. To act it needs root or group er. ? in the console lists its keys.
""": """查看和操作 ER：健康状况、GPU、流量、密钥、日志、启动与停止。

数据来自管理 API（RUNTIME_DIRECTORY/admin.sock，默认 /run/er）、systemd、journal 和 GPU 驱动；
缺少其中任何一个都能用。执行操作需要 root 或 er 组。在控制台里按 ? 可看全部按键。
""",
    """Exit codes of --once, --json, --watch: 0 ok, 1 degraded, 2 down, 3 unknown.
Without a terminal it acts as --once. NO_COLOR and TERM are obeyed; without UTF-8 it draws in ASCII.
--demo plays a recorded day: after 45 s a replica fails. Nothing real is read, changed or touched.
More: er help console
""": """--once、--json、--watch 的退出码：0 正常，1 降级，2 不可用，3 未知。
没有终端时等同 --once。遵守 NO_COLOR 和 TERM；终端不支持 UTF-8 时用 ASCII 绘制（英文）。
--demo 播放录制好的一天：45 秒后有一个副本出故障。不读取、不改动任何真实的东西。
详见：er help console
""",
    "usage: ": "用法：",
    "options": "选项",
    "show this and end": "显示本帮助并退出",
    "print one frame and end": "打印一帧画面并退出",
    "print the status as JSON and end (with --watch: a line at each change)": (
        "以 JSON 打印状态并退出（与 --watch 合用时，每次变化打印一行）"
    ),
    "one frame again and again; without a terminal a line at each change": (
        "反复打印一帧；没有终端时每次变化打印一行"
    ),
    "seconds between two looks (default 1; 2 over ssh)": "刷新间隔秒数（默认 1；经 ssh 时 2）",
    "show it in a browser on this machine, read-only": "在本机浏览器中显示，只读",
    "port on 127.0.0.1 for --serve (default {port})": (
        "--serve 在 127.0.0.1 上的端口（默认 {port}）"
    ),
    "leave the mouse to the terminal, for marking and copying": ("鼠标留给终端，便于选中和复制"),
    "er-console [options]": "er-console [选项]",
    "--once, --watch and --serve exclude each other; --json goes with --watch": (
        "--once、--watch、--serve 只能选一个；--json 可与 --watch 合用"
    ),
    "--port goes with --serve": "--port 要与 --serve 合用",
    "--port is a number from 1 to 65535": "--port 是 1 到 65535 的数字",
    "--interval is {low} to {high} seconds": "--interval 是 {low} 到 {high} 秒",
    "play a recorded day with an outage; needs no GPU": "播放含一次故障的一天；不需要 GPU",
    "watch only, offer no action": "只看，不提供任何操作",
    "language of the screens; else LC_ALL, LC_MESSAGES, LANG say it": (
        "界面语言；未指定时依次看 LC_ALL、LC_MESSAGES、LANG"
    ),
    "show the version": "显示版本",
    "(not installed)": "（未安装）",
    "Try: er-console --help": "用法见：er-console --help",
}
# What Python's reader of options says.
HEARD: dict[str, str] = {
    "unrecognized arguments: {arguments}": "不认识的参数：{arguments}",
    "argument {name}: {why}": "参数 {name}：{why}",
    "expected one argument": "缺少一个值",
    "ignored explicit argument {value}": "不接受值 {value}",
    "invalid choice: {value} (choose from {choices})": "没有 {value} 这个选择（可选：{choices}）",
    "invalid int value: {value}": "{value} 不是整数",
    "invalid float value: {value}": "{value} 不是数字",
    "not allowed with argument {other}": "不能与 {other} 同时使用",
}
