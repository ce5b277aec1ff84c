"""Chinese: the verdict, what is wrong, what to do, what an action would do to whom."""

from __future__ import annotations

WORDS: dict[str, str] = {
    # The header.
    "{up} of {n} replica answering": "{n} 个副本中 {up} 个应答",
    "{up} of {n} replicas answering": "{n} 个副本中 {up} 个应答",
    "{up} of {n} embedding replica answering": "{n} 个嵌入副本中 {up} 个应答",
    "{up} of {n} embedding replicas answering": "{n} 个嵌入副本中 {up} 个应答",
    "{up} of {n} reranker replica answering": "{n} 个重排副本中 {up} 个应答",
    "{up} of {n} reranker replicas answering": "{n} 个重排副本中 {up} 个应答",
    "{up} of {n} replica of {model} answering": "{model} 的 {n} 个副本中 {up} 个应答",
    "{up} of {n} replicas of {model} answering": "{model} 的 {n} 个副本中 {up} 个应答",
    "{n}th time": "第 {n} 次",
    "{n}st time": "第 {n} 次",
    "{n}nd time": "第 {n} 次",
    "{n}rd time": "第 {n} 次",
    "{said}; {n} more out": "{said}；另有 {n} 个不可用",
    "{count}; {worst}": "{count}；{worst}",
    "no replica is configured": "没有配置副本",
    "name models and replicas in er.toml (er help configuration), sudo er apply": (
        "在 er.toml 中写上模型和副本（er help configuration），再 sudo er apply"
    ),
    "no client gets an answer: the gateway is {state}": "客户端得不到任何响应：网关{state}",
    "no client gets an answer: the gateway has failed": "客户端得不到任何响应：网关已失败",
    "the gateway is starting": "网关启动中",
    "no word from the gateway for {span}": "网关已 {span}没有消息",
    "nothing has been read yet": "尚未读到任何数据",
    # What is wrong, and what to do.
    "GPU {gpu} is throttled: {why}": "GPU {gpu} 降频：{why}",
    "check its cooling and its power limit": "检查散热和功率上限",
    "GPU {gpu} is at {degrees} C": "GPU {gpu} 温度 {degrees} °C",
    "check its cooling": "检查散热",
    "the gateway is {state}": "网关{state}",
    "s on 'all' starts everything": "在“全部”上按 s 启动全部",
    "s on it starts it": "在该行按 s 启动",
    "no gateway figures: {reason}": "没有网关数据：{reason}",
    "{unit} has failed ({result}): its address is taken or not allowed": (
        "{unit} 失败（{result}）：地址已被占用或不被允许"
    ),
    "journalctl -u {unit}, then s on 'all'": "journalctl -u {unit}，然后在“全部”上按 s",
    "traffic goes on with the last known keys and limits; er check says more": (
        "流量以最后所知的密钥和限额继续；er check 有更多说明"
    ),
    "er check says more": "er check 有更多说明",
    "er.toml differs from what runs": "er.toml 与运行中的配置不同",
    "no unit states: {reason}": "没有单元状态：{reason}",
    "w goes to it; there R restarts it, l shows its log": (
        "按 w 选中它，再按 R 重启，或按 l 查看日志"
    ),
    "it answers now; l shows its log": "现在已能应答；l 查看日志",
    "look where it runs: {address}": "到它运行的地方查看：{address}",
    "s starts it": "s 启动",
    "{replica} is drained by an operator": "{replica} 已被运维人员排空",
    "D takes it back": "D 恢复",
    "it goes on by itself when that is there": "条件满足后会自动继续",
    "{replica} starts again; last time: {reason}": "{replica} 重新启动；上次：{reason}",
    "{replica} starts again (restart {n}); last time: {reason}": (
        "{replica} 重新启动（第 {n} 次重启）；上次：{reason}"
    ),
    "l shows its log": "l 查看日志",
    "{replica} was restarted {n} times": "{replica} 已重启 {n} 次",
    "{replica} was restarted {n} times; last time: {reason}": (
        "{replica} 已重启 {n} 次；上次：{reason}"
    ),
    "l shows its log; S stops it until that is mended": "l 查看日志；修好之前可用 S 停止",
    "{replica} is full: {share} % of the time in it is waiting, its GPU is {busy} % busy": (
        "{replica} 已饱和：{share} % 的时间在等待，GPU 使用率 {busy} %"
    ),
    "add a replica of this model": "为此模型增加副本",
    (
        "{replica} starves its GPU: {share} % of the time in it is waiting, "
        "the GPU is {busy} % busy"
    ): "{replica} 的 GPU 吃不饱：{share} % 的时间在等待，GPU 使用率仅 {busy} %",
    "its engine's front end is the narrow place: add a replica": ("瓶颈在引擎前端：增加副本"),
    "{n} sequences wait in the gateway, and no GPU is more than {busy} % busy": (
        "网关中有 {n} 个序列在等待，而 GPU 使用率都不超过 {busy} %"
    ),
    "more workers in [gateway], or fewer, larger requests": (
        "增加 [gateway] 的 workers，或减少请求数、增大单个请求"
    ),
    "{replica} is slow: p95 {own} ms, the median of its model is {usual} ms": (
        "{replica} 偏慢：p95 {own} 毫秒，同模型中位数 {usual} 毫秒"
    ),
    "look at its GPU and its log (l); R restarts it": "查看其 GPU 和日志（l）；R 重启",
    "GPU {gpu} is lost: its driver can't reach it": "GPU {gpu} 已丢失：驱动无法访问它",
    "dmesg shows why; restart the machine": "dmesg 可见原因；重启机器",
    "GPU {gpu} has {n} memory error that could not be corrected": (
        "GPU {gpu} 有 {n} 个无法纠正的显存错误"
    ),
    "GPU {gpu} has {n} memory errors that could not be corrected": (
        "GPU {gpu} 有 {n} 个无法纠正的显存错误"
    ),
    "drain what runs on it (D); nvidia-smi -q -d ECC": (
        "排空其上的副本（D）；nvidia-smi -q -d ECC"
    ),
    "GPU {gpu} is used by others too: {who}": "GPU {gpu} 还被其他进程使用：{who}",
    "end them, or give the replica another GPU": "结束它们，或给副本换一块 GPU",
    "{replica} wants GPU {gpu}, and the driver lists none of that number": (
        "{replica} 需要 GPU {gpu}，但驱动没有列出这个编号"
    ),
    "nvidia-smi; dmesg shows whether it was lost": "nvidia-smi；dmesg 可见它是否已丢失",
    "{share} % of requests are refused or fail": "{share} % 的请求被拒绝或失败",
    "3, then b, shows which and why": "按 3 再按 b 查看是哪些、为什么",
    "{n} of {most} requests in flight: soon 503 overloaded": (
        "处理中的请求 {n}/{most}：即将返回 503 过载"
    ),
    "add a replica, or raise max_concurrency": "增加副本，或调高 max_concurrency",
    "{n} request over a key's rate limit in {window} s": "{window} 秒内 {n} 个请求超过密钥限额",
    "{n} requests over a key's rate limit in {window} s": "{window} 秒内 {n} 个请求超过密钥限额",
    "er keys set raises it": "用 er keys set 调高",
    # What an action would do, to whom.
    "Start {unit}?": "启动 {unit}？",
    "Stop {unit}?": "停止 {unit}？",
    "Restart {unit}?": "重启 {unit}？",
    "Start all of ER (er.target)?": "启动整个 ER（er.target）？",
    "Stop all of ER (er.target)?": "停止整个 ER（er.target）？",
    "Restart all of ER (er.target)?": "重启整个 ER（er.target）？",
    "Drain {replica}?": "排空 {replica}？",
    "Revoke key {key}?": "吊销密钥 {key}？",
    "It loads its model, then takes requests as soon as an answer came back right.": (
        "它先加载模型，得到正确响应后即开始接收请求。"
    ),
    "{unit} runs already, so a start changes nothing": "{unit} 已在运行，启动不会有变化",
    "R restarts it": "R 重启",
    "{unit} is stopped already": "{unit} 已经停止",
    "It stays stopped until it, or er.target, is started again.": (
        "它会保持停止，直到它或 er.target 再次启动。"
    ),
    "It stays out, restarts included, until it is resumed (D again).": (
        "它会一直停止接收请求（重启后也是），直到被恢复（再按 D）。"
    ),
    "Every client that uses it gets 401 from its next request on, for ever.": (
        "使用它的每个客户端从下一个请求起都会得到 401，且不可恢复。"
    ),
    "As far as is known it was never used.": "据目前所知，它从未被使用过。",
    "It was last used {span} ago.": "上次使用在 {span}前。",
    "{n} tokens in flight get up to 10 s to finish; the rest is retried.": (
        "处理中的 {n} 个 token 最多有 10 秒完成；其余会重试。"
    ),
    "its model": "其模型",
    "It answers nobody now, so no client loses anything.": (
        "它现在没有应答任何请求，客户端不受影响。"
    ),
    "{model} stays served by {n} other replica.": "{model} 仍由另外 {n} 个副本服务。",
    "{model} stays served by {n} other replicas.": "{model} 仍由另外 {n} 个副本服务。",
    "It is the only replica of {model}: clients get 503 until one is started.": (
        "它是 {model} 唯一的副本：在有副本启动之前，客户端会得到 503。"
    ),
    "It is the only replica of {model}: clients get 503 until it answers again.": (
        "它是 {model} 唯一的副本：在它恢复应答之前，客户端会得到 503。"
    ),
    "It is the only replica of {model}: clients get 503 until it is resumed.": (
        "它是 {model} 唯一的副本：在它被恢复之前，客户端会得到 503。"
    ),
    "{n} tokens in flight there will finish.": "其上处理中的 {n} 个 token 会完成。",
    "Its last start took {span}.": "它上次启动用了 {span}。",
    "The longest of their last starts took {span}.": "它们上次启动最长用了 {span}。",
    "{n} request in flight gets up to 10 s to finish.": "处理中的 {n} 个请求最多有 10 秒完成。",
    "{n} requests in flight get up to 10 s to finish.": "处理中的 {n} 个请求最多有 10 秒完成。",
    "Its clients also call it {names}.": "客户端也用 {names} 称呼它。",
    "{n} request is in flight in the gateway, of all models together.": (
        "网关中共有 {n} 个请求在处理（所有模型合计）。"
    ),
    "{n} requests are in flight in the gateway, of all models together.": (
        "网关中共有 {n} 个请求在处理（所有模型合计）。"
    ),
    "So do clients of {models}, which uses its vectors.": (
        "使用其向量的 {models} 的客户端也会如此。"
    ),
    "It takes requests as soon as a worker answers.": "工作进程一应答，它就接收请求。",
    "{n} request in flight will be finished first.": "会先完成处理中的 {n} 个请求。",
    "{n} requests in flight will be finished first.": "会先完成处理中的 {n} 个请求。",
    "Its sockets stay open: new requests wait a few seconds, nobody is refused.": (
        "套接字保持打开：新请求等待几秒，不会被拒绝。"
    ),
    "Its sockets stay open, so the next call starts it again; to end service stop er.target.": (
        "套接字保持打开，下一个请求会再次启动它；要结束服务请停止 er.target。"
    ),
    "the gateway and {n} replica": "网关和 {n} 个副本",
    "the gateway and {n} replicas": "网关和 {n} 个副本",
    "Starts what stands still or failed of {parts}; what runs is left alone.": (
        "启动{parts}中已停止或失败的部分；运行中的不受影响。"
    ),
    "Stops {parts} and closes the port: clients get no connection until it is started.": (
        "停止{parts}并关闭端口：再次启动前客户端无法连接。"
    ),
    "Stops and starts {parts}: every client waits or gets 503 until the models are loaded.": (
        "停止并启动{parts}：模型加载完成前，客户端会等待或得到 503。"
    ),
}
