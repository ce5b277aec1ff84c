"""Chinese: er replica and er model: er.toml edited by command."""

from __future__ import annotations

SAID: dict[str, str] = {
    "add, remove or move a replica: er.toml edited, shown, asked, applied": (
        "增加、去掉或移动副本：改 er.toml，先列出、询问，再应用"
    ),
    "one more, one less, another card: er replica add": "多一个、少一个、换一块卡：er replica add",
    "add a model from its folder, or take one out: er.toml edited, shown, asked, applied": (
        "由目录增加模型，或去掉模型：改 er.toml，先列出、询问，再应用"
    ),
    "another model beside: er model add PATH": "再加一个模型：er model add PATH",
    "example: sudo er replica add --model M --gpu 2 --dry-run. More: er help changes": (
        "例如：sudo er replica add --model M --gpu 2 --dry-run。详见：er help changes"
    ),
    "one more replica of a model that er.toml has": "为 er.toml 中的模型再加一个副本",
    "its model: a name or an alias": "它的模型：名称或别名",
    "default: that of the model's others, numbered": "默认：同一模型其他副本的名称加编号",
    "end a replica; it finishes what it has": "结束副本；会做完手上的请求",
    "give a replica another port, card, cache or address": "给副本换端口、卡、缓存或地址",
    "example: sudo er replica add --model M --gpu 2": "例如：sudo er replica add --model M --gpu 2",
    "example: sudo er replica remove embedding-2 --dry-run": (
        "例如：sudo er replica remove embedding-2 --dry-run"
    ),
    "example: sudo er replica set embedding --port 8010": (
        "例如：sudo er replica set embedding --port 8010"
    ),
    "example: sudo er model add /srv/models/bge-m3 --dry-run. More: er help changes": (
        "例如：sudo er model add /srv/models/bge-m3 --dry-run。详见：er help changes"
    ),
    "a model from its folder, with one replica": "由目录增加模型，带一个副本",
    "the folder that holds config.json": "含 config.json 的目录",
    "what clients ask for (default: the folder's)": "客户端请求时用的名称（默认：目录名）",
    "default: as its files say": "默认：按其文件所示",
    "its replica's name (default: the model's)": "副本名（默认：模型名）",
    "take a model out, with its replicas": "去掉模型及其副本",
    "the model's name": "模型名",
    "example: sudo er model add /srv/models/bge-m3 --name bge --gpu 2": (
        "例如：sudo er model add /srv/models/bge-m3 --name bge --gpu 2"
    ),
    "example: sudo er model remove bge --dry-run": "例如：sudo er model remove bge --dry-run",
    'index, UUID or "cpu"; several: one engine over all of them': (
        '序号、UUID 或 "cpu"；多个：一个引擎用全部'
    ),
    'index, UUID or "cpu"; several: one engine over all of them (default: the least used)': (
        '序号、UUID 或 "cpu"；多个：一个引擎用全部（默认：占用最少的）'
    ),
    "on loopback (default: the next free one from 8000)": (
        "在回环地址上（默认：从 8000 起下一个空闲的）"
    ),
    'memory for its cache, as "6GiB", in place of a share of the card': (
        '缓存用的内存，如 "6GiB"，代替占卡的比例'
    ),
    "a vLLM that something else runs, in place of GPU and port": (
        "由其他程序运行的 vLLM，代替 GPU 和端口"
    ),
    "show the change and what a restart does to clients": "显示改动，以及重启对客户端的影响",
    "change er.toml alone; sudo er apply puts it in force": (
        "只改 er.toml；由 sudo er apply 使其生效"
    ),
    "{} is closed to you; put sudo before the command": "你无权访问 {}；请在命令前加 sudo",
    "{} can't be read: {}; er check": "{} 无法读取：{}；er check",
    "correct that first; nothing was changed": "请先改正；未作任何改动",
    "this changes er.toml and units: sudo er {} … (or --dry-run)": (
        "这会改动 er.toml 和单元：sudo er {} …（或 --dry-run）"
    ),
    "Do this?": "执行吗？",
    "Write this?": "写入吗？",
    "done: {} is changed; as it was before: {}": "完成：{} 已修改；改动前的版本：{}",
    "In force with: sudo er apply": "使其生效：sudo er apply",
    "with this change er.toml would have errors (above); nothing was changed": (
        "这样改的话 er.toml 会有错误（见上）；未作任何改动"
    ),
    (
        "with this change er.toml would have errors (above); nothing was changed. For er apply "
        "--new-vectors er.toml alone is changed with --no-apply"
    ): (
        "这样改的话 er.toml 会有错误（见上）；未作任何改动。若要用 er apply --new-vectors，请加 "
        "--no-apply 只改 er.toml"
    ),
    ". For er apply --new-vectors er.toml alone is changed with --no-apply": (
        "。若要用 er apply --new-vectors，请加 --no-apply 只改 er.toml"
    ),
    "{}. er.toml alone is changed with --no-apply": "{}。只改 er.toml 请加 --no-apply",
    "er.toml alone is changed with --no-apply": "只改 er.toml 请加 --no-apply",
    "note: er.toml has other changes that are not applied yet; they come with it": (
        "注意：er.toml 还有其他未应用的改动；会一并生效"
    ),
    "er apply then does:": "然后 er apply 将执行：",
    "{w} is the only replica of {}: its clients get 503 until it is up again": (
        "{} 是 {} 唯一的副本：在它恢复之前，其客户端会得到 503"
    ),
    "{} is no plain file, so it is not written; change it by hand": (
        "{} 不是普通文件，因此不写入；请手动修改"
    ),
    "{} was changed meanwhile, by somebody else; nothing was changed: er {} … again": (
        "{} 在此期间被别人改动；未作任何改动：请重新运行 er {} …"
    ),
    "{} was changed meanwhile, by somebody else; nothing was changed": (
        "{} 在此期间被别人改动；未作任何改动"
    ),
    "{}: er {} … again": "{}：请重新运行 er {} …",
    "{}; er.toml is as it was, nothing was applied": "{}；er.toml 没有改动，没有应用任何东西",
    "er.toml is as it was, nothing was applied": "er.toml 没有改动，没有应用任何东西",
    "er.toml is as it was, nothing was applied: {}": "er.toml 没有改动，没有应用任何东西：{}",
    "Back to what it was: {}": "改回原样：{}",
    "{} has the change, and it is not applied whole": "{} 已有这项改动，但没有全部应用",
    "units run from {} ({})": "单元按{}（{}）运行",
    "the new configuration, but not all was done": "新的配置，但没有全部执行",
    "the former one": "以前的配置",
    "go on: sudo er apply": "继续：sudo er apply",
    (
        "is GGUF, which no engine of ER's serves; get the same model as a folder with "
        "config.json, tokenizer.json and *.safetensors"
    ): (
        "是 GGUF，ER 的引擎不支持；请取同一模型的目录，含 config.json、tokenizer.json 和 "
        "*.safetensors"
    ),
    (
        "{} is GGUF, which no engine of ER's serves; get the same model as a folder with "
        "config.json, tokenizer.json and *.safetensors"
    ): (
        "{} 是 GGUF，ER 的引擎不支持；请取同一模型的目录，含 config.json、tokenizer.json 和 "
        "*.safetensors"
    ),
    "{}: no such folder; bring the model's files first (er models pull)": (
        "{}：没有此目录；请先取来模型文件（er models pull）"
    ),
    "bring the model's files first (er models pull)": "请先取来模型文件（er models pull）",
    "{} is a file; name the folder that holds config.json": (
        "{} 是文件；请指定含 config.json 的目录"
    ),
    "{} has no config.json, so it is no folder of a model; name the one that has it": (
        "{} 中没有 config.json，不是模型目录；请写有它的那个"
    ),
    "an alias of {}": "{} 的别名",
    "a model": "模型",
    "{} is {} already; give another name with --name": "{} 已是{}；请用 --name 另取名称",
    "{}: {}, {} as you say": "{}：{}，按你说的 {}",
    (
        "{}: a {} without sentence-transformers' modules.json may be an embedding model, a "
        "reranker or one that writes text (which ER does not serve); say which with --task embed "
        "or --task score"
    ): (
        "{}：没有 sentence-transformers 的 modules.json 的 {} 可能是嵌入模型、重排模型，或生成文"
        "本的模型（ER 不支持）；请用 --task embed 或 --task score 说明"
    ),
    "{}: {}, {w}, as it is a classifier": "{}：{}，{}，因为它是分类模型",
    "{}: {}, {w}, as it has sentence-transformers' modules.json": (
        "{}：{}，{}，因为它有 sentence-transformers 的 modules.json"
    ),
    "{}: {}, {w}, as its folder is called so": "{}：{}，{}，因为目录名如此",
    "{}: {}, {w}, as that family makes vectors": "{}：{}，{}，因为这类模型输出向量",
    "{}: {}, {}, as {}": "{}：{}，{}，因为{}",
    "it is a classifier": "它是分类模型",
    "it has sentence-transformers' modules.json": "它有 sentence-transformers 的 modules.json",
    "its folder is called so": "目录名如此",
    "that family makes vectors": "这类模型输出向量",
    "{} goes via {}; first: er model remove it": "{} 经由 {}；请先对它 er model remove",
    "{} goes: requests for {} get 404 from then on": "去掉 {}：此后对 {} 的请求得到 404",
    "{} goes; with it {}: requests for {} get 404 from then on": (
        "去掉 {}，以及 {}：此后对 {} 的请求得到 404"
    ),
    "no GPU is visible": "看不到任何 GPU",
    'no GPU is visible ({}); name one with --gpu, "cpu" too, or a vLLM elsewhere with --url': (
        '看不到任何 GPU（{}）；请用 --gpu 指定（也可以是 "cpu"），或用 --url 指定别处的 vLLM'
    ),
    'name one with --gpu, "cpu" too, or a vLLM elsewhere with --url': (
        '请用 --gpu 指定（也可以是 "cpu"），或用 --url 指定别处的 vLLM'
    ),
    "replicas there: {}": "上面的副本：{}",
    "no replica there": "上面没有副本",
    "the only one": "唯一的一块",
    "the least used": "占用最少的",
    (
        "{} needs {} of memory at the least (weights {}, cache {}), and {} are free; say a "
        "smaller --kv-cache, or end something"
    ): ("{} 至少需要内存 {}（权重 {}，缓存 {}），空闲 {}；请调小 --kv-cache，或结束一些程序"),
    '{}: {} takes {} of it; beside {} it gets kv_cache = "{}" in place of that, and is restarted': (
        '{}：{} 占用其 {}；与 {} 并存时改为 kv_cache = "{}"，并重启'
    ),
    "{} is shared by {}; {} takes about {} of it": "{} 由 {} 共用；{} 约占 {}",
    "{}: others hold part of it, so {} asks for {} of cache": (
        "{}：其他进程占用了一部分，因此 {} 只要 {} 缓存"
    ),
    "GPU {} has {}, of which others than ER leave {}; needed at the least: {}": (
        "GPU {} 共 {}，ER 以外的进程用后剩 {}；至少需要：{}"
    ),
    "GPU {} has {}, of which others than ER leave {}": "GPU {} 共 {}，ER 以外的进程用后剩 {}",
    "needed at the least: {}": "至少需要：{}",
    "name another card (--gpu), a smaller --kv-cache, or free memory there": (
        "请换一块卡（--gpu）、调小 --kv-cache，或释放那里的显存"
    ),
    "{} does not fit: {}; {}": "{} 放不下：{}；{}",
    "{} does not fit: {}": "{} 放不下：{}",
    "as it would be": "改动之后",
    "none": "无",
    "a replica of {v}, on port {n}": "{} 的副本，端口 {}",
    "a replica of {w}, at {v}": "{} 的副本，地址 {}",
    "no model {}; there are: {} (another: er model add)": (
        "没有模型 {}；现有：{}（另加：er model add）"
    ),
    "{} goes via {}; add a replica of that": "{} 经由 {}；请为后者加副本",
    "--url names a vLLM that runs elsewhere; leave the others out": (
        "--url 指定在别处运行的 vLLM；请去掉其他选项"
    ),
    "{}: {}; give another with --name": "{}：{}；请用 --name 另取",
    "give another with --name": "请用 --name 另取",
    "there is a replica {} already; give another with --name": "已有副本 {}；请用 --name 另取",
    'gpu = "cpu", as {} has': 'gpu = "cpu"，与 {} 相同',
    'gpu = "cpu": the installed vLLM is the CPU build': 'gpu = "cpu"：已安装的 vLLM 是 CPU 版',
    "{w}: gets nothing new, finishes what it has, and ends": (
        "{}：不再接收新请求，做完手上的，然后结束"
    ),
    (
        "{w} is the last replica of {}: from then on requests for {} are answered with 503 (the "
        "model too: er model remove)"
    ): ("{} 是 {} 的最后一个副本：此后对 {} 的请求返回 503（连模型一起去掉：er model remove）"),
    "nothing to change; say --gpu, --port, --kv-cache or --url": (
        "没有要改的；请写 --gpu、--port、--kv-cache 或 --url"
    ),
    "is a vLLM elsewhere: --url alone": "是别处的 vLLM：只能用 --url",
    "runs here: not --url": "在本机运行：不能用 --url",
    "{w} is a vLLM elsewhere: --url alone (else remove it and add another)": (
        "{} 是别处的 vLLM：只能用 --url（否则请去掉它再加一个）"
    ),
    "{w} runs here: not --url (else remove it and add another)": (
        "{} 在本机运行：不能用 --url（否则请去掉它再加一个）"
    ),
    "{} {} (else remove it and add another)": "{} {}（否则请去掉它再加一个）",
    "{} has that already; nothing to change": "{} 本来就是这样；没有要改的",
    "{w}: another {}; it alone is restarted": "{}：换 {}；只重启它",
    ("add to it:\n{}"): ("请在其中加入：\n{}"),
    "add to it:": "请在其中加入：",
    "no table is there that it could follow": "没有可以放在其后的表",
    'remove the [[{}]] table with name = "{}"': '请删除 name = "{1}" 的 [[{0}]] 表',
    'in the [[{}]] table with name = "{}" write: {}': '请在 name = "{1}" 的 [[{0}]] 表中写：{2}',
    "{}, so it is left as it is; {}": "{}，因此没有改动；{}",
    "{}, so it is left as it is": "{}，因此没有改动",
    "it is not TOML as it stands (er check says where), so it is left as it is": (
        "它现在不是有效的 TOML（er check 会说明在哪里），因此没有改动"
    ),
    "it is not TOML as it stands (er check says where)": (
        "它现在不是有效的 TOML（er check 会说明在哪里）"
    ),
    "parts of a [[{}]] table stand far from it": "[[{}]] 表的一部分离它很远",
    "its {}s are not all [[{}]] tables": "其中的 {} 并非都是 [[{}]] 表",
    "it has {n} [[{}]] tables of that name": "有 {} 个该名称的 [[{}]] 表",
    "that table is not understood to the letter": "那个表无法逐字理解",
    "that table can't be taken apart ({})": "那个表无法拆分（{}）",
    "the edit would mean something else": "这样改含义会变",
    "the edit would lose a comment ({})": "这样改会丢掉注释（{}）",
    "on loopback": "在回环地址上",
}
