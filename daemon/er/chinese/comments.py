"""Chinese: the comments of the er.toml that an installation writes."""

from __future__ import annotations

SAID: dict[str, str] = {
    "er.toml: the one place where anything of ER is set. After a change:": (
        "er.toml：ER 的一切设置都在这里。改动之后："
    ),
    "says what is wrong with it, with line, cause and cure": (
        "检查它有什么问题，给出行号、原因和解决办法"
    ),
    "makes systemd match it, restarting only what changed": (
        "让 systemd 与它一致，只重启有变化的部分"
    ),
    (
        "`er help configuration` explains each line. A setting behind a # is the default: to "
        "change it, take the # away."
    ): ("`er help configuration` 解释每一行。# 后面的设置是默认值：要改，去掉 #。"),
    "or 1 to 64": "或 1 到 64",
    "requests being worked on at once; more get 503": "同时处理的请求数；超过的得到 503",
    'per key; "off" turns it off; one key: er keys set KEY --rate-limit …': (
        '每个密钥；"off" 为不限；单个密钥：er keys set KEY --rate-limit …'
    ),
    '"2s": over its rate, one whose turn comes that soon is held, not refused': (
        '"2s"：超过限速时，这么快就轮到的请求会等待，而不被拒绝'
    ),
    "a request's deadline, queueing included; past it 504": "请求的时限，含排队；超过则 504",
    '"5s": before a stop /readyz says 503 so long, for balancers': (
        '"5s"：停止前的这段时间里 /readyz 返回 503，供负载均衡器查看'
    ),
    "how long a stop waits for requests in flight; what is left gets 503": (
        "停止时等待处理中请求的时间；剩下的得到 503"
    ),
    "texts in one request, and tokens of all of them (rerank has its own": (
        "每个请求的文本数，以及全部文本的 token 数（rerank 另有"
    ),
    "two limits: max_documents, max_rerank_tokens); more get 400": (
        "两个上限：max_documents、max_rerank_tokens）；超过则 400"
    ),
    "no key file at all: make one key and log it once": (
        "完全没有密钥文件时：生成一个，并在日志中显示一次"
    ),
    'Prometheus text, no key; "" turns it off': 'Prometheus 文本，不用密钥；"" 为关闭',
    'web pages that may ask: ["https://app.example"], or ["*"] for all': (
        '可以请求的网页：["https://app.example"]，或 ["*"] 表示全部'
    ),
    "/docs and /openapi.json, which ask for no key": "/docs 和 /openapi.json，不要求密钥",
    "who is believed when it says a client's address: er help proxies": (
        "由谁转告客户端地址时可信：er help proxies"
    ),
    'who waits for a replica that is starting: large requests; "all", "off"': (
        '谁等待启动中的副本：大请求；"all"、"off"'
    ),
    "HTTPS beside plain HTTP is a table of its own, [gateway.tls]: er help tls": (
        "明文 HTTP 之外的 HTTPS 另有一个表 [gateway.tls]：er help tls"
    ),
    "Traces for OpenTelemetry are a table of their own, [tracing]: er help tracing": (
        "OpenTelemetry 的追踪另有一个表 [tracing]：er help tracing"
    ),
    "Several machines that share keys, limits and replicas name one Valkey (or Redis): "
    "er help hosts": ("共用密钥、限额和副本的几台机器写同一个 Valkey（或 Redis）：er help hosts"),
    "valkeys is TLS; also valkey+sentinel://, +cluster://": (
        "valkeys 即 TLS；还有 valkey+sentinel://、+cluster://"
    ),
    "one line; root:er, 0640": "一行；root:er、0640",
    "this machine among them": "其中的这台机器",
    "default: the hostname": "默认：主机名",
    "where the others reach its replicas, over TLS": "其他机器从这里经 TLS 使用它的副本",
    "what they are told; found by itself if left out": "告诉其他机器的地址；不写则自动得出",
    "vectors and scores of texts that were asked for before": "以前请求过的文本的向量和分数",
    "on disk, in /var/cache/er; 0 turns it off": "在磁盘上，/var/cache/er；0 为关闭",
    'each key finds what it asked itself; "all": one cache for all keys': (
        '每个密钥只用自己请求过的；"all"：所有密钥共用一个缓存'
    ),
    "files of requests, computed when nobody else asks: er help batches": (
        "成批的请求文件，没有其他请求时计算：er help batches"
    ),
    "on disk, in /var/lib/er; 0 turns it off": "在磁盘上，/var/lib/er；0 为关闭",
    "how long results stay": "结果保留多久",
    "one record of each request and each change: er audit": "每个请求和每次改动一条记录：er audit",
    "on disk; er doctor says how many days fit": "在磁盘上；er doctor 会说明够几天",
    "for the metrics: er help metrics": "用于指标：er help metrics",
    "what an hour of one GPU costs": "一块 GPU 一小时的价格",
    "a set of questions put to each replica: er help quality": (
        "向每个副本提的一组问题：er help quality"
    ),
    'when it is idle, beside after each start; "off": only `er quality run`': (
        '空闲时，以及每次启动之后；"off"：只在 `er quality run` 时'
    ),
    'one whose answers drifted; "tell": it goes on, and is told': (
        '结果漂移的副本；"tell"：继续服务，只通知'
    ),
    "clicks and ratings that clients send: er help feedback": (
        "客户端发来的点击和评分：er help feedback"
    ),
    (
        "Who is told when something lasts, and when it is over: er help alerts. A robot of "
        "Feishu, DingTalk, WeCom or Slack, or a command; try it with: sudo er alert test"
    ): (
        "故障持续时通知谁，恢复时也通知：er help alerts。飞书、钉钉、企业微信或 Slack 的机器人，"
        "或一条命令；试发：sudo er alert test"
    ),
    "one line: the address that the robot's page shows": "一行：机器人页面给出的地址",
    'other names that clients may ask for: ["text-embedding-3-small"]': (
        '客户端可以用的其他名称：["text-embedding-3-small"]'
    ),
    'or "cut": what to do with a text over the limit': '或 "cut"：文本超过上限时怎么办',
    'token arrays as input: "cl100k" decodes them, "model" = its own ids': (
        '输入为 token 数组时："cl100k" 会解码，"model" 为模型自己的 id'
    ),
    "the longest text; less when the model's files say less": (
        "最长的文本；模型文件写得更小时以其为准"
    ),
    'or "query": what texts are of which a client does not say it': (
        '或 "query"：客户端没有说明用途的文本按什么处理'
    ),
    "the task sentence for queries:": "查询用的任务说明：",
    "runs as er-vllm@embedding": "以 er-vllm@embedding 运行",
    "on loopback": "在回环地址上",
    'of the card\'s total; or kv_cache = "6GiB"': '占显卡总显存的比例；或 kv_cache = "6GiB"',
    "its card has no bfloat16": "它的显卡不支持 bfloat16",
    (
        "More replicas on a card: what limits one of a 0.6B model is its process, and the card "
        "idles half of the time. Two on a card embedded 1.2 to 1.6 times as much, a third helped "
        "short texts only. With a kv_cache of 6 GiB each takes about 9 GiB of the card (1.2 "
        'weights, 2 beside them), and two cores of the CPU. So write kv_cache = "6GiB" in place '
        "of gpu_memory_utilization for those that are there, and:"
    ): (
        "一张卡上放更多副本：0.6B 模型的一个副本受限于自己的进程，显卡有一半时间空闲。一张卡上两"
        "个，嵌入速度是 1.2 到 1.6 倍，第三个只对短文本有用。kv_cache 为 6 GiB 时，每个约占显卡 "
        "9 GiB（权重 1.2，其他 2），以及两个 CPU 核。因此把已有副本的 gpu_memory_utilization 换成"
        ' kv_cache = "6GiB"，并添加：'
    ),
    (
        "One replica may try another vLLM while the others serve. First sudo er vllm install "
        "0.26.0, then, in its table (a version, or the path of an environment of your own: er "
        "help vllm):"
    ): (
        "可以让一个副本试用另一个 vLLM，其他副本照常服务。先 sudo er vllm install 0.26.0，然后在"
        "它的表中写（版本号，或自己的环境的路径：er help vllm）："
    ),
}
