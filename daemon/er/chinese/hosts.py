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
    "only this host's is shown: {}": "只显示本机的：{}",
    "an entry that can't be read is left out: {}": "略去一项无法读取的记录：{}",
}
