"""The engine's own rate, without HTTP: offline.py MODEL GO

Loads the engine, then waits for the file GO, so that it can load while others are measured.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load import words


def main() -> None:
    from vllm import LLM

    model, go = sys.argv[1], Path(sys.argv[2])
    llm = LLM(
        model,
        runner="pooling",
        dtype="bfloat16",
        max_model_len=8192,
        gpu_memory_utilization=0.15,
        kv_cache_memory_bytes=6 << 30,
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
    )
    print("READY", flush=True)
    while not go.exists():
        time.sleep(0.05)
    ids, pick = [n for _, n in words(model)], random.Random(int(time.time()))
    for tokens, n in ((128, 4000), (16, 8000)):
        best = 0.0
        for _ in range(2):
            asked = [{"prompt_token_ids": pick.choices(ids, k=tokens)} for _ in range(n)]
            began = time.monotonic()
            done = llm.embed(asked, use_tqdm=False)
            assert len(done) == n
            best = max(best, n / (time.monotonic() - began))
        print("FIGURE", json.dumps({"tokens": tokens, "seq_s": round(best)}), flush=True)
    print("DONE", flush=True)


if __name__ == "__main__":  # the engine's process imports this file again
    main()
