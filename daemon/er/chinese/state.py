"""Chinese of keys that hosts share, of the shared state's verdict, and of its check."""

from __future__ import annotations

SAID: dict[str, str] = {
    # er keys
    "no key changed": "密钥未变",
    "try again when it answers (er status)": "等它应答后再试（er status）",
    "other hosts change keys all the time; no key changed here, try again": (
        "其他主机一直在修改密钥；这里密钥未变，请再试"
    ),
    "other hosts change keys all the time; no key moved, try again": (
        "其他主机一直在修改密钥；没有移动密钥，请再试"
    ),
    (
        "whether the key changed is not known: look with er keys list when it answers again, and "
        "revoke a key whose secret nobody saw"
    ): "不知道密钥是否已改：等它再应答后用 er keys list 查看，没人见过密文的密钥请吊销",
    "sudo er state move carries them over": "用 sudo er state move 移过去",
    "these are the last known keys": "这是最后所知的密钥",
    "these are the last known keys, of {v} ago": "这是最后所知的密钥，{} 之前的",
    "root sees newer ones: {}": "root 可看到更新的：{}",
    "the shared state has no keys yet, so this host's own count here alone": (
        "共享状态里还没有密钥，所以这里只用本机自己的"
    ),
    (
        "the shared state lacks keys that are in use here ({n} of them), so this host's own count "
        "here alone"
    ): "共享状态里缺少这里在用的密钥（{} 个），所以这里只用本机自己的",
    "the entry of the keys in the shared state {}": "共享状态里的密钥记录{}",
    "the last known keys stay in force": "最后所知的密钥继续有效",
    "lacks {v}": "缺少 {}",
    "is not as it was written (its digest is another)": "与写入时不同（摘要不符）",
    "no key changed, as hosts may share them, and er.toml does not say how": (
        "密钥未变：主机可能共享密钥，而 er.toml 没有说明如何共享"
    ),
    # er status
    "nobody looks at the shared state; the gateway's admin process does": (
        "没有谁在查看共享状态；这由网关的管理进程做"
    ),
    # er check
    "could not be asked as user er: {}": "无法以用户 er 询问：{}",
    "{}: user er can't read it: {}": "{}：用户 er 无法读取：{}",
    "it is empty": "它是空的",
    "goes to {} without TLS, for all on the way to read; write valkeys://": (
        "以明文到 {}，途中谁都能读；请写 valkeys://"
    ),
    "this host goes on with what it knows": "本机以所知的继续工作",
    "user {w} may not: {v}. On the server: {v}": "用户 {} 无权：{}。在服务器上执行：{}",
    "the server is of version {v}; ER needs {v} at least": "服务器版本为 {}；ER 至少需要 {}",
    "the server's maxmemory-policy {v} would throw keys away: {v}": (
        "服务器的 maxmemory-policy {} 会丢弃密钥：{}"
    ),
    "the server throws keys and limits away when it is full: {v}": (
        "服务器内存满时会丢弃密钥和限额：{}"
    ),
    "has a maxmemory of {} GiB, and [cache] and [batches] shared may take {}: {v}, or a lower "
    "shared on every host": (
        "的 maxmemory 为 {} GiB，而 [cache] 和 [batches] 的 shared 可占用 {}：{}，"
        "或在每台主机上调小 shared"
    ),
    "the server keeps nothing on a disk, so a restart loses it: CONFIG SET appendonly yes": (
        "服务器不往磁盘保存，重启就会丢失：CONFIG SET appendonly yes"
    ),
    "the server's clock is {v} s apart from this host's; timedatectl shows why": (
        "服务器的时钟与本机相差 {} 秒；用 timedatectl 查看原因"
    ),
}
