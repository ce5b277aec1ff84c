"""Chinese: er connect, tls, usage, audit, feedback, report, sbom, alert."""

from __future__ import annotations

SAID: dict[str, str] = {
    "--url: {}": "--url：{}",
    "er check tells more; this needs root or group er: sudo er connect …": (
        "er check 有更多说明；这需要 root 或 er 组：sudo er connect …"
    ),
    "{}: {}; use sudo": "{}：{}；请用 sudo",
    "{} is not as https://er.example": "{} 不是 https://er.example 的形式",
    "without a name or password in it": "其中不要有用户名或密码",
    "The key: `{}`, which shows its secret (sk-er-…) once": "密钥：`{}`，密文（sk-er-…）只显示一次",
    "key {} has expired; make another: sudo er keys create --name {}": (
        "密钥 {} 已到期；请另建：sudo er keys create --name {}"
    ),
    "key {} is revoked; make another: sudo er keys create --name {}": (
        "密钥 {} 已吊销；请另建：sudo er keys create --name {}"
    ),
    "key {} {}; make another: sudo er keys create --name {}": (
        "密钥 {} {}；请另建：sudo er keys create --name {}"
    ),
    "has expired": "已到期",
    "is revoked": "已吊销",
    "key {} may not embed or rank; {}": "密钥 {} 无权做嵌入或排序；{}",
    (
        "The key: {}. ER keeps no secrets, it was shown when the key was made. Lost: `sudo er "
        "keys rotate {}`"
    ): ("密钥：{}。ER 不保存密文，只在创建时显示过。丢失了：`sudo er keys rotate {}`"),
    "Its rate is {}": "它的限速为 {}",
    "Its rate is {}, which indexing goes over: {}": "它的限速为 {}，建索引会超过：{}",
    "{}, which indexing goes over: {}": "{}，建索引会超过：{}",
    "It may ask from {} alone": "它只能从 {} 请求",
    "It ends on {}": "它于 {} 到期",
    "At most {} requests at once, all clients together; over that 503, to ask again": (
        "所有客户端合计同时最多 {} 个请求；超过则 503，请稍后重试"
    ),
    "there is no model {}; there are: {}": "没有模型 {}；现有：{}",
    "{} has no model yet: er help configuration": "{} 中还没有模型：er help configuration",
    "none of those here": "这里的都不行",
    "the key may use {}; er keys set KEY --models … changes it": (
        "该密钥可用 {}；用 er keys set KEY --models … 修改"
    ),
    "Other models here, for --model: {}": "这里的其他模型，可用 --model 指定：{}",
    "Limits are those of er.toml and the models' files, as nobody could be asked: {}": (
        "限额取自 er.toml 和模型文件，因为没有可询问的网关：{}"
    ),
    "no folder": "没有目录",
    "{}: texts of up to {} tokens; at most {} texts and {} tokens in a request": (
        "{}：文本最多 {} 个 token；每个请求最多 {} 条文本、{} 个 token"
    ),
    (
        "{}: vectors of {} numbers, texts of up to {} tokens; at most {} texts and {} tokens in "
        "a request"
    ): ("{}：向量 {} 维，文本最多 {} 个 token；每个请求最多 {} 条文本、{} 个 token"),
    "{}: {}texts of up to {} tokens; at most {} texts and {} tokens in a request": (
        "{}：{}文本最多 {} 个 token；每个请求最多 {} 条文本、{} 个 token"
    ),
    "vectors of {} numbers,": "向量 {} 维，",
    "vectors of {} numbers": "向量 {} 维",
    (
        "{}: query and document together up to {} tokens (longer documents are cut); at most {} "
        "documents in a request"
    ): ("{}：查询和文档合计最多 {} 个 token（更长的文档会截断）；每个请求最多 {} 个文档"),
    "field": "字段",
    "embedding model": "嵌入模型",
    "reranker": "重排模型",
    "Dify, plugin OpenAI-API-compatible, Add Model (more: er help dify)": (
        "Dify，插件 OpenAI-API-compatible，Add Model（详见 er help dify）"
    ),
    "RAGFlow, Model providers, OpenAI-API-Compatible (more: er help ragflow)": (
        "RAGFlow，Model providers，OpenAI-API-Compatible（详见 er help ragflow）"
    ),
    "FastGPT, Account, Models (more: er help fastgpt)": (
        "FastGPT，账号，模型（详见 er help fastgpt）"
    ),
    "In the index model's JSON:": "索引模型的 JSON：",
    "Open WebUI's variables, for .env or compose (more: er help open-webui)": (
        "Open WebUI 的变量，用于 .env 或 compose（详见 er help open-webui）"
    ),
    "LangChain: pip install langchain-cohere{} (more: er help langchain)": (
        "LangChain：pip install langchain-cohere{}（详见 er help langchain）"
    ),
    "LangChain: pip install langchain-cohere (more: er help langchain)": (
        "LangChain：pip install langchain-cohere（详见 er help langchain）"
    ),
    "For a vector store: it marks questions as such. truncate: refuse long texts.": (
        "用于向量库：它会标明哪些是问题。truncate：拒绝过长的文本。"
    ),
    "By OpenAI's class, which marks none: one object for documents, one for questions.": (
        "OpenAI 的类不作标明：文档用一个对象，问题用另一个。"
    ),
    "check_embedding_ctx_length=False,  # send texts, not OpenAI's tokens": (
        "check_embedding_ctx_length=False,  # 发送文本，而不是 OpenAI 的 token"
    ),
    "chunk_size={},  # texts in a request": "chunk_size={},  # 每个请求的文本数",
    "LlamaIndex: pip install {} (more: er help langchain)": (
        "LlamaIndex：pip install {}（详见 er help langchain）"
    ),
    "One object for documents, to build the index; one for questions, to ask.": (
        "一个对象用于文档，建索引；一个用于问题，查询。"
    ),
    "more: er help api": "详见 er help api",
    "The key comes from the variable {}: {}": "密钥取自变量 {}：{}",
    (
        "The gateway listens on loopback alone: only programs of this machine reach it, and no "
        "container but with network_mode: host. For others: {}"
    ): (
        "网关只监听回环地址：只有本机的程序能访问，容器要用 network_mode: host。要让其他机器访问"
        "：{}"
    ),
    '`listen = ["0.0.0.0:{}"]` in [gateway] of er.toml, then: `sudo er apply`': (
        '在 er.toml 的 [gateway] 中写 `listen = ["0.0.0.0:{}"]`，然后：`sudo er apply`'
    ),
    "This machine has other addresses too: {}": "本机还有其他地址：{}",
    "The gateway wants a certificate of its clients: er help tls": (
        "网关要求客户端出示证书：er help tls"
    ),
    "HTTPS is at {}, for clients that were told to trust its certificate: er help tls": (
        "HTTPS 在 {}，供已信任其证书的客户端使用：er help tls"
    ),
    "This is plain HTTP on a public address; er doctor says what to do": (
        "这是公网地址上的明文 HTTP；er doctor 会说明怎么办"
    ),
    "The certificate is for {}: clients must reach this machine by one of these": (
        "证书的名称为 {}：客户端必须用其中之一访问本机"
    ),
    "names that can't be read here (sudo er tls show)": "这里无法读取（sudo er tls show）",
    (
        "Containers of this machine also reach it at {}, or at {} with `extra_hosts: "
        '["host.docker.internal:host-gateway"]`; not at localhost. er doctor tells whether a '
        "firewall is between"
    ): (
        '本机的容器也可用 {} 访问，或加上 `extra_hosts: ["host.docker.internal:host-gateway"]` 后'
        "用 {}；不能用 localhost。er doctor 会说明是否有防火墙阻挡"
    ),
    # tls
    "--days {}: from 1 to {}": "--days {}：1 到 {}",
    "certificate  {}": "证书         {}",
    "key          {} (mode 0600)": "私钥         {}（权限 0600）",
    "for          {}": "名称         {}",
    "until        {}": "有效至       {}",
    "HTTPS begins with these lines in er.toml, and: sudo er apply": (
        "在 er.toml 中写上以下几行，再 sudo er apply，HTTPS 就启用了"
    ),
    "Clients trust it when they have {}, which is no secret:": (
        "客户端有了 {} 就会信任它，这个文件不是机密："
    ),
    "SSL_CERT_FILE={}          (Python's httpx, openai and the like)": (
        "SSL_CERT_FILE={}          （Python 的 httpx、openai 等）"
    ),
    "{} has no [gateway.tls]; see: er help tls": "{} 中没有 [gateway.tls]；见：er help tls",
    "configured   {}": "已配置   {}",
    "served       {}": "在使用   {}",
    "nothing: {}": "没有：{}",
    "the same": "相同",
    "not the one configured: sudo er tls renew says why": (
        "不是已配置的那个：sudo er tls renew 会说明原因"
    ),
    "for        {}": "名称       {}",
    "issued by  {}; key {}": "签发者     {}；私钥 {}",
    "until      {}, {} days": "有效至     {}，{} 天",
    "not handed over, the gateway reads the files at its start: {}": (
        "没有交接，网关会在启动时读取文件：{}"
    ),
    "in force: {}, until {}, {}": "已生效：{}，至 {}，{}",
    "nothing new: what is in force ends on {}": "没有新的：在用的于 {} 到期",
    "the files change all the time; try again when they are at rest": (
        "文件一直在变；请等它们稳定后再试"
    ),
    "no connection of HTTPS can be accepted: {}": "无法接受任何 HTTPS 连接：{}",
    "{}, a trusted proxy, is refused: {}": "受信任的代理 {} 被拒绝：{}",
    # usage and audit
    "this reads {}, which needs root or group er: sudo er {} …": (
        "这要读取 {}，需要 root 或 er 组：sudo er {} …"
    ),
    "--since {} is not before --until {}": "--since {} 不早于 --until {}",
    "names and teams of keys are not known: {}": "密钥的名称和团队未知：{}",
    "lines that can't be read are left out: {}": "无法读取的行已略过：{}",
    "--by {}: sums are by {}, with commas between": "--by {}：可按 {} 汇总，用逗号分隔",
    "{}Z to {}Z": "{}Z 至 {}Z",
    "REQUESTS": "请求",
    "REFUSED": "拒绝",
    "TEXTS": "文本",
    "TOKENS": "token",
    "TOTAL": "合计",
    "HOUR": "小时",
    "DAY": "日",
    "MONTH": "月",
    "CLICKS": "点击",
    "RATINGS": "评分",
    "key": "密钥",
    "model": "模型",
    "team": "团队",
    "hour": "小时",
    "day": "日",
    "month": "月",
    "requests": "请求",
    "texts": "文本",
    "tokens": "token",
    "total": "合计",
    "refused": "拒绝",
    (
        "there is no journalctl here. Without systemd the records are the lines that begin with "
        "{ on er-gateway's standard output"
    ): ("这里没有 journalctl。没有 systemd 时，记录就是 er-gateway 标准输出中以 { 开头的行"),
    "journalctl ended with {}: {}": "journalctl 以 {} 结束：{}",
    "er audit: no such record": "er audit: 没有这样的记录",
    "-n {}: write how many of the last records, as in -n 20": "-n {}：请写最近多少条，例如 -n 20",
    "--follow and --until don't go together": "--follow 和 --until 不能同时使用",
    "--follow goes on from --since or from the last -n, not from both": (
        "--follow 从 --since 或最近 -n 条开始，不能两者都给"
    ),
    '--status {}: write statuses or their hundreds, as in "4xx,503"': (
        '--status {}：请写状态码或其百位，例如 "4xx,503"'
    ),
    "--since: {}": "--since：{}",
    "--until: {}": "--until：{}",
    # feedback, report, sbom
    "no feedback to requests since {}; er help feedback": "{} 以来的请求没有反馈；er help feedback",
    "{n} feedbacks to requests since {}": "{1} 以来的请求有 {0} 条反馈",
    "click, rank {}": "点击，第 {} 位",
    "{} is written": "已写入 {}",
    "--since {}: at most {} days; 400 are kept": "--since {}：最多 {} 天；保留 400 天",
    "it answered {}": "它返回 {}",
    "vLLM has no environment of its own in {}; install.sh makes one, or set ER_VLLM_PYTHON": (
        "{} 中没有 vLLM 自己的环境；install.sh 会建立，或设置 ER_VLLM_PYTHON"
    ),
    "no page {}; there are: {}": "没有 {} 这一页；现有：{}",
    # alert
    "no alert {}; there are: {}": "没有通知 {}；现有：{}",
    "none there; {}": "没有；{}",
    "{w}: sent to {}: {}": "{}：已发给 {}：{}",
    "{w}: not sent to {}: {}": "{}：没有发给 {}：{}",
    "{} took it (HTTP {})": "{} 已接收（HTTP {}）",
    "what stands in webhook_file {} is no address": "webhook_file {} 中的内容不是地址",
    "what stands in webhook_file {} {}": "webhook_file {} 中的内容{}",
    "{} {} is no text": "{} {} 不是文本",
    "{} {} must hold one line": "{} {} 必须只有一行",
    "{}, its address in {}": "{}，地址在 {} 中",
    "its name is not known: {}": "无法解析其主机名：{}",
    "its certificate is not trusted: {}": "其证书不受信任：{}",
    "{} can't be run: {}": "{} 无法运行：{}",
    "{} was not done within {} s, and was ended": "{} 在 {} 秒内没有完成，已被结束",
    "{} ended with {}": "{} 以 {} 结束",
    "it answered HTTP {}": "它返回 HTTP {}",
    "it answered what a {} robot does not: {}": "它返回的不像 {} 机器人：{}",
    "it refused the message: {}": "它拒绝了消息：{}",
    "{} has {n} lines that can't be read; {} can": "{} 中有 {} 行无法读取；{} 行可以",
    "{}, and are kept. A copy of all is {}": "{}，已保留。全部的副本在 {}",
    "{} has {n} lines that can't be read; {} can, and are kept. A copy of all is {}": (
        "{} 中有 {} 行无法读取；{} 行可以，已保留。全部的副本在 {}"
    ),
    "{} has {n} damaged rows; a copy is kept as {}": "{} 中有 {} 行损坏；副本保存为 {}",
    "{} is damaged": "{} 已损坏",
    "{} was over {} MiB; {} was removed": "{} 超过 {} MiB；已删除 {}",
    "{w} at {w}": "{}（{}）",
}
