"""Chinese: the command line: er, er --help, each command's options, wrong use."""

from __future__ import annotations

SAID: dict[str, str] = {
    "er {w}: embedding and reranking on your own GPUs": (
        "er {}：在自己的 GPU 上做 embedding 和 rerank"
    ),
    "what runs, what does not, and why": "什么在运行，什么没有，为什么",
    "waits until every replica answers": "等到每个副本都能应答",
    "looks for the cause of trouble": "查找故障原因",
    "who may ask; create, rotate, revoke, set": "谁可以请求；create、rotate、revoke、set",
    "the certificate of HTTPS: make one, show it, renew it": "HTTPS 证书：生成、查看、更换",
    "who asked what, and what became of it": "谁请求了什么，结果如何",
    "requests, texts and tokens by key, team, model, month": (
        "按密钥、团队、模型、月份统计请求、文本和 token"
    ),
    "how fast it is, measured on the running service": "在运行中的服务上实测速度",
    "a file of texts into a file of vectors": "把文本文件变成向量文件",
    "what is wrong with er.toml on this machine": "er.toml 在本机上有什么问题",
    "makes systemd match er.toml": "让 systemd 与 er.toml 一致",
    "restarts a replica so that nobody is refused": "重启副本，不拒绝任何请求",
    "the manual": "手册",
    "what to paste into Dify, LangChain and others": "贴到 Dify、LangChain 等应用里的内容",
    "whether messages of trouble arrive: er alert test": "故障通知能否送达：er alert test",
    "what load it carries, and what to change first": "能承载多大负载，先改什么",
    "how good the answers are, and which replica's drifted": "结果质量如何，哪个副本漂移了",
    "what clients said of their answers": "客户端对结果的反馈",
    "what takes how much of the disk": "各占多少磁盘",
    "remove versions and leftovers that nothing uses": "删除没有用到的版本和残留",
    "a page on the last days, for you and your boss": "最近几天的一页报告，给自己和上司看",
    "er.toml, keys, usage, ... in one file": "er.toml、密钥、用量等，存成一个文件",
    "takes up such a file; --undo": "从这样的文件恢复；--undo",
    "Start and stop: sudo systemctl start er.target, sudo systemctl stop er.target": (
        "启动和停止：sudo systemctl start er.target，sudo systemctl stop er.target"
    ),
    # argparse's own
    "usage: {}": "用法：{}",
    "More: {} --help": "详见：{} --help",
    "options": "选项",
    "positional arguments": "位置参数",
    "show this help message and exit": "显示本说明并退出",
    "show program's version number and exit": "显示版本号并退出",
    "the following arguments are required: {}": "缺少以下参数：{}",
    "unrecognized arguments: {}": "无法识别的参数：{}",
    "argument {}: invalid choice: {} (choose from {})": "参数 {}：无效的取值 {}（可选：{}）",
    "argument {}: invalid int value: {}": "参数 {}：{} 不是整数",
    "argument {}: invalid float value: {}": "参数 {}：{} 不是数",
    "argument {}: invalid {w} value: {}": "参数 {0}：{2} 不是有效的 {1}",
    "argument {}: expected one argument": "参数 {}：需要一个值",
    "argument {}: expected at least one argument": "参数 {}：至少需要一个值",
    "argument {}: ignored explicit argument {}": "参数 {}：不接受值 {}",
    "argument {}: not allowed with argument {}": "参数 {}：不能与 {} 同时使用",
    "ambiguous option: {} could match {}": "选项 {} 有歧义：可能是 {}",
    "one of the arguments {} is required": "需要以下参数之一：{}",
    # descriptions
    "Embedding and reranking on your own GPUs.": "在自己的 GPU 上做 embedding 和 rerank。",
    "say what is wrong with er.toml, in itself and on this machine": (
        "检查 er.toml 本身以及在本机上有什么问题"
    ),
    "make systemd match er.toml, restarting only what changed": (
        "让 systemd 与 er.toml 一致，只重启有变化的部分"
    ),
    "take up what needs no restart; returns when it is in force": (
        "让不需要重启的改动生效；生效后返回"
    ),
    "restart replicas one after the other; nobody is refused": "逐个重启副本；不拒绝任何请求",
    "show what runs; exit 0 ok, 1 degraded, 2 down, 3 unknown": (
        "显示运行状态；退出码 0 正常，1 部分可用，2 不可用，3 未知"
    ),
    "wait until every replica answers, showing phases": "等到每个副本都能应答，并显示各阶段",
    "give a replica nothing new": "不再给某个副本新请求",
    "give a drained replica work again": "让已排空的副本恢复工作",
    "the clients' keys": "客户端的密钥",
    "the certificate of HTTPS": "HTTPS 证书",
    "measure the running service: rate and percentiles": "实测运行中的服务：速率和百分位数",
    "embed the texts of a file; goes on where it was interrupted": (
        "把文件中的文本变成向量；中断后可接着做"
    ),
    "look for the cause of trouble, with cures": "查找故障原因，并给出解决办法",
    "requests, texts and tokens, for bills; also with the gateway down": (
        "请求、文本和 token 用量，可用于账单；网关停止时也可用"
    ),
    "the records of requests and changes; --follow: as they come": (
        "请求和改动的记录；--follow：实时显示"
    ),
    "what is installed, with licences and hashes, as CycloneDX JSON": (
        "已安装的组件及其许可证和哈希，CycloneDX JSON 格式"
    ),
    "the manual's pages": "手册",
    "print what to paste into a client: address, models, limits, code or form": (
        "打印要贴到客户端的内容：地址、模型、限额、代码或表单"
    ),
    "try whom er.toml's [[alert]] tables tell of trouble": (
        "试发 er.toml 的 [[alert]] 所设的故障通知"
    ),
    "measure what load this machine carries, and what to change first": (
        "测量本机能承载多大负载，以及先改什么"
    ),
    "how good the answers are, and what drifted": "结果质量如何，有什么漂移",
    "what clients said of their answers: clicks, ratings, online MRR": (
        "客户端对结果的反馈：点击、评分、在线 MRR"
    ),
    "what takes how much of the disk, what holds it, what frees it": (
        "各占多少磁盘，由什么限制，怎样释放"
    ),
    "remove what nothing of ER uses any more; says it first": "删除 ER 不再使用的东西；先列出再删",
    "a page on traffic, latency, quality, capacity, keys and incidents": (
        "一页报告：流量、延迟、质量、承载能力、密钥和事件"
    ),
    "one file with er.toml, keys, usage, feedback, quality, history; while it runs": (
        "把 er.toml、密钥、用量、反馈、质量、历史存成一个文件；运行中即可"
    ),
    "take up a backup: checked first, shown, asked; what was there is kept": (
        "从备份恢复：先校验、列出、确认；原有内容会保留"
    ),
    # options
    "another file than er.toml": "er.toml 以外的另一个文件",
    "for programs": "供程序使用",
    "for programs; only with --dry-run": "供程序使用；只能与 --dry-run 合用",
    "show what would be done": "显示将要做什么",
    "go back to the one before": "回到上一份配置",
    "what is applied, er.toml aside": "按已应用的配置，不看 er.toml",
    'as "10m" (default: 30m)': '如 "10m"（默认 30m）',
    "the replica's name": "副本名",
    "with vLLM's environment (default: where there is one)": "包括 vLLM 的环境（默认：有则包括）",
    "en or zh (default: by LC_ALL, LC_MESSAGES, LANG)": (
        "en 或 zh（默认按 LC_ALL、LC_MESSAGES、LANG）"
    ),
    "replicas, in the order of er.toml; all: every one": "副本，按 er.toml 中的顺序；all：全部",
    "in place of names: its replicas": "代替副本名：该模型的副本",
    "each while another of its model serves": "每个都在同一模型的另一副本提供服务时重启",
    "each while a successor serves that is started beside it, where memory allows": (
        "内存够时先在旁边启动接替副本，由它提供服务"
    ),
    "where neither is possible: accept 503 for as long as it takes": "两种都不行时：接受期间的 503",
    "all keys, without secrets": "全部密钥，不含密文",
    "all that is said of one key": "某个密钥的全部信息",
    "make a key; its secret is shown once": "新建密钥；密文只显示一次",
    "a new secret; the old stays good for a while": "换新密文；旧密文暂时仍有效",
    "end a key at once": "立即吊销密钥",
    "change a key": "修改密钥",
    "another server's keys; clients keep theirs": "导入其他服务的密钥；客户端继续用原来的",
    "its id, or a name that only it has": "密钥的 id，或只有它使用的名称",
    '"30d", "2027-01-31" or "never"': '"30d"、"2027-01-31" 或 "never"',
    'plain text or JSON, in any usual form; "-": standard input': (
        '纯文本或 JSON，常见格式均可；"-"：标准输入'
    ),
    "show what would come in": "显示将会导入什么",
    "also keys of under 16 characters": "也接受不足 16 个字符的密钥",
    "default: {}": "默认 {}",
    "make a certificate and its key": "生成证书及其私钥",
    "a host or an address; may be said again (default: what this machine is called)": (
        "主机名或地址，可重复（默认：本机的名称）"
    ),
    "write over what is there": "覆盖已有的文件",
    "what is configured, and what is served": "配置的证书，以及实际使用的证书",
    "hand the files to the running gateway, as root": "以 root 把文件交给运行中的网关",
    "sums by key, team, model, hour, day, month, with commas (default: key)": (
        "按 key、team、model、hour、day、month 汇总，用逗号分隔（默认 key）"
    ),
    '"7d", "2026-11-01" or a moment (default: the first of this month, UTC)': (
        '"7d"、"2026-11-01" 或某一时刻（默认：本月一日，UTC）'
    ),
    "up to there (default: now)": "到此为止（默认：现在）",
    "of this id or name alone": "只看这个 id 或名称的",
    "of this model alone": "只看这个模型的",
    "for spreadsheets and bills": "用于电子表格和账单",
    '"1000/minute", "off" or "default"': '"1000/minute"、"off" 或 "default"',
    'names, or "all"': '模型名，或 "all"',
    'of inference, metrics, admin-read; or "default"': (
        'inference、metrics、admin-read 中的若干，或 "default"'
    ),
    'whose it is, for lists and usage; or "none"': '属于谁，用于列表和用量，或 "none"',
    'requests at once, or "off"': '同时的请求数，或 "off"',
    '"1000000/minute" or "off"': '"1000000/minute" 或 "off"',
    '"50M tokens/month", "100000 requests/month" or "off"': (
        '"50M tokens/month"、"100000 requests/month" 或 "off"'
    ),
    '"10.0.0.0/8,192.0.2.7", where it may ask from; or "all"': (
        '"10.0.0.0/8,192.0.2.7"，可以从哪里请求，或 "all"'
    ),
    "its share beside other keys when it is busy (default: 1)": (
        "繁忙时与其他密钥分配的权重（默认 1）"
    ),
    'of this address alone, as "/v1/embeddings"': '只看这个路径的，如 "/v1/embeddings"',
    "of this request alone": "只看这个请求",
    'as "4xx,503"': '如 "4xx,503"',
    '"2h", "2026-11-01" or a moment': '"2h"、"2026-11-01" 或某一时刻',
    "up to there": "到此为止",
    "go on with what comes": "持续显示新的记录",
    "the last N (default: 50; all with --since, --until or --request-id)": (
        "最近 N 条（默认 50；有 --since、--until 或 --request-id 时为全部）"
    ),
    "a line of JSON each, for programs": "每条一行 JSON，供程序使用",
    "default: the first one of the task": "默认：该任务的第一个模型",
    "default: the model's": "默认：模型的任务",
    "that ask at once, each one request at a time (default: {})": (
        "同时请求的客户端数，每个一次一个请求（默认 {}）"
    ),
    "in a text, about (default: {})": "每条文本约多少 token（默认 {}）",
    "texts (documents) in a request (default: {})": "每个请求的文本（文档）数（默认 {}）",
    "another service, with the key in ER_API_KEY (default: gateway.sock, without a key)": (
        "另一个服务，密钥放在 ER_API_KEY（默认 gateway.sock，不用密钥）"
    ),
    'JSON lines, or texts where it ends in .txt; .gz too; "-": standard input': (
        'JSON 行；以 .txt 结尾则为文本；也可 .gz；"-"：标准输入'
    ),
    "the rows with their vectors: .parquet or .jsonl": "各行及其向量：.parquet 或 .jsonl",
    "the text's (default: text)": "文本所在的字段（默认 text）",
    "each line is a text": "每行是一条文本",
    "what the vectors' is called (default: embedding)": "向量的字段名（默认 embedding）",
    "default: the first embedding model": "默认：第一个嵌入模型",
    "the texts are queries": "文本是查询",
    "(default: the model's kind)": "（默认按模型）",
    "the task in a sentence, for queries": "用一句话说明任务，用于查询",
    "the first so many numbers": "只取前若干个数",
    "cut the end of texts that are too long": "过长的文本截去末尾",
    "rows that are empty, too long or no row: end there (default), or leave them out": (
        "遇到空行、过长或无效的行：就此结束（默认），或略过"
    ),
    "texts in a request (default: {})": "每个请求的文本数（默认 {}）",
    "requests at once (default: {})": "同时的请求数（默认 {}）",
    "another service, with a key (default: gateway.sock, without one)": (
        "另一个服务，要密钥（默认 gateway.sock，不用密钥）"
    ),
    "a file with the key for --url (default: the variable ER_API_KEY)": (
        "存放 --url 所用密钥的文件（默认：变量 ER_API_KEY）"
    ),
    "begin anew, over what is there": "从头开始，覆盖已有的",
    'how far back: "7d", "2026-11-01" or a moment (default: 7d)': (
        '从何时起："7d"、"2026-11-01" 或某一时刻（默认 7d）'
    ),
    'a page; "-": to standard output': '网页；"-"：写到标准输出',
    "as text, the default": "文本格式，默认",
    "default: as LANG says": "默认按 LANG",
    "this one alone": "只测这一个",
    "how long it may take (default: 3)": "最多用多少分钟（默认 3）",
    "the p99 that is good enough (default: 5 times that of a quiet machine)": (
        "可接受的 p99（默认：空闲时的 5 倍）"
    ),
    "in a text, numbers with commas (default: {})": "每条文本的 token 数，用逗号分隔（默认 {}）",
    "texts, numbers with commas (default: {})": "每个请求的文本数，用逗号分隔（默认 {}）",
    "another service, with the key in ER_API_KEY; nothing is kept of it": (
        "另一个服务，密钥放在 ER_API_KEY；不保存其结果"
    ),
    "load it without asking": "不询问就开始加载",
    'requests answered since: "7d", "2026-11-01" or a moment (default: 7d)': (
        '从何时起的请求："7d"、"2026-11-01" 或某一时刻（默认 7d）'
    ),
    "an id or a name; repeatable": "id 或名称；可重复",
    "repeatable": "可重复",
    "a line for each feedback": "每条反馈一行",
    "the key it will use: its id or name": "它要用的密钥：id 或名称",
    "this model in place of the first of its task; repeatable": (
        "用这个模型代替该任务的第一个；可重复"
    ),
    "the address that clients use, of a proxy before the gateway": (
        "客户端使用的地址，即网关前的代理"
    ),
    "also what vLLM compiled; its next start takes longer": (
        "也删除 vLLM 的编译结果；下次启动会更久"
    ),
    "show what would go": "显示将会删除什么",
    "remove it without asking": "不询问就删除",
    "where to; a backup that is there is written over, nothing else": (
        "写到哪里；已有的备份会被覆盖，其他文件不会"
    ),
    "with certificate and private key of HTTPS, where they lie beside er.toml": (
        "包括 HTTPS 的证书和私钥（如与 er.toml 放在一起）"
    ),
    "what er backup wrote, here or on another machine": "er backup 写的文件，本机或其他机器的",
    "bring back what the last restore took the place of": "找回上次恢复所替换的内容",
    "check it, show what would be done": "只校验，并显示将要做什么",
    "do it without asking": "不询问就执行",
    'name one with an [[alert]] in er.toml, as in kind = "feishu"; er help alerts': (
        '请在 er.toml 中写一个 [[alert]]，例如 kind = "feishu"；er help alerts'
    ),
    "example: sudo er alert test --name page. Who is told, and when: er help alerts": (
        "例如：sudo er alert test --name page。通知谁、何时通知：er help alerts"
    ),
    "send a test message to each, and say what came of it": "给每一个发测试消息，并说明结果",
    "to this alert alone": "只发给这一个",
    "as units run, not as er.toml is now": "按单元运行所用的配置，而不是现在的 er.toml",
    "put the canary's questions now, and wait": "现在就提金丝雀测试的问题，并等待结果",
    "default: all that answer": "默认：所有能应答的",
    "what a replica answers now is the reference": "以副本现在的结果为参考",
    "one of those to be as it": "作为参考的那个副本",
    "which of two ranks better, and how sure it is": "两者谁排序更好，有多大把握",
    "MODEL, replica=NAME, or either with :dimensions=N": (
        "MODEL、replica=NAME，或再加 :dimensions=N"
    ),
    "over this set alone; may be said again (default: the shipped one and all own ones)": (
        "只用这一集，可重复（默认：自带的和所有自己的）"
    ),
    "what a model should answer, by transformers": "用 transformers 算出模型应有的结果",
    "of er.toml, with its weights here": "er.toml 中的模型，权重在本机",
    "embedding and reranking on your own GPUs": "在自己的 GPU 上做 embedding 和 rerank",
}
