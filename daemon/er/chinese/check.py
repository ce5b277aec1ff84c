"""Chinese: er check: what this machine tells of er.toml."""

from __future__ import annotations

SAID: dict[str, str] = {
    "no name may end in {}, as er restart --surge's do": (
        "名称不能以 {} 结尾，那是 er restart --surge 用的"
    ),
    "user er can't read this file; as root: {}": "用户 er 无法读取此文件；请以 root 运行：{}",
    "max_tokens {}: the model ends at {}, and that holds": "max_tokens {}：模型上限为 {}，以它为准",
    "dimensions {}: this model has {}": "dimensions {}：该模型只有 {} 维",
    (
        "{} is a {}, which gives no scores; name a reranker, or go through an embedding model "
        'with via = "…"'
    ): ('{} 是 {}，不输出分数；请指定重排模型，或用 via = "…" 经由嵌入模型'),
    (
        "{} looks like an embedding model (it has sentence-transformers' modules.json); for task "
        '= "score" name a reranker, or use via = "…"'
    ): (
        '{} 看起来是嵌入模型（含 sentence-transformers 的 modules.json）；task = "score" 请指定重'
        '排模型，或用 via = "…"'
    ),
    '{} looks like a reranker; its task would be "score"': (
        '{} 看起来是重排模型；其 task 应为 "score"'
    ),
    (
        'gpu = "cpu" needs the CPU build of vLLM, and this machine has the CUDA build; name a '
        "GPU, or install the other: sudo ./install.sh --cpu"
    ): (
        'gpu = "cpu" 需要 vLLM 的 CPU 版，而本机是 CUDA 版；请指定 GPU，或安装另一版：sudo '
        "./install.sh --cpu"
    ),
    (
        "GPU {}: the installed vLLM is the CPU build; run install.sh again on a machine with a "
        'working NVIDIA driver, or write gpu = "cpu"'
    ): (
        "GPU {}：已安装的 vLLM 是 CPU 版；请在 NVIDIA 驱动正常的机器上重新运行 install.sh，或写 "
        'gpu = "cpu"'
    ),
    "the CPU build of vLLM needs libnuma.so.1: apt-get install libnuma1": (
        "CPU 版 vLLM 需要 libnuma.so.1：apt-get install libnuma1"
    ),
    "GPU {} is divided (MIG); name one of its instances: {}": (
        "GPU {} 已划分（MIG）；请指定其中一个实例：{}"
    ),
    (
        "GPU {} is promised {} times over by replicas {} together; all on one card must stay "
        "below 1.0"
    ): ("GPU {0} 被副本 {2} 合计占用到 {1} 倍；同一张卡上合计须低于 1.0"),
    "{} of the {} of GPU {} are wanted, but others hold {}: {}; end them or ask for less": (
        "GPU {2} 共 {1}，需要 {0}，但其他进程占用了 {3}：{4}；请结束它们或少要一些"
    ),
    "{} of the {} of GPU {} are wanted, but others hold {}: {}": (
        "GPU {2} 共 {1}，需要 {0}，但其他进程占用了 {3}：{4}"
    ),
    "end them or ask for less": "请结束它们或少要一些",
    "in use": "已被占用",
    "not an address": "不是地址",
    "not allowed": "不允许",
    "not an address of this machine": "不是本机的地址",
    "not allowed for this user (ports below 1024 need root)": (
        "此用户不可用（1024 以下的端口需要 root）"
    ),
    "{} can't be used: {}": "{} 无法使用：{}",
    "end it, or choose another port in {}": "请结束它，或在 {} 中另选端口",
    "{}: only root can look there; ask again with sudo": "{}：只有 root 能查看；请用 sudo 再试",
    "{}: lies in user er's own folder, which replicas don't see; move it, to /srv/models say": (
        "{}：位于用户 er 自己的目录中，副本看不到；请移走，比如移到 /srv/models"
    ),
    "{}: is a link to {}, which the units don't see; name that path itself": (
        "{}：是指向 {} 的链接，单元看不到它；请直接写那个路径"
    ),
    (
        "{} is a link to {}, which the units don't see; make a copy without links: cp -rL {} "
        "FOLDER, and name that"
    ): (
        "{0} 是指向 {1} 的链接，单元看不到它；请复制一份不带链接的：cp -rL {2} FOLDER，再写那个目录"
    ),
    "lies in user er's own folder, which replicas don't see; move it, to /srv/models say": (
        "位于用户 er 自己的目录中，副本看不到；请移走，比如移到 /srv/models"
    ),
    "is a link to {}, which the units don't see; name that path itself": (
        "是指向 {} 的链接，单元看不到它；请直接写那个路径"
    ),
    "{}: user er may not pass through {}; as root: {}": (
        "{}：用户 er 无法穿过 {}；请以 root 运行：{}"
    ),
    "no weights (*.safetensors) in it; copy the whole model folder again": (
        "其中没有权重（*.safetensors）；请重新复制整个模型目录"
    ),
    "copy the folder again with what its links name: cp -rL": (
        "请连同链接指向的内容重新复制：cp -rL"
    ),
    "{} is a link to a file that is missing or closed to user er; {}": (
        "{} 是链接，它指向的文件不存在或用户 er 无权读取；{}"
    ),
    "make it readable, for example: chmod -R o+rX on the folder ({} in all)": (
        "请让它可读，例如对该目录执行 chmod -R o+rX（共 {} 个）"
    ),
    "user er can't read {}; {}": "用户 er 无法读取 {}；{}",
    "{}: the gateway's unit does not see {}; put it into /usr/local/bin, say": (
        "{}：网关的单元看不到 {}；可以放到 /usr/local/bin"
    ),
    "{}: no such file that user er could see": "{}：用户 er 看不到这个文件",
    "{}: user er may not run it; chmod 0755 {}": "{}：用户 er 无权运行它；chmod 0755 {}",
    "as root: {}": "请以 root 运行：{}",
    "every user of this machine can read {}; chmod 0640 {}": (
        "本机的每个用户都能读 {}；chmod 0640 {}"
    ),
    "the address is a secret, and every user can read this file; chmod 0640 {}": (
        "地址是机密，而每个用户都能读这个文件；chmod 0640 {}"
    ),
    "is sent to {} without HTTPS, for all on the way to read": (
        "发往 {} 时没有用 HTTPS，途中谁都能读到"
    ),
    "{k} is sent to {} without HTTPS, for all on the way to read": (
        "{} 发往 {} 时没有用 HTTPS，途中谁都能读到"
    ),
    "files of batches": "批处理文件",
    "there are no batches": "批处理不可用",
    "the cache of vectors": "向量缓存",
    "no vectors are cached": "不会缓存向量",
    (
        "nothing of {} is cached, whatever [cache] says: behind a url nobody tells ER when the "
        "engine or its weights change; what ER starts itself (gpu and port in place of url) is "
        "cached"
    ): (
        "无论 [cache] 怎么写，{} 的结果都不缓存：url 后面的引擎或权重何时改变，没有谁告诉 ER；由 "
        "ER 自己启动的（用 gpu 和 port 代替 url）会缓存"
    ),
    (
        "{} workers for {} replica: each has less to merge, so calls are smaller and cost more; "
        "six over three replicas served no more than two did, for half as much CPU again; try "
        '"auto"'
    ): (
        "{} 个工作进程对 {} 个副本：每个可合并的请求变少，调用更小、开销更大；实测三个副本用六个"
        '并不比两个快，CPU 却多用一半；试试 "auto"'
    ),
    (
        "{} workers for {} replicas: each has less to merge, so calls are smaller and cost more; "
        "six over three replicas served no more than two did, for half as much CPU again; try "
        '"auto"'
    ): (
        "{} 个工作进程对 {} 个副本：每个可合并的请求变少，调用更小、开销更大；实测三个副本用六个"
        '并不比两个快，CPU 却多用一半；试试 "auto"'
    ),
    (
        "batch_tokens {}: only twice as many tokens are on their way to a replica at once, and "
        "its card waits in between; of 128 tokens each, 4096 tokens at once made 656 texts/s, {} "
        "made 2,000; leave it at {}"
    ): (
        "batch_tokens {}：同时发往一个副本的 token 只有它的两倍，显卡会空等；每条 128 token 时，"
        "一次 4096 token 为 656 条/秒，{} 为 2,000 条/秒；请保持 {}"
    ),
    (
        "{} has no replica and stays idle; with another of {}, which takes about {}, it would "
        "work too. To be added:{}"
    ): ("{} 没有副本，一直空闲；再加一个 {} 的副本（约占 {}）就能用上它。可添加：{}"),
    (
        "{} has no replica and stays idle; with another of {}, which takes about {}, it would "
        "work too. To be added:"
    ): ("{} 没有副本，一直空闲；再加一个 {} 的副本（约占 {}）就能用上它。可添加："),
    (
        "{}: {} takes {} of it, where about {} do, and one engine of so small a model leaves the "
        "card idle half of the time; two on one card embedded 1.2 to 1.6 times as much. Write "
        'kv_cache = "{}GiB" in place of {} here, and add:{}'
    ): (
        "{0}：{1} 占用其 {2}，而约 {3} 就够；这么小的模型只有一个引擎时，显卡有一半时间空闲；同一"
        '张卡上两个引擎，嵌入速度是 1.2 到 1.6 倍。这里用 kv_cache = "{4}GiB" 代替 {5}，并添加：'
        "{6}"
    ),
    (
        "{}: {} takes {} of it, where about {} do, and one engine of so small a model leaves the "
        "card idle half of the time; two on one card embedded 1.2 to 1.6 times as much. Write "
        'kv_cache = "{}GiB" in place of {} here, and add:'
    ): (
        "{0}：{1} 占用其 {2}，而约 {3} 就够；这么小的模型只有一个引擎时，显卡有一半时间空闲；同一"
        '张卡上两个引擎，嵌入速度是 1.2 到 1.6 倍。这里用 kv_cache = "{4}GiB" 代替 {5}，并添加：'
    ),
    (
        "no key can be given this model alone: er keys --models takes a comma, and the word {}, "
        "for something else than {}; give it an alias"
    ): (
        "无法只把这个模型授权给某个密钥：er keys --models 把逗号和 {} 这个词另作他用，不当作 {}；"
        "请给它一个别名"
    ),
    (
        "{}: Ollama's clients put {} behind every name, so ER takes it off there; for them to "
        'find this model, add "{}" to its aliases'
    ): (
        '{}：Ollama 的客户端会在每个名称后加 {}，ER 会去掉它；要让它们找到这个模型，请把 "{}" 加'
        "入 aliases"
    ),
    (
        "{}: Ollama's clients put {} behind every name, so ER takes it off there; at /api/embed "
        "this name leads to {}, elsewhere to {}"
    ): (
        "{}：Ollama 的客户端会在每个名称后加 {}，ER 会去掉它；在 /api/embed 这个名称指向 {}，别处"
        "指向 {}"
    ),
    "{}: Ollama's clients put {} behind every name, so ER takes it off there": (
        "{}：Ollama 的客户端会在每个名称后加 {}，ER 会去掉它"
    ),
    'for them to find this model, add "{}" to its aliases': (
        '要让它们找到这个模型，请把 "{}" 加入 aliases'
    ),
    "at /api/embed this name leads to {}, elsewhere to {}": (
        "在 /api/embed 这个名称指向 {}，别处指向 {}"
    ),
    "user er can't look into it ({}); as root: {}": "用户 er 无法查看（{}）；请以 root 运行：{}",
    "{}; this set is left out, the others are asked": "{}；这一集不用，其余照常提问",
    "unsaid     texts of which a client says nothing are {}": (
        "未说明     客户端没有说明用途的文本按 {} 处理"
    ),
    "answers    {} numbers, unless a request asks for others": (
        "输出       {} 个数，除非请求另有要求"
    ),
    "{} may take {}, but {} has room for {}; ask for less, or make room": (
        "{}最多占用 {}，但 {} 只剩 {}；请调小，或腾出空间"
    ),
    "user er can't write {}, so {}; as root: chown er:er {}": (
        "用户 er 无法写入 {}，因此{}；请以 root 运行：chown er:er {}"
    ),
    "{} {}: only root can look there; ask again with sudo": (
        "{} {}：只有 root 能查看；请用 sudo 再试"
    ),
    "the certificate's key is {}; clients want 2048 bits at least": (
        "证书的私钥是 {}；客户端至少要求 2048 位"
    ),
    "the certificate has no subjectAltName, so clients can't tell whose it is": (
        "证书没有 subjectAltName，客户端无法判断它属于谁"
    ),
    "every user of this machine can read the key; chmod 0600 {}": (
        "本机的每个用户都能读私钥；chmod 0600 {}"
    ),
    "the certificate expired on {}; clients refuse it. Renew it": (
        "证书已于 {} 到期；客户端会拒绝它。请更换"
    ),
    "the certificate is not valid before {}; clients refuse it until then": (
        "证书在 {} 之前无效；在那之前客户端会拒绝它"
    ),
    "the certificate ends in {} day, on {}; renew it": "证书还有 {} 天到期（{}）；请更换",
    "the certificate ends in {} days, on {}; renew it": "证书还有 {} 天到期（{}）；请更换",
    "expired on {}; clients refuse it. Renew it": "已于 {} 到期；客户端会拒绝它。请更换",
    "is not valid before {}; clients refuse it until then": (
        "在 {} 之前无效；在那之前客户端会拒绝它"
    ),
    "ends in {} day, on {}; renew it": "还有 {} 天到期（{}）；请更换",
    "ends in {} days, on {}; renew it": "还有 {} 天到期（{}）；请更换",
    "the certificate {}": "证书{}",
}
