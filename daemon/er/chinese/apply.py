"""Chinese: er apply, reload, restart."""

from __future__ import annotations

SAID: dict[str, str] = {
    "what was said as done before this stays done; the rest: er apply again": (
        "此前显示为已完成的保持不变；其余请再运行 er apply"
    ),
    "{} is good: {n} model{s}, {n} replica{s}": "{} 没有问题：{} 个模型，{} 个副本",
    "{} can't be used: {n} error{s}": "{} 无法使用：{} 个错误",
    "{}: {n} error{s}, {n} warning{s}": "{}：{} 个错误，{} 个警告",
    "{n} error{s}": "{} 个错误",
    "{n} warning{s}": "{} 个警告",
    "{n} model{s}, {n} replica{s}": "{} 个模型，{} 个副本",
    "Another change is under way; this one waits.": "另一项改动正在进行；请稍候。",
    "note: {}": "注意：{}",
    "{}; nothing was changed": "{}；未作任何改动",
    "nothing was changed": "未作任何改动",
    "Nothing to do: systemd matches {}.": "无事可做：systemd 与 {} 一致。",
    (
        "systemd does not run this machine, so there are no units to change; er-gateway and "
        "er-vllm NAME read {} themselves when they are started"
    ): ("本机不由 systemd 管理，没有单元可改；er-gateway 和 er-vllm NAME 在启动时自己读取 {}"),
    "this changes systemd's files and needs root: sudo er apply": (
        "这会改动 systemd 的文件，需要 root：sudo er apply"
    ),
    "{} is closed to you: sudo er apply": "你无权访问 {}：sudo er apply",
    "there is no configuration before this one ({} is missing)": "没有更早的配置（{} 不存在）",
    "{} can't be applied; correct it. Nothing was changed.": (
        "{} 无法应用；请先改正。未作任何改动。"
    ),
    "{} is closed to you, so all of it counts as new; sudo shows what really changes": (
        "你无权访问 {}，因此一切都算作新的；用 sudo 才能看到真正的改动"
    ),
    "is closed to you, so all of it counts as new; sudo shows what really changes": (
        "你无权访问，因此一切都算作新的；用 sudo 才能看到真正的改动"
    ),
    "{}; it is replaced whole": "{}；将被整个替换",
    "it is replaced whole": "将被整个替换",
    "a successor of {} was left by er restart --surge; er apply ends it": (
        "er restart --surge 遗留了 {} 的接替副本；er apply 会结束它"
    ),
    "restart the gateway: {} came after its start (its port stays open meanwhile)": (
        "重启网关：{} 在它启动之后才出现（期间端口保持打开）"
    ),
    "Would be done:": "将会执行：",
    "To be done:": "即将执行：",
    "done: {}": "完成：{}",
    "done: the new workers answer": "完成：新的工作进程已在应答",
    "{w} did not come up: {}": "{} 没有起来：{}",
    "{w} did not come up: {}; so the other replicas of its model were left as they are": (
        "{} 没有起来：{}；因此同一模型的其他副本维持原样"
    ),
    "so the other replicas of its model were left as they are": "因此同一模型的其他副本维持原样",
    "{w}: its clients get 503 for about {n} s": "{}：其客户端约 {} 秒内得到 503",
    "nothing was changed; correct er.toml and try again": "未作任何改动；请改正 er.toml 后再试",
    "In force:": "已生效：",
    "Nothing had changed that a reload takes up.": "没有 reload 能生效的改动。",
    "Waits for sudo er apply, which restarts what it must:": (
        "以下要等 sudo er apply，它会重启必须重启的部分："
    ),
    (
        "/{} was not written by er apply; move your lines to another file of that folder "
        "(systemctl edit does), and remove it"
    ): (
        "/{} 不是 er apply 写的；请把其中的内容移到该目录的另一个文件（systemctl edit 就是这样）"
        "，再删除它"
    ),
    "stop {}: er.toml has it no more": "停止 {}：er.toml 中已没有它",
    "stop the gateway and its port: the addresses change": "停止网关及其端口：监听地址改变",
    "store the configuration as applied ({})": "把配置存为已应用（{}）",
    "have systemd read its files again": "让 systemd 重新读取其文件",
    "have the audit's journal take up its limits; records wait for it meanwhile": (
        "让审计日志采用新的限额；期间的记录会等待"
    ),
    "watch the certificate's files": "监视证书文件",
    "write /{}": "写入 /{}",
    "start {} with er.target": "随 er.target 一起启动 {}",
    "remove /{}": "删除 /{}",
    "start the gateway at its new addresses": "在新地址上启动网关",
    "restart the gateway: its unit changed (its port stays open meanwhile)": (
        "重启网关：其单元已更改（期间端口保持打开）"
    ),
    "give the gateway new workers with the new configuration; the old ones finish": (
        "按新配置为网关换上新的工作进程；旧的会做完手上的请求"
    ),
    "its unit changed": "其单元已更改",
    "restart {w}: {}": "重启 {}：{}",
    "restart {w}: {}; the next of its model once it answers": (
        "重启 {}：{}；待其应答后再重启同一模型的下一个副本"
    ),
    "the next of its model once it answers": "待其应答后再重启同一模型的下一个副本",
    "start {w}": "启动 {}",
    "stop {w}": "停止 {}",
    "changed: {}": "已更改：{}",
    "there is no configuration applied yet ({} is missing)": "尚未应用过任何配置（{} 不存在）",
    (
        "{} is not er.toml, and names what no drop-in of ER's names yet ({}); look at both, "
        "correct er.toml, then: sudo er apply"
    ): (
        "{} 与 er.toml 不同，且其中有 ER 的 drop-in 尚未写入的内容（{}）；请查看两者，改正 "
        "er.toml，然后：sudo er apply"
    ),
    "make room there": "请在那里腾出空间",
    "look at its folder": "请查看其所在目录",
    "{} can't be written: {}; {}": "{} 无法写入：{}；{}",
    "{} can't be made: {}": "{} 无法创建：{}",
    "[gateway.tls]: changed": "[gateway.tls]: 已更改",
    "[tracing]: changed": "[tracing]: 已更改",
    "[state]: changed": "[state]: 已更改",
    "[host]: changed": "[host]: 已更改",
    "[[alert]]: changed": "[[alert]]: 已更改",
    "replica {w}: is removed": "副本 {}：被删除",
    "replica {w}: changed": "副本 {}：已更改",
    "replica {w}: gone": "副本 {}：已去掉",
    "replica {w}: is new": "副本 {}：新增",
    "model {w}: gone": "模型 {}：已去掉",
    "model {w}: is removed, but its replica still runs": "模型 {}：被删除，但其副本仍在运行",
    "model {w}: is new": "模型 {}：新增",
    "model {w}: {}": "模型 {}：{}",
    "another er restart or er apply is at work; wait for its end": (
        "另有 er restart 或 er apply 正在进行；请等它结束"
    ),
    "another er restart or er apply is at work": "另有 er restart 或 er apply 正在进行",
    "nobody says anything of it; er status": "没有关于它的任何消息；er status",
    "its unit was stopped meanwhile": "其单元在此期间被停止",
    "its launcher says nothing; journalctl -u {}": "启动器没有消息；journalctl -u {}",
    "exit {n}": "退出码 {}",
    "the new workers did not come up: {}": "新的工作进程没有起来：{}",
    "the new workers did not come up": "新的工作进程没有起来",
    "no new workers after {n} s; journalctl -u er-gateway": (
        "{} 秒后仍没有新的工作进程；journalctl -u er-gateway"
    ),
    # er restart
    "ends after this one; Ctrl-C again leaves at once": "做完这一个就结束；再按 Ctrl-C 立即离开",
    "name replicas, or --model M, or all; and one of --rolling and --surge at most": (
        "请写副本名，或 --model M，或 all；--rolling 和 --surge 最多用一个"
    ),
    "systemd does not run this machine; restart er-vllm NAME where it was started": (
        "本机不由 systemd 管理；请在启动它的地方重启 er-vllm NAME"
    ),
    "no model {}; there are: {}": "没有模型 {}；现有：{}",
    "{} is run by something else; there are: {}": "{} 由其他程序运行；现有：{}",
    "{} is none here; there are: {}": "这里没有 {}；现有：{}",
    "is run by something else": "由其他程序运行",
    "is none here": "这里没有",
    "no replica that ER starts": "没有由 ER 启动的副本",
    "nothing was restarted; where 503 is accepted, say so: --yes": (
        "没有重启任何副本；如果可以接受 503，请加 --yes"
    ),
    "Go on?": "继续吗？",
    "nothing was restarted": "没有重启任何副本",
    "about {n} s": "约 {} 秒",
    "does not serve now, so nobody loses anything": "现在没有提供服务，不影响任何人",
    "does not serve now, so nobody loses anything, about {n} s": (
        "现在没有提供服务，不影响任何人，约 {} 秒"
    ),
    "restarts while {} serves": "在 {} 提供服务时重启",
    "restarts while {} serves, about {n} s": "在 {} 提供服务时重启，约 {} 秒",
    "a successor is started beside it and serves meanwhile; two loads": (
        "先在旁边启动接替副本，由它提供服务；共加载两次"
    ),
    "a successor is started beside it and serves meanwhile; two loads, about {n} s": (
        "先在旁边启动接替副本，由它提供服务；共加载两次，约 {} 秒"
    ),
    "no successor ({}); restarts while {} serves": "没有接替副本（{}）；在 {} 提供服务时重启",
    "no successor ({}); restarts while {} serves, about {n} s": (
        "没有接替副本（{}）；在 {} 提供服务时重启，约 {} 秒"
    ),
    "as long as it loads": "加载期间",
    "no other replica of {} serves: its clients get 503 for about {n} s": (
        "{} 没有其他副本提供服务：其客户端约 {} 秒内得到 503"
    ),
    "no other replica of {} serves: its clients get 503 for as long as it loads": (
        "{} 没有其他副本提供服务：其客户端在加载期间得到 503"
    ),
    (
        "no other replica of {} serves, and no successor can ({}): its clients get 503 for about "
        "{n} s"
    ): ("{} 没有其他副本提供服务，也无法有接替副本（{}）：其客户端约 {} 秒内得到 503"),
    (
        "no other replica of {} serves, and no successor can ({}): its clients get 503 for as "
        "long as it loads"
    ): ("{} 没有其他副本提供服务，也无法有接替副本（{}）：其客户端在加载期间得到 503"),
    "no other replica of {} serves": "{} 没有其他副本提供服务",
    "and no successor can ({})": "也无法有接替副本（{}）",
    "left while {w} was at it; er status": "{} 还在进行时离开；er status",
    "done: {w} answers": "完成：{} 已应答",
    "{w} is {t}": "{} {}",
    "{w} serves in its place": "{} 代替它提供服务",
    "restarted: {}": "已重启：{}",
    "use sudo, or be a member of group er: sudo adduser NAME er": (
        "请用 sudo，或加入 er 组：sudo adduser NAME er"
    ),
    "nothing else serves {} any more, so {} was left alone": (
        "已没有其他副本为 {} 提供服务，因此没有动 {}"
    ),
    "its successor failed, and was ended; it serves on as before: {}": (
        "接替副本失败，已结束；原副本照常服务：{}"
    ),
    "a successor needs root (sudo er restart)": "接替副本需要 root（sudo er restart）",
    "its name has more than {n} characters": "名称超过 {} 个字符",
    "nobody knows how much memory it takes": "不知道它占用多少内存",
    "it takes {} of memory, {} are free": "它占用内存 {}，空闲 {}",
    "it takes {}, {}": "它占用 {}，{}",
    "it takes {}, {} of GPU {} are free": "它占用 {0}，GPU {2} 空闲 {1}",
    "{} of GPU {} are free": "GPU {1} 空闲 {0}",
    "GPU {} can't be seen": "看不到 GPU {}",
    "no successor can be added to {}: {}": "无法把接替副本加入 {}：{}",
    "{}; correct it, then: er apply": "{}；请改正，然后：er apply",
    "correct it, then: er apply": "请改正，然后：er apply",
    "{} has no replica {}; er apply first": "{} 中没有副本 {}；请先 er apply",
    (
        "note: {w}, left by an er restart --surge that did not end, is there; sudo er restart {} "
        "ends it"
    ): ("注意：有未完成的 er restart --surge 遗留的 {}；sudo er restart {} 会结束它"),
    "ending {w}, left by an er restart --surge that did not end": (
        "正在结束 {}，它是未完成的 er restart --surge 遗留的"
    ),
    "{}, left by an er restart --surge that did not end": "{}，未完成的 er restart --surge 遗留",
    "er apply: --json goes with --dry-run": "er apply: --json 要与 --dry-run 合用",
}
