"""Chinese: fingerprints: whether a name still gives the vectors that are stored under it."""

from __future__ import annotations

SAID: dict[str, str] = {
    (
        "so nothing tells whether names give other vectors than before. Bring it back from a "
        "backup (er help backup), or move it away: then the next er apply takes what they give as "
        "it is"
    ): (
        "因此无法判断各名称给出的向量是否与之前不同。请从备份恢复它（er help backup），或把它移走："
        "之后的 er apply 会以现在给出的为准"
    ),
    "it is damaged": "它已损坏",
    "it is a link": "它是一个链接",
    "it is of another ER": "它属于另一个版本的 ER",
    "names may give other vectors than before: what is stored is to be built again": (
        "名称可以对应与之前不同的向量：已存的要重建"
    ),
    (
        "what is stored under that name would no longer fit. Put the new model beside it, under "
        "a name of its own (er model add, er help vectors), or, if all that is stored is to be "
        "built again: sudo er apply --new-vectors"
    ): (
        "用这个名称存下的就不再匹配。请把新模型用自己的名称放在旁边（er model add，er help "
        "vectors）；如果已存的都要重建：sudo er apply --new-vectors"
    ),
    "what is stored under that name would no longer fit": "用这个名称存下的就不再匹配",
    "what is stored under that name would no longer fit.": "用这个名称存下的就不再匹配。",
    (
        "Put the new model beside it, under a name of its own (er model add, er help vectors), or, "
        "if all that is stored is to be built again: sudo er apply --new-vectors"
    ): (
        "请把新模型用自己的名称放在旁边（er model add，er help vectors）；如果已存的都要重建："
        "sudo er apply --new-vectors"
    ),
    "all that is stored under that name is to be built again, as --new-vectors has it": (
        "用这个名称存下的都要重建，如 --new-vectors 所示"
    ),
    "{}: its scores change, and replicas that run take it up with: er restart --model {}": (
        "{}：分数会改变，运行中的副本要用它请：er restart --model {}"
    ),
    "replicas that run take it up with: er restart --model {}": (
        "运行中的副本要用它请：er restart --model {}"
    ),
    "{} gives other vectors than before": "{} 的向量与之前不同",
    "{} gives other scores than before": "{} 的分数与之前不同",
    "{} gives other vectors than before, other {} in {}: {}, applied is {}": (
        "{0} 的向量与之前不同，{2} 中的 {1} 不同：{3}，已应用的是 {4}"
    ),
    "{} gives other vectors than before, other {} in {} ({} before): {}, applied is {}": (
        "{0} 的向量与之前不同，{2}（之前 {3}）中的 {1} 不同：{4}，已应用的是 {5}"
    ),
    "{} gives other vectors than before: it was a name of {}, other {} in {}: {}, applied is {}": (
        "{0} 的向量与之前不同：它曾是 {1} 的名称，{3} 中的 {2} 不同：{4}，已应用的是 {5}"
    ),
    (
        "{} gives other vectors than before: it was a name of {}, other {} in {} ({} before): "
        "{}, applied is {}"
    ): (
        "{0} 的向量与之前不同：它曾是 {1} 的名称，{3}（之前 {4}）中的 {2} 不同：{5}，已应用的是 {6}"
    ),
    (
        "{} gives other scores than before, other {} in {}: {}, applied is {}: its scores "
        "change, and replicas that run take it up with: er restart --model {}"
    ): (
        "{0} 的分数与之前不同，{2} 中的 {1} 不同：{3}，已应用的是 {4}：分数会改变，运行中的副本要"
        "用它请：er restart --model {5}"
    ),
    (
        "{} gives other scores than before, other {} in {} ({} before): {}, applied is {}: its "
        "scores change, and replicas that run take it up with: er restart --model {}"
    ): (
        "{0} 的分数与之前不同，{2}（之前 {3}）中的 {1} 不同：{4}，已应用的是 {5}：分数会改变，运"
        "行中的副本要用它请：er restart --model {6}"
    ),
    "it was a name of {}": "它曾是 {} 的名称",
    "model {w}: {} (other vectors under a name)": "模型 {}：{}（名称下的向量不同）",
    "model {w}: its name goes to {w} (other vectors under a name)": (
        "模型 {}：名称改归 {}（名称下的向量不同）"
    ),
    "the alias {}": "别名 {}",
    "the name {}": "名称 {}",
    "remember what each model's vectors are of, by its fingerprint": (
        "记下每个模型的向量由什么算出（指纹）"
    ),
    "restart {w}: its model gives new vectors": "重启 {}：其模型给出新的向量",
    "give the gateway new workers, which read the models' files anew": (
        "为网关换上新的工作进程，它们会重新读取模型文件"
    ),
    "{}: {}; copy the folder again": "{}：{}；请重新复制该目录",
    "copy the folder again": "请重新复制该目录",
    (
        "{} has other {} than what was applied ({}, applied is {}): vectors that are stored under "
        "{} would no longer fit. Put the old files back, or, if all that is stored is to be "
        "built again: sudo er apply --new-vectors (er help vectors)"
    ): (
        "{0} 中的 {1} 不是已应用的（{2}，已应用的是 {3}）：用 {4} 存下的向量就不再匹配。请放回旧"
        "文件；如果已存的都要重建：sudo er apply --new-vectors（er help vectors）"
    ),
    "its scores change, and": "分数会改变，",
    "({} before)": "（之前 {}）",
    "{}, other {} in {}: {}, applied is {}": "{0}，{2} 中的 {1} 不同：{3}，已应用的是 {4}",
}
