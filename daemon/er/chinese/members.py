"""Chinese: er hosts, undrain, and what er drain says of a host."""

from __future__ import annotations

SAID: dict[str, str] = {
    # help
    "give a replica, or a whole host, nothing new": "不再向一个副本或整台主机发送新请求",
    "a replica's name, or a host's": "副本名或主机名",
    "NAME is a host's, whatever else is": "NAME 是主机名，即使有副本同名",
    "return when it has finished what it had": "等它做完手上的请求后返回",
    "example: er hosts. One host out for work on it: er drain gpu2 --wait": (
        "示例：er hosts。取出一台主机以便维护：er drain gpu2 --wait"
    ),
    "a silent one that will not come back": "一台不再回来的失联主机",
    "its name": "其名称",
    "a new secret by which the hosts know each other": "换一个主机之间相认的密钥",
    "example: er undrain gpu2": "示例：er undrain gpu2",
    "the host's name": "主机名",
    "the machines that share a [state]: who is there, with which replicas": (
        "共用一个 [state] 的机器：有哪些主机，各有哪些副本"
    ),
    "the machines that serve together": "一起服务的各台机器",
    "give a drained host work again": "让已排空的主机恢复工作",
    "a drained host is used again": "已排空的主机恢复使用",
    # what was done
    "host {w} gets nothing new from the others. Back with: er undrain {w}": (
        "其他主机不再向主机 {} 发送新请求。恢复命令：er undrain {}"
    ),
    "host {w} gets nothing new from the others": "其他主机不再向主机 {} 发送新请求",
    "host {w} is in use again": "主机 {} 已恢复使用",
    "host {w} is forgotten; it is a member again when it comes back": (
        "主机 {} 已被忘掉；它若回来，仍会成为成员"
    ),
    "the hosts' secret is changed; every host takes it up within a second": (
        "主机之间的密钥已更换；所有主机在一秒内启用"
    ),
    "host {w} is not heard any more": "已听不到主机 {}",
    "host {w} has nothing left to do, after {}": "主机 {} 已无未完成的请求，用时 {}",
    "host {w} still has {n} requests and {n} tokens in flight": (
        "主机 {} 还有 {} 个请求、{} 个 token 在处理"
    ),
    "host {w} is still at work after {}; it stays drained": "{1} 之后主机 {0} 仍在工作；它保持排空",
    "{w} has nothing left to do, after {}": "{} 已无未完成的请求，用时 {}",
    "{w} is still at work after {}; it stays drained": "{1} 之后 {0} 仍在工作；它保持排空",
    # what could not be
    "this machine is alone: its er.toml has no [state]; er help hosts": (
        "本机是单独的：它的 er.toml 里没有 [state]；见 er help hosts"
    ),
    "no host {}; er hosts lists them": "没有主机 {}；er hosts 会列出它们",
    "no host {}; there are: {}": "没有主机 {}；现有：{}",
    "no host {}": "没有主机 {}",
    "host {w} is announced at present; stop its gateway first": (
        "主机 {} 目前在公布自己；请先停止它的网关"
    ),
    "the hosts' secret was changed a moment ago; again in 5 s": (
        "主机之间的密钥刚刚换过；请 5 秒后再试"
    ),
    "nothing was changed: {}": "未作任何更改：{}",
    # the screen
    "shared state": "共享状态",
    "silent": "失联",
    "away": "不可用",
    "this is what was heard last": "以下是最后一次听到的内容",
    "this is the shared state's own word": "以下直接来自共享状态",
    "no host is known": "没有已知的主机",
    "this host": "本机",
    "up for {}": "已运行 {}",
    "just started": "刚启动",
    "heard {} ago": "{} 前听到",
    "its clock {n} s ahead": "其时钟快 {} 秒",
    "its clock {n} s behind": "其时钟慢 {} 秒",
    "{n} ms away": "距离 {} 毫秒",
    "{n} requests in flight": "处理中 {} 个请求",
    "back with: er undrain {}": "恢复命令：er undrain {}",
    "no replica of its own": "没有自己的副本",
    "{n} of {n} tokens in flight": "处理中 {}/{} 个 token",
    # what is odd, and reasons of replicas
    "its host has it drained; er hosts": "它的主机已将它排空；见 er hosts",
    "its host has it drained": "它的主机已将它排空",
    "drained by the host": "由其主机排空",
    "as host {w} says": "据主机 {} 所说",
    "host {w} has not been heard for {n} s": "已有 {1} 秒没有听到主机 {0}",
    "two hosts are called {w}: this one and that at {v}; that one is not used: give one of them "
    "another [host] name": (
        "两台主机都叫 {}：本机和 {} 那台；不使用那台：请给其中一台另起 [host] name"
    ),
    "two hosts are called {w}: that at {v} and that at {v}; the second is not used: give one of "
    "them another [host] name": (
        "两台主机都叫 {}：{} 那台和 {} 那台；不使用后者：请给其中一台另起 [host] name"
    ),
    "host {w} tells the others {v}, which is no way to it; set [host] address there": (
        "主机 {} 告诉其他主机的地址是 {}，那样到不了它；请在它上面设置 [host] address"
    ),
    "{n} replicas of other hosts are there, and there is room for {n}; the last by name are not "
    "used": "其他主机有 {} 个副本，而这里只放得下 {} 个；按名称排在最后的不使用",
    "host {w} speaks protocol {n}, too old for ER {v} here; its replicas are not used: upgrade "
    "it": ("主机 {} 使用协议 {}，对这里的 ER {} 太旧；它的副本不使用：请升级它"),
    "host {w} runs ER {v}, and this one ER {v}": "主机 {} 运行 ER {}，本机运行 ER {}",
    "the clock of host {w} is {n} s ahead of the shared state's": (
        "主机 {} 的时钟比共享状态快 {} 秒"
    ),
    "the clock of host {w} is {n} s behind the shared state's": (
        "主机 {} 的时钟比共享状态慢 {} 秒"
    ),
    "replica {w} is not used: model {v} has task {w} there": (
        "副本 {} 不使用：模型 {} 在那里的任务是 {}"
    ),
    "replica {w} is not used yet: what {v} is here is not known so far": (
        "副本 {} 暂不使用：目前还不知道本机的 {} 是什么"
    ),
    "replica {w} is not used: model {v} has other weights there": (
        "副本 {} 不使用：模型 {} 在那里的权重不同"
    ),
    "replica {w} is not used: model {v} has another recipe there": (
        "副本 {} 不使用：模型 {} 在那里的配方不同"
    ),
    "replica {w} is not used: model {v} has other weights and another recipe there": (
        "副本 {} 不使用：模型 {} 在那里的权重和配方都不同"
    ),
}
