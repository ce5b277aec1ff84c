"""Chinese: er bench, capacity, embed."""

from __future__ import annotations

SAID: dict[str, str] = {
    "--{} {}: from 1 to {}": "--{} {}：1 到 {}",
    "{}; put a key into {}": "{}；请把密钥放入 {}",
    "put a key into {}": "请把密钥放入 {}",
    "{} is for root and members of group er: use sudo, or --url": (
        "{} 仅限 root 和 er 组成员：请用 sudo，或 --url"
    ),
    "no gateway answers at {} ({}); start it, or name one with --url": (
        "{} 上没有网关应答（{}）；请启动它，或用 --url 指定一个"
    ),
    "no model for {} is served there": "那里没有用于 {} 的模型",
    "{} {n} of {n} s  {n} requests/s": "{} {}/{} 秒  每秒 {} 个请求",
    "{} {n} of {n} s  {n} requests/s  p50 {n} ms  p99 {n} ms": (
        "{} {}/{} 秒  每秒 {} 个请求  p50 {} 毫秒  p99 {} 毫秒"
    ),
    "{} {n} of {n} s  {n} requests/s  p50 {n} ms  p99 {n} ms  errors {n}": (
        "{} {}/{} 秒  每秒 {} 个请求  p50 {} 毫秒  p99 {} 毫秒  错误 {}"
    ),
    "{} {n} of {n} s  {n} requests/s  errors {n}": "{} {}/{} 秒  每秒 {} 个请求  错误 {}",
    "{} ({}): {n} clients, {n} text{s} a request, {n} s": (
        "{}（{}）：{} 个客户端，每个请求 {} 条文本，{} 秒"
    ),
    "{} ({}): {n} clients, {n} text{s} a request, {n} s, interrupted": (
        "{}（{}）：{} 个客户端，每个请求 {} 条文本，{} 秒，已中断"
    ),
    "requests/s": "请求/秒",
    "sequences/s": "序列/秒",
    "tokens/s": "token/秒",
    "answers within": "应答用时不超过",
    "not answered well: {n}": "未正常应答：{}",
    "{n} requests were still unanswered at the end": "结束时仍有 {} 个请求没有应答",
    "an answer of another shape": "应答格式不对",
    "{n} results for {n} texts": "{1} 条文本得到 {0} 个结果",
    "{} is not as http://HOST:PORT": "{} 不是 http://HOST:PORT 的形式",
    "put the key into ER_API_KEY, not into the URL": "请把密钥放入 ER_API_KEY，不要写在 URL 里",
    "the connection broke": "连接中断",
    "no answer": "没有应答",
    # capacity
    "nothing could be measured: {}": "无法测量：{}",
    "{}: {}; er report can't quote it": "{}：{}；er report 无法引用",
    "--minutes {}: from {} to {}": "--minutes {}：{} 到 {}",
    "--p99 {}: milliseconds, up to 600000": "--p99 {}：毫秒，最多 600000",
    "{n} shapes of requests; at most {n}": "{} 种请求；最多 {} 种",
    '--{} {}: numbers with commas, as "1,16"': '--{} {}：请写数字，用逗号分隔，如 "1,16"',
    "This loads {} for up to {}, as much as it carries.": "这会对 {} 加载最多 {}，直到其上限。",
    "This loads this machine for up to {}, as much as it carries.": (
        "这会对本机加载最多 {}，直到其上限。"
    ),
    "this machine": "本机",
    (
        "Clients asked {n} times in the last minute: the load will grow slowly, and end when "
        "they wait noticeably longer."
    ): ("最近一分钟客户端请求了 {} 次：负载会缓慢增加，一旦它们明显变慢就停止。"),
    "Whether others are being served there can't be seen from here.": (
        "从这里看不到那里是否正在为其他人服务。"
    ),
    "To agree: --yes": "同意请加 --yes",
    "{w} ({w}, {n} replica{s})": "{}（{}，{} 个副本）",
    "carries at least {}": "至少能承载 {}",
    "carries {}": "能承载 {}",
    "{n} requests/s of {n} x {n} tokens ({n} texts/s, {n} tokens/s) at p99 {n} ms": (
        "每秒 {} 个请求，每个 {} 条 x {} token（每秒 {} 条文本、{} token），p99 {} 毫秒"
    ),
    "TEXTS x TOKENS": "文本 x token",
    "REQUESTS/S": "请求/秒",
    "TEXTS/S": "文本/秒",
    "TOKENS/S": "token/秒",
    "GOAL": "目标",
    "Change first: {}": "先改：{}",
    "Then: {}": "然后：{}",
    "Change first": "先改",
    "Then": "然后",
    "Interrupted: this is what was measured until then.": "已中断：以下是此前测得的结果。",
    "Ended early for the clients' sake: {}.": "为了不影响客户端而提前结束：{}。",
    "Nothing was measured.": "没有测得结果。",
    "no model has a replica that answers; see er status": "没有模型有能应答的副本；见 er status",
    "{}, {n} x {n} tokens left out: {}": "{}，略过 {} x {} token：{}",
    "no time for {n} x {n} tokens: --minutes": "没有时间测 {} x {} token：--minutes",
    "{}, {n} x {n} tokens: {n} requests/s, {n} answered; {} left": (
        "{}，{} x {} token：每秒 {} 个请求，已应答 {}；还剩 {}"
    ),
    "{}, {n} x {n} tokens: as much as it takes, {n} answered; {} left": (
        "{}，{} x {} token：尽力发送，已应答 {}；还剩 {}"
    ),
    "{n} requests/s": "每秒 {} 个请求",
    "as much as it takes": "尽力发送",
    "{} is damaged ({}); measure anew: er capacity": "{} 已损坏（{}）；请重新测量：er capacity",
    "{} is of version {}; measure anew: er capacity": "{} 的版本为 {}；请重新测量：er capacity",
    "clients got {n} failures in the last minute, {n} before": (
        "最近一分钟客户端失败 {} 次，之前为 {} 次"
    ),
    "nobody asked before": "之前没有请求",
    "{n} ms before": "之前为 {} 毫秒",
    "clients' p99 is {n} ms, {}": "客户端的 p99 为 {} 毫秒，{}",
    (
        "The load generator was the limit ({n} ms late): the machine carries at least this. "
        "Measure from another one: er bench --url."
    ): (
        "压测程序自己成了瓶颈（发送迟了 {} ms）：本机至少能承受这些。请从另一台机器测：er bench "
        "--url。"
    ),
    (
        "max_concurrency = {n} refuses first: {n} requests got 503 overloaded. Raise it in "
        "[gateway] of er.toml; memory is what it costs."
    ): (
        "max_concurrency = {} 最先拒绝：{} 个请求得到 503 overloaded。请在 er.toml 的 [gateway] "
        "中调高；代价是内存。"
    ),
    (
        "Tokenising is the limit: it takes {} of each worker's time. More workers (now {n}, on "
        "{n} cores), or clients that send token ids."
    ): (
        "分词是瓶颈：占每个工作进程 {} 的时间。请增加工作进程（现在 {} 个，{} 个 CPU 核），或让客"
        "户端直接发送 token id。"
    ),
    (
        "The gateway is the limit: its workers use {} of their cores. More workers (now {n}, on "
        "{n} cores), or more texts in each request."
    ): (
        "网关是瓶颈：工作进程已用掉其 CPU 核的 {}。请增加工作进程（现在 {} 个，{} 个 CPU 核），或"
        "在每个请求里放更多文本。"
    ),
    (
        "Clients should send more texts in a request: {n} in one carry {n} times as many texts a "
        "second as one does."
    ): ("客户端应在每个请求里放更多文本：每个请求 {} 条时，每秒处理的文本是单条的 {} 倍。"),
    (
        "The engine idles ({n} % GPU) while requests wait: its calls are too small. A larger "
        "batch_tokens, or one more replica on the same GPU."
    ): (
        "请求在排队而引擎空闲（GPU {} %）：每次调用太小。请调大 batch_tokens，或在同一块 GPU 上再"
        "加一个副本。"
    ),
    (
        "The engine is the limit: {} of a request's time is spent waiting for it or in it. Add a "
        "replica (now {n}), on a GPU or cores that are free."
    ): (
        "引擎是瓶颈：请求 {} 的时间在等引擎或在引擎里。请增加副本（现在 {} 个），放在空闲的 GPU "
        "或 CPU 核上。"
    ),
    (
        "One key may ask {}, which is {} of what is carried: a single busy client is refused "
        "long before the machine is. er keys set KEY --rate-limit R."
    ): (
        "每个密钥的限速为 {}，仅为承载能力的 {}：单个繁忙的客户端会远早于机器被拒绝。er keys set "
        "KEY --rate-limit R。"
    ),
    (
        "All rates that were tried were carried: the machine carries more. Measure for longer: "
        "--minutes."
    ): ("试过的速率都能承载：本机还能承载更多。请测更久：--minutes。"),
    (
        "Not even the least load stayed under the goal of {n} ms: see er doctor, or measure with "
        "a goal that this model can reach (--p99)."
    ): ("最小的负载也没有达到 {} ms 的目标：请看 er doctor，或用该模型能达到的目标来测（--p99）。"),
    # embed
    "-o {}: the name must end in one of: {}": "-o {}：文件名必须以其中之一结尾：{}",
    "-o {}: that is a folder": "-o {}：这是目录",
    "--vector and --field are both {}": "--vector 和 --field 都是 {}",
    "--instruction is for queries; leave it or --document out": (
        "--instruction 用于查询；请去掉它或 --document"
    ),
    "the output is the input; give it another name": "输出就是输入文件；请换个名称",
    "--key-file goes with --url; gateway.sock takes no key": (
        "--key-file 要与 --url 合用；gateway.sock 不用密钥"
    ),
    "--key-file {}: it must hold one key, and nothing else": "--key-file {}：其中必须只有一个密钥",
    "--key-file {}: {}": "--key-file {}：{}",
    "{} is there already; to write it anew: --force": "{} 已存在；要重写请加 --force",
    "there is no folder {}; make it, or name another output": (
        "没有目录 {}；请创建它，或另写输出文件"
    ),
    "{} is there already, with another {}; to write it anew: --force": (
        "{} 已存在，但 {} 不同；要重写请加 --force"
    ),
    "{} was whole already": "{} 本来就是完整的",
    "no space is left on the disk of {}; make room there": (
        "{} 所在的磁盘没有空间了；请在那里腾出空间"
    ),
    "{}; here: --key-file FILE, or the variable {}": "{}；这里：--key-file FILE，或变量 {}",
    "here: --key-file FILE, or the variable {}": "这里：--key-file FILE，或变量 {}",
    "{n} of {n} rows are done and kept in {}. To go on:": "已完成 {}/{} 行，保存在 {}。继续：",
    "{n} of {n} rows are done and kept in {}. To go on: (with the same input)": (
        "已完成 {}/{} 行，保存在 {}。继续：（用同样的输入）"
    ),
    "{n} of {n} rows are done and kept in {}": "已完成 {}/{} 行，保存在 {}",
    "(with the same input)": "（用同样的输入）",
    "reading {}: {n} rows": "正在读取 {}：{} 行",
    "{}: line {n} has a field {}, as the vectors' would be; choose --vector NAME": (
        "{}：第 {} 行有字段 {}，与向量的字段同名；请用 --vector NAME 另选"
    ),
    "has a field {}, as the vectors' would be; choose --vector NAME": (
        "有字段 {}，与向量的字段同名；请用 --vector NAME 另选"
    ),
    "{}: line {n} {}": "{}：第 {} 行{}",
    "line {n} {}": "第 {} 行{}",
    "and {n} lines more": "另有 {} 行",
    "{}: {n} of {n} rows can't be embedded; {}": "{0}：{2} 行中有 {1} 行无法嵌入；{3}",
    "correct them, or leave them out with --bad skip": "请改正，或用 --bad skip 略过",
    "name the text's field by --field, or say --plain if each line is a text": (
        "请用 --field 写明文本的字段；如果每行就是一条文本，请加 --plain"
    ),
    "{} has no row that can be embedded": "{} 中没有可嵌入的行",
    "a table is not for that: write .jsonl": "表格不适合：请写成 .jsonl",
    "over 1000 different fields by line {n}; {}": "到第 {} 行已有 1000 多个不同的字段；{}",
    "no row of {} could be embedded": "{} 中没有一行能嵌入",
    "writing {}: {n} of {n} rows": "正在写入 {}：{}/{} 行",
    "{} was changed meanwhile; begin anew with --force": "{} 在此期间被改动；请用 --force 从头开始",
    "{}: {n} rows, {n} tokens ({}, {n} rows/s, {n} tokens/s)": (
        "{}：{} 行，{} 个 token（{}，每秒 {} 行，每秒 {} 个 token）"
    ),
    "{}: {n} rows, {n} tokens ({}, {n} rows this time, {n} rows/s, {n} tokens/s)": (
        "{}：{} 行，{} 个 token（{}，这次 {} 行，每秒 {} 行，每秒 {} 个 token）"
    ),
    "{}: {n} rows, {n} tokens, {n} rows left out ({}, {n} rows/s, {n} tokens/s)": (
        "{}：{} 行，{} 个 token，略过 {} 行（{}，每秒 {} 行，每秒 {} 个 token）"
    ),
    "{}: {n} rows, {n} tokens, {n} texts cut ({}, {n} rows/s, {n} tokens/s)": (
        "{}：{} 行，{} 个 token，截断 {} 条（{}，每秒 {} 行，每秒 {} 个 token）"
    ),
    "{}: {n} rows, {n} tokens, {n} rows left out, {n} texts cut ({}, {n} rows/s, {n} tokens/s)": (
        "{}：{} 行，{} 个 token，略过 {} 行，截断 {} 条（{}，每秒 {} 行，每秒 {} 个 token）"
    ),
    "{}: {n} rows, {n} tokens": "{}：{} 行，{} 个 token",
    "{n} rows left out": "略过 {} 行",
    "{n} texts cut": "截断 {} 条",
    "{n} rows this time": "这次 {} 行",
    "{n} rows/s": "每秒 {} 行",
    "{n} tokens/s": "每秒 {} 个 token",
    "an answer of another shape than /v1/embeddings has": "应答不是 /v1/embeddings 的格式",
    "{n} vectors, or other ones, for {n} texts": "{1} 条文本得到 {0} 个向量，或其他内容",
    "--query or --document": "--query 或 --document",
    "another er embed is writing {}; wait for its end": "另一个 er embed 正在写 {}；请等它结束",
    "{} is no work file of er embed; move it away": "{} 不是 er embed 的工作文件；请移走",
    "the work file became shorter while it was read": "工作文件在读取时变短了",
    "true or false": "true 或 false",
    "a number": "数",
    "a list": "列表",
    "an object": "对象",
    "a text": "文本",
    "something else": "其他内容",
    "{} can't be unpacked: {}": "{} 无法解压：{}",
    "is not UTF-8": "不是 UTF-8",
    "is empty": "为空",
    "is not JSON: {}": "不是 JSON：{}",
    'is {}, not an object such as {"{}": "a text"}': '是 {}，而不是 {"{}": "文本"} 这样的对象',
    "is {} in its field {}, which must be a text": "的字段 {1} 是 {0}，必须是文本",
    "has no field {}, which must be a text": "没有字段 {}，它必须是文本",
    "is {} in its field {}": "的字段 {1} 是 {0}",
    "has no field {}": "没有字段 {}",
    "{}, which must be a text": "{}，必须是文本",
    "is empty in its field {}": "的字段 {} 为空",
    "no embedding model is served there": "那里没有嵌入模型",
    "{} was begun with another {}; go on as then, or begin anew with --force": (
        "{} 开始时用的是另一个 {}；请照当时的继续，或用 --force 从头开始"
    ),
    "{} was begun with another {}; {}": "{} 开始时用的是另一个 {}；{}",
    "go on as then, or begin anew with --force": "请照当时的继续，或用 --force 从头开始",
    "the model {}": "模型 {}",
    "{}, and what is there came with {}": "{}，而已有的是 {}",
    "the service answers with {}; begin anew with --force": (
        "服务返回的是 {}；请用 --force 从头开始"
    ),
    "the service answers with {}, and what is there came with {}; begin anew with --force": (
        "服务返回的是 {}，而已有的是 {}；请用 --force 从头开始"
    ),
    "{}: line {n} can't be embedded; {}": "{}：第 {} 行无法嵌入；{}",
    "shorten it, cut what is too long with --cut, or leave it out with --bad skip": (
        "请缩短它，用 --cut 截断过长的，或用 --bad skip 略过"
    ),
    "note: about {} will be needed for {}, and {} are free there": (
        "注意：{1} 约需 {0}，那里剩余 {2}"
    ),
    "about {} will be needed for {}": "{1} 约需 {0}",
    "{}, and {} are free there": "{}，那里剩余 {}",
    "{n} of {n} rows, {n} %": "{}/{} 行，{} %",
    "{n} of {n} rows, {n} %, {n} rows/s, {n} tokens/s, {} left": (
        "{}/{} 行，{} %，每秒 {} 行，每秒 {} 个 token，还剩 {}"
    ),
    "{n} of {n} rows, {n} %, {n} rows/s, {n} tokens/s, {} left, waiting: {}": (
        "{}/{} 行，{} %，每秒 {} 行，每秒 {} 个 token，还剩 {}，等待：{}"
    ),
    "{n} of {n} rows, {n} %, waiting: {}": "{}/{} 行，{} %，等待：{}",
    "no model for anything is served there": "那里没有任何模型",
}
