"""Chinese: the machines that serve together."""

from __future__ import annotations

WORDS: dict[str, str] = {
    "hosts": "主机",
    "silent": "失联",
    "{up} of {n} replicas up": "{n} 个副本中 {up} 个正常",
    "not heard for {n} s": "已有 {n} 秒没有听到",
    "{n} tokens in flight": "处理中 {n} 个 token",
    "this machine": "本机",
    "{n} ms away": "距离 {n} 毫秒",
}

HEARD: dict[str, str] = {
    "silent": "失联",
    "this host is drained": "本机已排空",
    "its host has it drained; er hosts": "它的主机已将它排空；见 er hosts",
    "as host {host} says": "据主机 {host} 所说",
    "host {host} has not been heard for {n} s": "已有 {n} 秒没有听到主机 {host}",
    "two hosts are called {host}: this one and that at {place}; that one is not used: give one of "
    "them another [host] name": (
        "两台主机都叫 {host}：本机和 {place} 那台；不使用那台：请给其中一台另起 [host] name"
    ),
    "two hosts are called {host}: that at {first} and that at {place}; the second is not used: "
    "give one of them another [host] name": (
        "两台主机都叫 {host}：{first} 那台和 {place} 那台；不使用后者：请给其中一台另起 [host] name"
    ),
    "host {host} tells the others {place}, which is no way to it; set [host] address there": (
        "主机 {host} 告诉其他主机的地址是 {place}，那样到不了它；请在它上面设置 [host] address"
    ),
    "{n} replicas of other hosts are there, and there is room for {room}; the last by name are "
    "not used": "其他主机有 {n} 个副本，而这里只放得下 {room} 个；按名称排在最后的不使用",
    "host {host} speaks protocol {n}, too old for ER {version} here; its replicas are not used: "
    "upgrade it": "主机 {host} 使用协议 {n}，对这里的 ER {version} 太旧；它的副本不使用：请升级它",
    "host {host} runs ER {version}, and this one ER {own}": (
        "主机 {host} 运行 ER {version}，本机运行 ER {own}"
    ),
    "the clock of host {host} is {n} s ahead of the shared state's": (
        "主机 {host} 的时钟比共享状态快 {n} 秒"
    ),
    "the clock of host {host} is {n} s behind the shared state's": (
        "主机 {host} 的时钟比共享状态慢 {n} 秒"
    ),
    "replica {name} is not used: model {model} has task {task} there": (
        "副本 {name} 不使用：模型 {model} 在那里的任务是 {task}"
    ),
    "replica {name} is not used yet: what {model} is here is not known so far": (
        "副本 {name} 暂不使用：目前还不知道本机的 {model} 是什么"
    ),
    "replica {name} is not used: model {model} has other weights there": (
        "副本 {name} 不使用：模型 {model} 在那里的权重不同"
    ),
    "replica {name} is not used: model {model} has another recipe there": (
        "副本 {name} 不使用：模型 {model} 在那里的配方不同"
    ),
    "replica {name} is not used: model {model} has other weights and another recipe there": (
        "副本 {name} 不使用：模型 {model} 在那里的权重和配方都不同"
    ),
}
