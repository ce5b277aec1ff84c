"""Chinese of what is said of several hosts and the state they share."""

from __future__ import annotations

SAID = {
    "the shared state ({}) {}": "共享状态（{}）{}",
    "takes neither user nor password: look at {} and url": "不接受用户名或密码：请检查 {} 和 url",
    "does not let this user do that: {}; er help hosts has its rights": (
        "不允许该用户这样做：{}；所需权限见 er help hosts"
    ),
    "has no memory left: raise its maxmemory": "内存已满：请调大它的 maxmemory",
    "is a copy that takes no changes: name the first one, or its Sentinels": (
        "是只读的副本，不接受修改：请写主节点，或写它的 Sentinel"
    ),
    "still loads its data": "仍在加载数据",
    "does not answer in time": "未及时应答",
    "is not reached: {}": "连接不上：{}",
    "answers {}": "应答 {}",
    # er state move
    "example: sudo er state move. What hosts share, and how to begin: er help hosts": (
        "例：sudo er state move。主机之间共享什么、如何开始：er help hosts"
    ),
    "carry this host's keys, usage and feedback over": "把本机的密钥、用量和反馈移过去",
    "bring what all hosts have into this host's files, to go on alone": (
        "把所有主机的内容写入本机的文件，以便单独运行"
    ),
    "show what is where, move nothing": "显示各处有什么，什么也不移动",
    "carry an installation into the state that hosts share, and back": (
        "把一套安装移入各主机共享的状态，以及移回"
    ),
    "into what several hosts share, and back: er state move": (
        "移入几台主机共享的状态，以及移回：er state move"
    ),
    "batches and the cache of vectors stay with the host that has them; now: sudo er apply": (
        "批处理和向量缓存留在各自的主机上；接下来：sudo er apply"
    ),
    "{}; what was moved so far stays, the same command goes on": (
        "{}；已移动的保留，再执行同一命令即可继续"
    ),
    "feedback has as many bytes as it may: er help feedback": "反馈已达字节上限：er help feedback",
    "{} has no [state]: write that table first; er help hosts": (
        "{} 中没有 [state]：请先写上该表；er help hosts"
    ),
    "{} keys are known here": "这里有 {} 个密钥",
    "rows of usage": "用量记录",
    "feedbacks": "反馈",
    "{}: {} here, {} in the shared state, of all hosts": (
        "{}：这里 {} 条，共享状态里所有主机共 {} 条"
    ),
    "nothing was moved; without --dry-run this host's files get what they lack": (
        "什么也没有移动；不加 --dry-run 时，本机的文件会补上所缺的"
    ),
    "nothing was moved; without --dry-run the shared state ({}) gets what it lacks": (
        "什么也没有移动；不加 --dry-run 时，共享状态（{}）会补上所缺的"
    ),
    "keys are missing in the shared state: {}": "共享状态里缺少密钥：{}",
    "keys: {} came in, {} are there": "密钥：移入 {} 个，共有 {} 个",
    "{} {} are missing in the shared state; say it again": "共享状态里缺少 {} 条{}；请再执行一次",
    "{}: {} of this host are there": "{}：本机的 {} 条都在",
    "the keys in the shared state can't be read": "无法读取共享状态里的密钥",
    "keys: {} are in {}": "密钥：{} 个在 {}",
    "rows of usage: {} of other hosts were written down here": "用量记录：写下了其他主机的 {} 条",
    "feedbacks: {} of other hosts were written down here": "反馈：写下了其他主机的 {} 条",
    "entries that can't be read were left out: {}": "略去了无法读取的记录：{}",
    "now take [state] and [host] out of er.toml, then: sudo er apply": (
        "接下来从 er.toml 中去掉 [state] 和 [host]，然后：sudo er apply"
    ),
    "usage is being written down at this moment; say it again": "此刻正在写入用量；请再执行一次",
    "{} rows of usage were not written; say it again": "有 {} 条用量记录没有写入；请再执行一次",
    # er usage, er feedback
    "only this host's is shown: {}": "只显示本机的：{}",
    "an entry that can't be read is left out: {}": "略去一项无法读取的记录：{}",
}
