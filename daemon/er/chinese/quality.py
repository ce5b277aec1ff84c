"""Chinese: er quality, and the canary's sets."""

from __future__ import annotations

SAID: dict[str, str] = {
    "asking {}; Ctrl-C ends the waiting, not the run": "正在询问 {}；Ctrl-C 只结束等待，不结束测试",
    "asked for": "已要求",
    "every {} when idle": "空闲时每 {}",
    "only when asked: er quality run": "仅在要求时：er quality run",
    "canary set {w}: {n} queries ({}), {n} judged documents; {}": (
        "金丝雀测试集 {}：{} 个查询（{}），{} 个已评判的文档；{}"
    ),
    "own set {}: {}": "自己的测试集 {}：{}",
    "{n} queries": "{} 个查询",
    "{} is out: {}": "{} 已停用：{}",
    "last try: {}": "上次尝试：{}",
    "{w}, {}: nDCG@10 {n}, MRR {n}, recall@3 {n}": "{}，{}：nDCG@10 {}，MRR {}，recall@3 {}",
    "nDCG@10 {n}, MRR {n}": "nDCG@10 {}，MRR {}",
    "{}, out": "{}，已停用",
    "{} ago": "{}前",
    "{} ({n} queries)": "{}（{} 个查询）",
    "over {}": "测试集：{}",
    "95% interval": "95% 区间",
    "95% interval {} to {}, p {}": "95% 区间 {} 至 {}，p {}",
    "{n} of nDCG@10": "nDCG@10 {}",
    "{n} to {n}": "{} 至 {}",
    "nDCG@10, {}": "nDCG@10，{}",
    "scores apart: {n} in the mean, {n} at most; rank correlation {n}": (
        "分数相差：平均 {}，最多 {}；等级相关 {}"
    ),
    "Both put the documents of all {n} queries in the same order.": (
        "全部 {} 个查询的文档，两者排序相同。"
    ),
    "Nothing can be said of so few queries: it takes {n} at least.": (
        "查询太少，无法判断：至少需要 {} 个。"
    ),
    (
        "On these {n} queries {} ranks better than {}, by {n} of nDCG@10 (95% interval {} to {}, "
        "p {}). Whether it does on yours, queries of your own will show: --set FILE."
    ): (
        "在这 {} 个查询上，{} 排序优于 {}，nDCG@10 高 {}（95% 区间 {} 至 {}，p {}）。在你的数据上"
        "是否如此，要用自己的查询来看：--set FILE。"
    ),
    (
        "On these {n} queries {} ranks better than {}, by {} ({}). Whether it does on yours, "
        "queries of your own will show: --set FILE."
    ): (
        "在这 {} 个查询上，{} 排序优于 {}，高 {}（{}）。在你的数据上是否如此，要用自己的查询来看"
        "：--set FILE。"
    ),
    (
        "No difference is shown: {n} of nDCG@10 over {n} queries may be chance (95% interval {} "
        "to {}, p {}). That is no proof that they are alike; more queries see smaller "
        "differences."
    ): (
        "没有显示出差别：{1} 个查询上 nDCG@10 相差 {0} 可能是偶然（95% 区间 {2} 至 {3}，p {4}）。"
        "这不证明两者相同；查询越多，越能看出小的差别。"
    ),
    (
        "No difference is shown: {} over {n} queries may be chance ({}). That is no proof that "
        "they are alike; more queries see smaller differences."
    ): (
        "没有显示出差别：{1} 个查询上相差 {0} 可能是偶然（{2}）。这不证明两者相同；查询越多，越能"
        "看出小的差别。"
    ),
    "{}: {} is no number of dimensions, as 256 is": "{}：{} 不是维数，维数如 256",
    "{} names nothing; write MODEL or replica=NAME": (
        "{} 没有指定任何东西；请写 MODEL 或 replica=NAME"
    ),
    "no model {} is served; there are: {}": "没有模型 {}；现有：{}",
    "a query of the set can't be embedded: {}": "测试集中有一个查询无法嵌入：{}",
    "a document of the set can't be embedded: {}": "测试集中有一个文档无法嵌入：{}",
    "a {} of the set can't be embedded: {}": "测试集中有一个 {} 无法嵌入：{}",
    "an answer of another shape than /v1/rerank has": "应答不是 /v1/rerank 的格式",
    "no replica {}; there are: {}": "没有副本 {}；现有：{}",
    "{} is user er's: use sudo": "{} 属于用户 er：请用 sudo",
    "{}: its vectors have {n} numbers": "{}：其向量为 {} 维",
    "replica {} gives no answer: {}": "副本 {} 没有应答：{}",
    "A and B are the same; name two models, replicas or dimensions": (
        "A 和 B 相同；请写两个模型、副本或维数"
    ),
    "{} is for root and members of group er: use sudo": "{} 仅限 root 和 er 组成员：请用 sudo",
    "no gateway answers at {} ({}); start it": "{} 上没有网关应答（{}）；请启动它",
    "{} can't be read: {}; use sudo": "{} 无法读取：{}；请用 sudo",
    "can't be read: {}; use sudo": "无法读取：{}；请用 sudo",
    "{}; er check tells all": "{}；er check 会列出全部",
    "er check tells all": "er check 会列出全部",
    "{}: a reranker has no dimensions": "{}：重排模型没有维数",
    "what a replica answers is still compared with what was recorded": (
        "副本的结果仍与记录的参考比较"
    ),
    "{} can't be written by this user: sudo er quality reference …": (
        "此用户无法写入 {}：sudo er quality reference …"
    ),
    "transformers gave other scores than were asked for": "transformers 给出的分数与要求的不符",
    "{}: {n} pairs by transformers {} in float32, {}: nDCG@10 {n}, MRR {n}, recall@3 {n}": (
        "{0}：由 transformers {2} 以 float32 算出 {1} 对，{3}：nDCG@10 {4}，MRR {5}，recall@3 {6}"
    ),
    "kept in {}; each replica is held against it from its next run on: er quality run": (
        "已保存在 {}；每个副本从下次测试起与它比较：er quality run"
    ),
    "from what was recorded: {n} in the mean, {n} at most, rank correlation {n}": (
        "与记录的参考相差：平均 {}，最多 {}，等级相关 {}"
    ),
    "{} has no model {}; there are: {}": "{} 中没有模型 {}；现有：{}",
    "{} ranks by the vectors of {}; name that model": "{} 用 {} 的向量排序；请写那个模型",
    "{}: {}; er check tells more": "{}：{}；er check 有更多说明",
    "er check tells more": "er check 有更多说明",
    "{} with a {} ({}, {} pooling)": "{}，{}（{}，{} 池化）",
    "{}: this command has no recipe for {}": "{}：此命令没有适用于 {} 的方法",
    (
        "{}: this command has no recipe for {}; what a replica answers is still compared with "
        "what was recorded"
    ): ("{}：此命令没有适用于 {} 的方法；副本的结果仍与记录的参考比较"),
    "{}: has {} behind its pooling, which this command does not compute": (
        "{}：池化之后还有 {}，此命令不计算它"
    ),
    (
        "{}: has {} behind its pooling, which this command does not compute; what a replica "
        "answers is still compared with what was recorded"
    ): ("{}：池化之后还有 {}，此命令不计算它；副本的结果仍与记录的参考比较"),
    "{}: no weights (*.safetensors) in it that can be read": (
        "{}：其中没有可读取的权重（*.safetensors）"
    ),
    "{}: not a safetensors file; copy the model again": "{}：不是 safetensors 文件；请重新复制模型",
    (
        "it needs {} of main memory ({} of weights in float32), and {} are free; run it on a "
        "machine with more, and copy the file it makes"
    ): (
        "需要内存 {}（float32 权重 {}），空闲 {}；请在内存更多的机器上运行，再把生成的文件复制过来"
    ),
    "{} can't be run: {}; run install.sh": "{} 无法运行：{}；请运行 install.sh",
    "run install.sh": "请运行 install.sh",
    "loading the weights into main memory as float32; it takes a while": (
        "正在以 float32 把权重加载到内存；需要一些时间"
    ),
    "{n} of {n} sequences": "{}/{} 个序列",
    "the computation was ended by signal {n}; 9 mostly means: out of memory": (
        "计算被信号 {} 结束；9 多半表示内存不足"
    ),
    "{}: {}; it takes vLLM's environment: run install.sh, without --no-vllm": (
        "{}：{}；需要 vLLM 的环境：请运行 install.sh，不加 --no-vllm"
    ),
    "transformers failed: {}": "transformers 失败：{}",
    "{} is damaged ({}); remove it, and make it anew": "{} 已损坏（{}）；请删除它，重新生成",
    "{} can't be read: {}": "{} 无法读取：{}",
    "as root (sudo), or as user er": "以 root（sudo）或用户 er",
    "{} can't be written: {}; try as root (sudo), or as user er": (
        "{} 无法写入：{}；请以 root（sudo）或用户 er 再试"
    ),
    "{} can't be written: {}; try {}": "{} 无法写入：{}；请试 {}",
    (
        'write {"id": "q1", "language": "en", "query": "...", "documents": [{"text": "...", '
        '"grade": 3}, {"text": "...", "grade": 0}]}'
    ): (
        '请写成 {"id": "q1", "language": "en", "query": "...", "documents": [{"text": "...", '
        '"grade": 3}, {"text": "...", "grade": 0}]}'
    ),
    "the id {} stands in line {} already; give it its own": "id {} 在第 {} 行已有；请各用各的",
    "over {n} queries; keep the most telling ones": "超过 {} 个查询；请只留最能说明问题的",
    "has no query; {}": "没有 query；{}",
    "a text is blank; every query and document must say something": (
        "有空白文本；每个查询和文档都要有内容"
    ),
    (
        "no document answers the query (grade 2 or 3), so there is no right order; grade one 2 "
        "or 3 (where you only know yes and no, write 3 and 0)"
    ): (
        "没有文档能回答该查询（grade 为 2 或 3），也就没有正确的排序；请给其中一个 2 或 3（只知道"
        "是与否的，写 3 和 0）"
    ),
    "every document answers the query, so any order is right; add others": (
        "每个文档都能回答该查询，任何排序都对；请加入其他文档"
    ),
    "the document {} stands twice; leave one of them": "文档 {} 出现两次；请只留一个",
    "{n} scores for {n} documents": "{1} 个文档得到 {0} 个分数",
    "a score is NaN": "有一个分数是 NaN",
    "{n} queries against {n}; it takes the same, 2 at least": (
        "{} 个查询对 {} 个；两边必须一样多，至少 2 个"
    ),
    "a measure is NaN or infinite": "有一个指标是 NaN 或无穷大",
    # heads
    "REPLICA": "副本",
    "MODEL": "模型",
    "KEY": "密钥",
    "LAST": "上次",
    "newest:": "最近：",
    "rating": "评分",
    "mean difference": "平均差",
    "{} with a {} ({}, no pooling)": "{}，{}（{}，无池化）",
}
