"""Chinese: er models: fetching a model's files, and checking them."""

from __future__ import annotations

SAID: dict[str, str] = {
    "bring a model's files from a hub, whole and checked": "从模型站取来模型文件，完整并经过校验",
    "bring a model from a hub: er models pull NAME": "从模型站下载模型：er models pull NAME",
    (
        "example: sudo er models pull Qwen3-Embedding-0.6B --from modelscope. Mirrors, proxies, "
        "resuming, machines without a network: er help models"
    ): (
        "例如：sudo er models pull Qwen3-Embedding-0.6B --from modelscope。镜像、代理、断点续传、"
        "没有网络的机器：er help models"
    ),
    "example: sudo er models pull Qwen3-Embedding-0.6B --from modelscope.": (
        "例如：sudo er models pull Qwen3-Embedding-0.6B --from modelscope。"
    ),
    "Mirrors, proxies, resuming, machines without a network: er help models": (
        "镜像、代理、断点续传、没有网络的机器：er help models"
    ),
    "bring a model; the same command again goes on": "下载模型；再次运行同一命令会接着下载",
    "Qwen3-Embedding-0.6B and its like, or OWNER/NAME; @REVISION behind it": (
        "如 Qwen3-Embedding-0.6B，或 OWNER/NAME；后面可加 @REVISION"
    ),
    "huggingface (default), modelscope, or the address of a mirror or a folder": (
        "huggingface（默认）、modelscope，或镜像、目录的地址"
    ),
    "(default: where er.toml has it, else /mnt/workspace/model/OWNER/NAME)": (
        "（默认：er.toml 中的位置，否则 /mnt/workspace/model/OWNER/NAME）"
    ),
    "whether the files are still what was pulled": "检查文件是否仍与下载时相同",
    "a model's folder": "模型的目录",
    "{w} from {} into {}": "{}，来自 {}，放入 {}",
    "{} has it already, whole by its sizes; by sums: {}": (
        "{} 中已有，按大小是完整的；按校验和检查：{}"
    ),
    "{}: {n} files, {}, each with the checksum that the hub names": (
        "{}：{} 个文件，{}，校验和都与模型站给出的一致"
    ),
    "{}: {}; use sudo, or --to DIR": "{}：{}；请用 sudo，或 --to DIR",
    "{}; where the model is to lie can't be read there: --to DIR": (
        "{}；无法从中读出模型该放在哪里：--to DIR"
    ),
    "where the model is to lie can't be read there: --to DIR": (
        "无法从中读出模型该放在哪里：--to DIR"
    ),
    "by the proxy {}": "经由代理 {}",
    "{} without the proxy, as no_proxy says": "{} 不经代理，按 no_proxy 的设置",
    "{} is not sent, as {} is plain HTTP": "不发送 {}，因为 {} 是明文 HTTP",
    "{} goes to {} alone": "{} 只发给 {}",
    "{}: {n} files, {}; {} are free": "{}：{} 个文件，{}；剩余空间 {}",
    "{}: {n} files, {}, {} of them are there; {} are free": (
        "{}：{} 个文件，{}，其中 {} 已在；剩余空间 {}"
    ),
    "{}, revision {w}: {n} files, {}; {} are free": "{}，版本 {}：{} 个文件，{}；剩余空间 {}",
    "{}, revision {w}: {n} files, {}, {} of them are there; {} are free": (
        "{}，版本 {}：{} 个文件，{}，其中 {} 已在；剩余空间 {}"
    ),
    "{}, revision {}": "{}，版本 {}",
    "What has come stays in {}; the same command goes on from there": (
        "已下载的保留在 {}；再次运行同一命令会从那里继续"
    ),
    "{}. What has come stays in {}; the same command goes on from there": (
        "{}。已下载的保留在 {}；再次运行同一命令会从那里继续"
    ),
    "{}. What has come stays in {}; the same command goes on from there. Another hub: {}": (
        "{}。已下载的保留在 {}；再次运行同一命令会从那里继续。可换模型站：{}"
    ),
    "Another hub: {}": "可换模型站：{}",
    "{}. Another hub: {}": "{}。可换模型站：{}",
    "{}. sudo drops proxies, addresses and tokens of hubs; if you have set any: {}": (
        "{}。sudo 会去掉代理、模型站的地址和令牌；如果设过：{}"
    ),
    "the disk of {} is full ({} free): make room there": (
        "{} 所在的磁盘已满（剩余 {}）：请在那里腾出空间"
    ),
    (
        "the disk of {} is full ({} free): make room there. What has come stays in {}; the same "
        "command goes on from there"
    ): (
        "{} 所在的磁盘已满（剩余 {}）：请在那里腾出空间。已下载的保留在 {}；再次运行同一命令会从"
        "那里继续"
    ),
    "{}: {}; use sudo, or a folder of yours: --to DIR": (
        "{}：{}；请用 sudo，或用自己的目录：--to DIR"
    ),
    "note: ER can't serve it as it is: {}": "注意：ER 无法直接用它提供服务：{}",
    (
        "{} has no er-model.json: er models pull has not made it, and nobody has noted what its "
        "files' checksums are"
    ): ("{} 中没有 er-model.json：它不是 er models pull 下载的，没有记下各文件的校验和"),
    "{} is not {} as it was pulled: move it away and pull it again": (
        "{} 已不是下载时的 {}：请移走并重新下载"
    ),
    "{} is {}: {n} files, {}, every checksum right": "{} 是 {}：{} 个文件，{}，校验和全部正确",
    "{n} % {} of {} {}/s {} left {}": "{} % {}/{} {}/秒 还剩 {} {}",
    "{n} %  {} of {}  {}/s  {} left  {}": "{} %  {}/{}  {}/秒  还剩 {}  {}",
    "{n} %  {} of {}  {}/s  stalled  {}": "{} %  {}/{}  {}/秒  停滞  {}",
    "{} left": "还剩 {}",
    # what hubs, proxies and the list of files say
    "{} came with another checksum; fetching it anew": "{} 的校验和不符；重新下载",
    "{} has not the checksum that {} names: wanted {}, got {}": (
        "{} 的校验和与 {} 给出的不符：应为 {}，得到 {}"
    ),
    "{} can't be resumed at {}": "{} 无法从 {} 处续传",
    "{} is larger than the list says": "{} 比列表中的大",
    "{} ended {} too early": "{} 提前 {} 结束",
    "{} sends {} compressed, which nobody asked for; is there a proxy that does so?": (
        "{} 发来的 {} 是压缩过的，并没有要求这样；是不是有代理这样做？"
    ),
    "{} sends {} compressed, which nobody asked for": "{} 发来的 {} 是压缩过的，并没有要求这样",
    "{}; is there a proxy that does so?": "{}；是不是有代理这样做？",
    "{} has {n} bytes at {}, {n} in the list": "{0} 在 {2} 处有 {1} 字节，列表中为 {3}",
    "{} is no token: it has characters that none has": "{} 不是 token：其中有 token 不会有的字符",
    "{} has a name or a password in its address; write it without": (
        "{} 的地址中有用户名或密码；请去掉"
    ),
    "{} {} is not as huggingface, modelscope or https://HOST/PATH": (
        "{} {} 不是 huggingface、modelscope 或 https://HOST/PATH 的形式"
    ),
    "{} {} is not as https://HOST/PATH": "{} {} 不是 https://HOST/PATH 的形式",
    "{} {} is not as {}https://HOST/PATH": "{} {} 不是 {}https://HOST/PATH 的形式",
    "huggingface, modelscope or": "huggingface、modelscope 或",
    "{} does not answer as Hugging Face's hub does": "{} 的应答不像 Hugging Face 模型站",
    "{} names no commit for {}": "{} 没有给出 {} 的提交",
    "Hugging Face's API": "Hugging Face 的 API",
    "{} does not answer as ModelScope's hub does": "{} 的应答不像 ModelScope 模型站",
    "no files": "没有文件",
    "{} has no {} at {}: {}": "{} 中没有 {}（{}）：{}",
    "ModelScope's API": "ModelScope 的 API",
    (
        "{} has neither Hugging Face's API with {} nor a file {}, here or in {}/; er help models "
        "says how to make a folder for it"
    ): (
        "{} 既没有带 {} 的 Hugging Face API，也没有文件 {}（这里或 {}/ 中）；er help models 说明"
        "怎样做这样的目录"
    ),
    "a folder with {} has no revisions: leave @{} away": "带 {} 的目录没有版本：请去掉 @{}",
    "a folder with {}": "带 {} 的目录",
    "{} is not as sha256sum writes it: {}": "{} 不是 sha256sum 写出的格式：{}",
    "{} lists {} but has none of it: {}": "{} 列出了 {}，但没有它：{}",
    "{} does not say how large {} is": "{} 没有说明 {} 有多大",
    "{} has {}, but no {} of it": "{} 有 {}，但没有它的 {}",
    "with that token's account": "用该 token 的账号",
    "and put a token of yours into {}": "并把你的 token 放入 {}",
    "{} is gated: accept its terms on {} {}": "{} 需要授权：请在 {} 接受其条款，{}",
    (
        "no token is ever sent to an address of --from: for a hub that wants one set HF_ENDPOINT "
        "to it, HF_TOKEN, and take --from huggingface"
    ): (
        "从不向 --from 的地址发送 token：需要 token 的模型站，请把 HF_ENDPOINT 设为其地址，设 "
        "HF_TOKEN，并用 --from huggingface"
    ),
    "{} gives no {} (HTTP {n})": "{} 不给 {}（HTTP {}）",
    (
        "{} gives no {} (HTTP {n}); no token is ever sent to an address of --from: for a hub "
        "that wants one set HF_ENDPOINT to it, HF_TOKEN, and take --from huggingface"
    ): (
        "{} 不给 {}（HTTP {}）；从不向 --from 的地址发送 token：需要 token 的模型站，请把 "
        "HF_ENDPOINT 设为其地址，设 HF_TOKEN，并用 --from huggingface"
    ),
    "its account may not read it, or {} is none (any more)": (
        "其账号无权读取，或 {} 已不是有效的 token"
    ),
    "or it is private: put a token into {}": "或者它是私有的：请把 token 放入 {}",
    (
        "{} shows no {} (HTTP {n}): no such repository, its account may not read it, or {} is "
        "none (any more)"
    ): ("{} 没有 {}（HTTP {}）：没有这个仓库，其账号无权读取，或 {} 已不是有效的 token"),
    "{} shows no {} (HTTP {n}): no such repository, or it is private: put a token into {}": (
        "{} 没有 {}（HTTP {}）：没有这个仓库，或者它是私有的：请把 token 放入 {}"
    ),
    "{} shows no {} (HTTP {n}): no such repository, {}": "{} 没有 {}（HTTP {}）：没有这个仓库，{}",
    "{} has no {}; look for its name there, it must be OWNER/NAME": (
        "{} 中没有 {}；请到那里查它的名称，必须是 OWNER/NAME"
    ),
    "{} is there and is no folder; another place: --to DIR": (
        "{} 已存在，但不是目录；请换个位置：--to DIR"
    ),
    (
        "{} is there already and er models pull has not made it: nothing is written over it. If "
        "it is good leave it so; else move it away, or take another: --to DIR"
    ): (
        "{} 已存在，但不是 er models pull 下载的：不会覆盖。如果它是好的就保留；否则请移走，或换"
        "个位置：--to DIR"
    ),
    "move the folder away and pull the model again": "请移走该目录并重新下载模型",
    "{} is damaged; {}": "{} 已损坏；{}",
    "{} is of another ER (format {}); {}": "{} 属于另一版本的 ER（格式 {}）；{}",
    "{} names files outside of the folder; {}": "{} 中有目录之外的文件；{}",
    "was not pulled": "不是下载来的",
    "{} was not pulled": "{} 不是下载来的",
    "{} is no file": "{} 不是文件",
    "{} has {n} bytes, not {n}": "{} 有 {} 字节，应为 {}",
    "{} has another checksum: it was changed, or the disk errs": (
        "{} 的校验和不同：它被改动过，或磁盘出错"
    ),
    "is no file": "不是文件",
    "has {n} bytes, not {n}": "有 {} 字节，应为 {}",
    "has another checksum: it was changed, or the disk errs": "校验和不同：它被改动过，或磁盘出错",
    (
        "{} is where a disk is mounted, so no folder can be renamed to it: take one in it, as "
        "--to {}"
    ): ("{} 是磁盘的挂载点，无法把目录改名成它：请用其中的目录，如 --to {}"),
    "{} is there and is no folder; move it away": "{} 已存在，但不是目录；请移走",
    "another er models pull is at work in {}": "另一个 er models pull 正在 {} 中进行",
    "another er models pull has just made {}; see there": "另一个 er models pull 刚建好 {}；请查看",
    "{} belongs to another user (uid {n}): go on as that one, or remove it": (
        "{} 属于另一个用户（uid {}）：请以该用户继续，或删除它"
    ),
    "{} is there and is not of er models pull; move it away, or take another folder: --to DIR": (
        "{} 已存在，但不属于 er models pull；请移走，或换个目录：--to DIR"
    ),
    "{} was moved away meanwhile; nothing is at {}": "{} 在此期间被移走；{} 中什么也没有",
    "{} came there meanwhile; what was pulled is whole in {}": (
        "{} 在此期间出现；下载的内容完整地在 {} 中"
    ),
    (
        "{} is not what came: somebody changed it, or the disk errs. It is removed; the same "
        "command fetches it anew"
    ): "{} 与下载时不同：有人改过，或磁盘出错。它已被删除；再次运行同一命令会重新下载它",
    "{} is no file of a pull; remove {}": "{} 不是下载产生的文件；请删除 {}",
    "{}: behind @ stands a branch, a tag or a commit of the repository": (
        "{}：@ 后面写仓库的分支、标签或提交"
    ),
    "{} names no repository: Write OWNER/NAME, as {}, or one of {}": (
        "{} 不是仓库：请写 OWNER/NAME，如 {}，或其中之一：{}"
    ),
    "{} names no repository: did you mean {}? Write OWNER/NAME, as {}, or one of {}": (
        "{} 不是仓库：是不是 {}？请写 OWNER/NAME，如 {}，或其中之一：{}"
    ),
    "{} names no repository: {}Write OWNER/NAME, as {}/{}, or one of {}": (
        "{} 不是仓库：{}请写 OWNER/NAME，如 {}/{}，或其中之一：{}"
    ),
    "{} lists a file {}, which leads out of the folder; refused": (
        "{} 列出的文件 {} 指向目录之外；已拒绝"
    ),
    "{} lists a file {}, which is no name of a file; refused": (
        "{} 列出的文件 {} 不是文件名；已拒绝"
    ),
    "{} lists a file {}, which has characters that no file of a model has; refused": (
        "{} 列出的文件 {} 含有模型文件不会有的字符；已拒绝"
    ),
    "{} lists a file {}, which {}; refused": "{} 列出的文件 {} {}；已拒绝",
    "leads out of the folder": "指向目录之外",
    "is no name of a file": "不是文件名",
    "has characters that no file of a model has": "含有模型文件不会有的字符",
    (
        "{} has no config.json, without which nothing serves a model; is it an adapter? Name the "
        "repository of the model itself"
    ): ("{} 没有 config.json，缺了它什么都无法提供模型服务；它是适配器吗？请写模型本身的仓库"),
    "{} has no tokenizer.json, which the gateway reads texts with; take a model that has one": (
        "{} 没有 tokenizer.json，网关要用它处理文本；请换有它的模型"
    ),
    (
        "{} names no checksum for {}, so nobody could tell whether it came whole; use another "
        "hub (--from)"
    ): ("{} 没有给出 {} 的校验和，无法判断是否完整；请换模型站（--from）"),
    "{}: {} has its weights {}": "{}：{} 的权重{}",
    (
        "{} lacks {}; it is not whole at {}: try another hub (--from) or an earlier revision "
        "(@REVISION)"
    ): ("{} 缺少 {}；它在 {} 处不完整：请试另一个模型站（--from）或更早的版本（@REVISION）"),
    (
        "{} has GGUF files alone, which ER's engines don't serve; take the repository with the "
        "model's safetensors"
    ): ("{} 只有 GGUF 文件，ER 的引擎不支持；请用含该模型 safetensors 的仓库"),
    (
        "{} has GGUF files alone, which ER's engines don't serve; take the repository with the "
        "model's safetensors, most likely {}"
    ): ("{} 只有 GGUF 文件，ER 的引擎不支持；请用含该模型 safetensors 的仓库，很可能是 {}"),
    "{} has its weights {}": "{} 的权重{}",
    "{} has no weights (*{}); name the repository of the model itself": (
        "{} 没有权重（*{}）；请写模型本身的仓库"
    ),
    (
        "as pickles alone (pytorch_model.bin and its like), files that can run a program when "
        "they are loaded, so they are not fetched. On Hugging Face most such repositories have "
        "safetensors in a pull request: {}@refs/pr/1 (its number on the page Community)"
    ): (
        "只有 pickle 格式（pytorch_model.bin 之类），这种文件加载时可能运行程序，所以不下载。在 "
        "Hugging Face 上，这类仓库多半在某个 pull request 中有 safetensors：{}@refs/pr/1（编号见 "
        "Community 页）"
    ),
    "{} answers HTTP {n}": "{} 返回 HTTP {}",
    "a proxy of the environment can't be used: {}; write https_proxy=http://HOST:PORT": (
        "环境变量中的代理无法使用：{}；请写 https_proxy=http://HOST:PORT"
    ),
    "{} leads to an address that is none": "{} 指向的地址无效",
    "{} sends a list of over {} MiB; refused": "{} 发来的列表超过 {} MiB；已拒绝",
    "{} leads away from HTTPS, to {}; refused": "{} 从 HTTPS 转到 {}；已拒绝",
    "{} leads from one address to the next without end": "{} 不断地从一个地址转到另一个",
    "{} by the proxy {}": "{}，经由代理 {}",
    (
        "the certificate of {} is not trusted here ({}). Where a proxy of your company signs "
        "anew, give its authority: SSL_CERT_FILE=/path/to/ca.pem"
    ): (
        "这里不信任 {} 的证书（{}）。如果公司的代理会重新签名，请给出其 CA："
        "SSL_CERT_FILE=/path/to/ca.pem"
    ),
    "the proxy wants a name and a password: http://NAME:PASSWORD@HOST:PORT": (
        "代理需要用户名和密码：http://NAME:PASSWORD@HOST:PORT"
    ),
    "nothing came from {} for {n} s": "{} 已 {} 秒没有发来任何内容",
    "no connection to {}": "无法连接 {}",
    "{}, after {n} tries": "{}，试了 {} 次",
    "{}, and wants nothing more for {n} s: try again then": (
        "{}，并要求 {} 秒内不再请求：请到时再试"
    ),
    "{}, and wants nothing more for {n} s": "{}，并要求 {} 秒内不再请求",
    "{}: try again then": "{}：请到时再试",
    "{}; trying again in {n} s ({n} of {n})": "{}；{} 秒后再试（{}/{}）",
    "the hub is being changed, or what is between changes it": (
        "模型站正在变动，或中间有什么改动了内容"
    ),
    (
        "{}; the hub is being changed, or what is between changes it: try later, or another hub "
        "(--from)"
    ): ("{}；模型站正在变动，或中间有什么改动了内容：请稍后再试，或换模型站（--from）"),
    "{}; {}: try later, or another hub (--from)": "{}；{}：请稍后再试，或换模型站（--from）",
    "{}; reading the list anew": "{}；重新读取列表",
    (
        "{} are still to come and {} must stay free, but the disk of {} has {}: make room there, "
        "or take a folder on another disk: --to DIR"
    ): (
        "还要下载 {}，且须留出 {}，但 {} 所在的磁盘只有 {}：请在那里腾出空间，或用另一块磁盘上的"
        "目录：--to DIR"
    ),
    (
        "{} has {}, other files than {}: {}. Other weights under an old name change every "
        "vector, so nothing is written over it: take another folder (--to DIR) and name it as "
        "another model in er.toml"
    ): (
        "{} 中是 {}，与 {} 的文件不同：{}。旧名称下换成别的权重会改变所有向量，所以不会覆盖：请用"
        "另一个目录（--to DIR），并在 er.toml 中作为另一个模型"
    ),
    "{} is not whole: {} {}. Move it away and pull it again; er models verify {} tells more": (
        "{} 不完整：{} {}。请移走并重新下载；er models verify {} 有更多说明"
    ),
    "{}: no such folder; put the model's files there (er models pull)": (
        "{}：没有此目录；请把模型文件放到那里（er models pull）"
    ),
    "put the model's files there (er models pull)": "请把模型文件放到那里（er models pull）",
    "GPU {} ({}) is too old for vLLM, which begins with compute capability {}: left out.": (
        "GPU {}（{}）对 vLLM 来说太旧，vLLM 要求 compute capability 至少 {}：不使用。"
    ),
    "{} has {}, but no main of it": "{} 有 {}，但没有它的 main",
    "stopped. What has come stays in {}; the same command goes on from there": (
        "已停止。已下载的保留在 {}；再次运行同一命令会从那里继续"
    ),
}
