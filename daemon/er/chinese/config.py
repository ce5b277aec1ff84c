"""Chinese: er.toml itself: config/*.py."""

from __future__ import annotations

SAID: dict[str, str] = {
    "no such file; run install.sh, or name one with --config": (
        "没有这个文件；请运行 install.sh，或用 --config 指定"
    ),
    "can't be read: {}": "无法读取：{}",
    "not TOML: {}": "不是 TOML：{}",
    "unknown key {}; {}": "未知的键 {}；{}",
    "did you mean {}?": "是不是 {}？",
    "known here: {}": "此处可用：{}",
    "{} must be written as [[{}]] tables": "{} 必须写成 [[{}]] 表",
    "{k} must be a [{}] table": "{} 必须是 [{}] 表",
    "{k} is taken from trusted_proxies only; name them there": (
        "{} 只从 trusted_proxies 采纳；请在那里写上代理"
    ),
    "{k} needs client_ca, the file of those who sign clients": (
        "{} 需要 client_ca，即客户端证书签发者的文件"
    ),
    '{k} means nothing without client_certificates = "ask" or "require"': (
        '没有 client_certificates = "ask" 或 "require" 时，{} 没有意义'
    ),
    "{k} must be at most {}": "{} 最多 {}",
    '{k} is "team", which comes with teams; this version has "key" and "all"': (
        '{} 为 "team"，要等到有团队缓存的版本；此版本只有 "key" 和 "all"'
    ),
    "{k} is more than quota; a file must fit into it": "{} 超过 quota；单个文件必须放得下",
    "{k} is {}; write its three letters, as in USD or CNY": "{} 为 {}；请写三个字母，如 USD 或 CNY",
    "{k} means nothing without gpu_hour, the price of a GPU-hour": (
        "没有 gpu_hour（每 GPU 小时的价格）时，{} 没有意义"
    ),
    '{k} is for task = "embed"; a reranker is told which is the query': (
        '{} 只用于 task = "embed"；重排模型已知道哪个是查询'
    ),
    "path {} must be absolute, as in /srv/models/…": "path {} 必须是绝对路径，例如 /srv/models/…",
    "a replica's name has only a-z, 0-9 and -, and begins with a letter or digit": (
        "副本名只能含 a-z、0-9 和 -，且以字母或数字开头"
    ),
    "give gpu_memory_utilization or kv_cache, not both": (
        "gpu_memory_utilization 和 kv_cache 只能给一个"
    ),
    "{} is set by er-vllm itself; leave it out": "{} 由 er-vllm 自行设置；请去掉",
    "{} means nothing beside url; leave one out": "有 url 时 {} 没有意义；请去掉其中一个",
    "{} already names another model": "{} 已是另一个模型的名称",
    "{} already names this model": "{} 已是这个模型的名称",
    "{} already names another replica": "{} 已是另一个副本的名称",
    "{} already names another alert; give each its own name": (
        "{} 已是另一个通知的名称；请各取各的名称"
    ),
    "no [[model]]; name at least one": "没有 [[model]]；至少要有一个",
    "more than {} replicas": "副本超过 {} 个",
    "more than {} alerts": "通知超过 {} 个",
    "the gateway": "网关",
    "the gateway's metrics": "网关的指标端口",
    "replica {w}": "副本 {}",
    "no model {}; models: {}": "没有模型 {}；已有的模型：{}",
    "{} goes via {}; no replica": "{} 经由 {}；不需要副本",
    "port {} is taken by {}": "端口 {} 被 {} 占用",
    "listen has port {}, which is taken by {}; choose another": (
        "listen 中的端口 {} 已被 {} 占用；请另选一个"
    ),
    'via is for task = "score" only': 'via 只用于 task = "score"',
    "via must name an embed model; there are: {}": "via 必须指定一个 embed 模型；现有：{}",
    "choose another name": "请另取名称",
    "leave {} out": "请去掉 {}",
    "{} can't end in {}, by which clients say what their texts are; {}": (
        "{} 不能以 {} 结尾，客户端用它说明文本的用途；{}"
    ),
    "{} is empty, or has a blank at an end; take the blanks away": (
        "{} 为空，或两端有空格；请去掉空格"
    ),
    "{k} is missing from this [[{}]]": "此 [[{1}]] 缺少 {0}",
    "{k} is missing from this [[alert]]: {}; or write a command": (
        "此 [[alert]] 缺少 {}：{}；或写 command"
    ),
    '{k} is missing from [tracing]; as in endpoint = "{}"': (
        '[tracing] 缺少 {}；例如 endpoint = "{}"'
    ),
    '{k} must be text, as in {} = "…"': '{} 必须是文本，例如 {} = "…"',
    "{k} has a NUL character in it; leave it out": "{} 含有 NUL 字符；请去掉",
    "{k} is {}; it must be an absolute path, as in /etc/er/tls/…": (
        "{} 为 {}；必须是绝对路径，例如 /etc/er/tls/…"
    ),
    '{k} must be a list of texts, as in {} = ["…"]': '{} 必须是文本列表，例如 {} = ["…"]',
    "{k} is {}; it must be one of: {}": "{} 为 {}；必须是其中之一：{}",
    "{k} must be true or false": "{} 必须是 true 或 false",
    "{k} is {}; it must be a whole number from {} to {}": "{} 为 {}；必须是 {} 到 {} 的整数",
    "{k} is {}; it must be a number from {} to {}": "{} 为 {}；必须是 {} 到 {} 的数",
    "{k} is {}; it must be from {} to {}": "{} 为 {}；必须在 {} 到 {} 之间",
    "{k} is {}; {}": "{} 为 {}；{}",
    "{k} must be at least {}": "{} 至少为 {}",
    '{k} must name at least one address, as in ["0.0.0.0:2048"]': (
        '{} 至少要有一个地址，例如 ["0.0.0.0:2048"]'
    ),
    "{k} has {}; write ADDRESS:PORT, as in 0.0.0.0:2048 or [::]:2048": (
        "{} 中有 {}；请写 地址:端口，例如 0.0.0.0:2048 或 [::]:2048"
    ),
    "{k} has {}; a port is a number from 1 to 65535": "{} 中有 {}；端口是 1 到 65535 的数",
    "{k} has {}; {}": "{} 中有 {}；{}",
    'write SCHEME://HOST[:PORT] in small letters, without a path, or ["*"] for all': (
        '请用小写写 SCHEME://HOST[:PORT]，不带路径，或写 ["*"] 表示全部'
    ),
    "{k} has {}; browsers leave {} out, so leave it out here": (
        "{0} 中有 {1}；浏览器不写 {2}，这里也请去掉"
    ),
    '{k} has "*", which is all origins, beside others; leave one out': (
        '{} 在其他来源之外又有 "*"（所有来源）；请去掉一个'
    ),
    "{k} has {}; write an address or a network, as 10.0.0.0/8": (
        "{} 中有 {}；请写地址或网段，如 10.0.0.0/8"
    ),
    "{k} has {}; that network is written {}": "{} 中有 {}；该网段应写作 {}",
    "{k} has {}, which is everyone; name the proxies alone": "{} 中有 {}，即所有人；只写代理的地址",
    "{k} is {}; write http://HOST:PORT, without a path": (
        "{} 为 {}；请写 http://HOST:PORT，不带路径"
    ),
    "{k} has a user or password in it; vLLM asks for none, leave it out": (
        "{} 中有用户名或密码；vLLM 不需要，请去掉"
    ),
    "{k} has a user or password in it, which ER does not send; leave it out": (
        "{} 中有用户名或密码，ER 不会发送；请去掉"
    ),
    "{k} must begin with valkey://, valkeys:// (TLS), valkey+sentinel:// or valkey+cluster://, "
    'as in "{}"': (
        "{} 必须以 valkey://、valkeys://（TLS）、valkey+sentinel:// 或 valkey+cluster:// 开头，"
        '例如 "{}"'
    ),
    "{k} has a password in it; put it into a file of its own: password_file": (
        "{} 中有密码；请放进单独的文件：password_file"
    ),
    '{k} has more behind the address; write it as in "{}"': '{} 在地址之后还有内容；请写成 "{}"',
    "{k} names several servers; write valkey+sentinel:// or valkey+cluster:// for them": (
        "{} 写了几台服务器；请用 valkey+sentinel:// 或 valkey+cluster://"
    ),
    '{k} must end with what the Sentinels call it: "valkey+sentinel://HOST:26379/NAME"': (
        '{} 末尾必须是 Sentinel 所用的名称："valkey+sentinel://HOST:26379/NAME"'
    ),
    '{k} must end with the number of a database or nothing, as in "{}/0"': (
        '{} 末尾只能是数据库的编号，或什么也不写，例如 "{}/0"'
    ),
    '{k} has {} for an address; write HOST:PORT, as in "{}"': (
        '{} 中的地址为 {}；请写 HOST:PORT，例如 "{}"'
    ),
    '{k} is missing from [state]; as in url = "{}"': '[state] 缺少 {}；例如 url = "{}"',
    "{k} is {}; use a-z, 0-9 and -, up to 48 of them": "{} 为 {}；请用 a-z、0-9 和 -，最多 48 个",
    "{k} and key belong together; give both or none": "{} 和 key 须同时写，或都不写",
    '{k} asks for no TLS, but ca or certificate is set; write "valkeys://…"': (
        '{} 没有要求 TLS，却写了 ca 或 certificate；请写 "valkeys://…"'
    ),
    "{k} is missing from [state]: a user has a password": "[state] 缺少 {}：有用户就有密码",
    "[host] is for machines that share a [state]; add that table": (
        "[host] 用于共享 [state] 的机器；请加上该表"
    ),
    '{k} is {}; write HOST:PORT, as in "10.0.0.11:2049"': (
        '{} 为 {}；请写 HOST:PORT，例如 "10.0.0.11:2049"'
    ),
    "{k} has a user or password in it; leave it out: er help tracing": (
        "{} 中有用户名或密码；请去掉：er help tracing"
    ),
    '{k} has {}; write an index, a UUID ("GPU-…", "MIG-…") or "cpu"': (
        '{} 中有 {}；请写序号、UUID（"GPU-…"、"MIG-…"）或 "cpu"'
    ),
    "{k} must name each GPU once, and at least one": "{} 至少写一块 GPU，每块只写一次",
    '{k} must be a table of texts, as in { KEY = "value" }': (
        '{} 必须是文本的表，例如 { KEY = "value" }'
    ),
    "{k} has {}; a variable's name is not empty and has no =": (
        "{} 中有 {}；变量名不能为空，也不能含 ="
    ),
    "{k} is {}; write small letters, digits and -, 48 at most": (
        "{} 为 {}；请用小写字母、数字和 -，最多 48 个"
    ),
    '{k} is for kind = "feishu" and "dingtalk"; leave it out': (
        '{} 只用于 kind = "feishu" 和 "dingtalk"；请去掉'
    ),
    "{k} has {}; it takes: {}": "{} 中有 {}；可用：{}",
    '{k} names nothing to be told of, as in on = ["down", "recovered"]': (
        '{} 没有写要通知的事，例如 on = ["down", "recovered"]'
    ),
    '{k} is no absolute path; write the file\'s, as in {} = "/etc/er/robot"': (
        '{} 不是绝对路径；请写文件的路径，例如 {} = "/etc/er/robot"'
    ),
    "{k} stands beside a webhook; write an [[alert]] for each": (
        "{} 不能与 webhook 同时出现；请各写一个 [[alert]]"
    ),
    '{k} must begin with an absolute path, as in ["/usr/local/bin/page-me"]': (
        '{} 必须以绝对路径开头，例如 ["/usr/local/bin/page-me"]'
    ),
    "write webhook or webhook_file: the address, or a file with nothing else in it": (
        "请写 webhook 或 webhook_file：即地址，或只含该地址的文件"
    ),
    "{k} is no address; write https://HOST/…, as its maker shows it": (
        "{} 不是地址；请照机器人页面给出的写 https://HOST/…"
    ),
    '{k} is {}; write http://HOST:PORT, as in "{}"': '{} 为 {}；请写 http://HOST:PORT，例如 "{}"',
    "{k} is {}; leave out /v1/traces, which ER puts there itself": (
        "{} 为 {}；请去掉 /v1/traces，ER 会自己加上"
    ),
    "{k} has port 4317, where collectors take gRPC; OTLP over HTTP is on 4318": (
        "{} 的端口是 4317，采集器在那里收 gRPC；HTTP 上的 OTLP 用 4318"
    ),
    'write a time as "600s", "10m", "2h", "30d" or "250ms"': (
        '时间请写作 "600s"、"10m"、"2h"、"30d" 或 "250ms"'
    ),
    "{k} is what hosts share in their [state], and there is no such table": (
        "{} 是各主机在 [state] 里共享的，而这里没有这个表"
    ),
    "{k} needs a cache of this host's own; give size, too": "{} 需要本机自己的缓存；请也写 size",
    "{k} needs batches of this host's own; give quota, too": (
        "{} 需要本机自己的批处理；请也写 quota"
    ),
    'write a size as "32MiB" or "6GiB"': '大小请写作 "32MiB" 或 "6GiB"',
    'write a rate as "100/minute", "5/second", "1000/hour", or "off"': (
        '速率请写作 "100/minute"、"5/second"、"1000/hour"，或 "off"'
    ),
    'write a quota as "50M tokens/month", "100000 requests/month", or "off"': (
        '配额请写作 "50M tokens/month"、"100000 requests/month"，或 "off"'
    ),
    (
        '{} is not a time; write a span ("30d", "12h"), a date ("2027-01-31"), a moment '
        '("2027-01-31T18:00:00Z") or "never"'
    ): (
        '{} 不是时间；请写时长（"30d"、"12h"）、日期（"2027-01-31"）、时刻（'
        '"2027-01-31T18:00:00Z"）或 "never"'
    ),
    "{} is already over; write a time in the future": "{} 已经过去；请写将来的时间",
    (
        '{} is not a time; write how long ago ("7d", "2h"), a date ("2026-11-01") or a moment '
        '("2026-11-01T18:00:00Z")'
    ): (
        '{} 不是时间；请写多久以前（"7d"、"2h"）、日期（"2026-11-01"）或时刻（'
        '"2026-11-01T18:00:00Z"）'
    ),
    "{k} must be an [{}] table": "{} 必须是 [{}] 表",
    "{k} is {}; it must be a whole number": "{} 为 {}；必须是整数",
    "it must be a whole number": "必须是整数",
}
