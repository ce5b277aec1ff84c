"""The demo's two requests: an embedding and a rerank, shown with answer and timing, and checked.

Needs ER_KEY in the environment. Ends with 1, saying why, when an answer is not right.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request

GATEWAY = "http://127.0.0.1:2048"
# What packages come through (--proxy, http_proxy) has no business with this machine's own port,
# nor with the key.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TEXTS = [
    "I forgot my password and cannot log in",
    "How do I reset my lost login?",
    "Bread needs flour, water and time",
]
QUERY = "How do I get back into my account?"
DOCUMENTS = [
    "Our bakery opens at six in the morning.",
    "Use the reset link on the login page to choose a new password.",
    "The Pacific is the largest ocean.",
]
CHINESE = {
    "200 in {ms:.0f} ms   ({timing})": "200，用时 {ms:.0f} ms   （{timing}）",
    "  [{start}, …] {count} numbers   {text}": "  [{start}, …] {count} 个数   {text}",
    "  password ~ login {near:.3f}, password ~ bread {far:.3f}": (
        "  password 与 login {near:.3f}，password 与 bread {far:.3f}"
    ),
    "The {name} answer is not right.": "{name} 的应答不正确。",
    "Both answers are right: related texts are near, the right document comes first.": (
        "两个应答都正确：相关的文本彼此接近，正确的文档排在最前。"
    ),
}


def said(english: str, **values: object) -> str:
    """The sentence in the language of the locale, as install.sh chooses it (words.sh)."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((os.environ[name] for name in names if os.environ.get(name)), "").lower()
    shown = (sys.stdout.encoding or "").lower() == "utf-8" and os.environ.get("TERM") != "linux"
    return (CHINESE[english] if locale.startswith("zh") and shown else english).format(**values)


def post(path: str, body: dict[str, object]) -> dict[str, object]:
    """Show the request as a curl line, send it, return the answer."""
    print(f"\n$ curl {GATEWAY}{path} -H 'Authorization: Bearer '$ER_KEY \\")
    print(f"    -H 'Content-Type: application/json' -d '{json.dumps(body)}'")
    request = urllib.request.Request(
        GATEWAY + path,
        json.dumps(body).encode(),
        {"authorization": f"Bearer {os.environ['ER_KEY']}", "content-type": "application/json"},
    )
    began = time.perf_counter()
    with DIRECT.open(request, timeout=120) as response:
        answer: dict[str, object] = json.load(response)
        timing = response.headers.get("server-timing", "")
    ms = (time.perf_counter() - began) * 1000
    print(said("200 in {ms:.0f} ms   ({timing})", ms=ms, timing=timing))
    return answer


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def embedding() -> bool:
    answer = post("/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": TEXTS})
    data = answer["data"]
    assert isinstance(data, list)
    vectors = [item["embedding"] for item in data]
    for text, vector in zip(TEXTS, vectors, strict=True):
        start = ", ".join(f"{x:.4f}" for x in vector[:4])
        line = said(
            "  [{start}, …] {count} numbers   {text}", start=start, count=len(vector), text=text
        )
        print(line)
    near, far = cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2])
    print(said("  password ~ login {near:.3f}, password ~ bread {far:.3f}", near=near, far=far))
    return near > 0.5 > far and all(abs(cosine(v, v) - 1) < 1e-3 for v in vectors)


def rerank() -> bool:
    body = {"model": "all-MiniLM-L6-v2-reranker", "query": QUERY, "documents": DOCUMENTS}
    answer = post("/v1/rerank", body)
    results = answer["results"]
    assert isinstance(results, list)
    for result in results:
        print(f"  {result['relevance_score']:.3f}   {DOCUMENTS[result['index']]}")
    return bool(results[0]["index"] == 1 and len(results) == len(DOCUMENTS))


def main() -> int:
    right = True
    for name, check in (("embedding", embedding), ("rerank", rerank)):
        if not check():
            print(said("The {name} answer is not right.", name=name), file=sys.stderr)
            right = False
    if right:
        print()
        print(
            said("Both answers are right: related texts are near, the right document comes first.")
        )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
