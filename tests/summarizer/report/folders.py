"""Folders of finished runs, made without training: a report reads files only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import yaml

HOSTILE = "</script><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(1)> & \"q\" 'q'"


def make_run(
    folder: Path,
    *,
    lr: float = 1e-3,
    quality: float = 0.3,
    rows: int = 40,
    seed: int = 0,
    cost: float | None = None,
    text: str = "a parser for music",
    steps: int = 100,
    **settings: Any,
) -> Path:
    """One finished run whose per-document ROUGE-L scatters around `quality` (0 to 1).

    Rows of runs with the same `seed` have the same documents; a run of better quality is better on nearly every row.
    """
    (folder / "logs").mkdir(parents=True)
    config = {
        "name": "probe", "seed": seed, "task": "train", "model": {"name": "tiny", "recipe": {"lr": lr}},
        "data": {"name": "made", "cache_dir": None}, "optim": {"lr": lr, "weight_decay": 0.0}, "provider": {"name": "local"},
        **settings,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "overrides.yaml").write_text(yaml.safe_dump([f"optim.lr={lr}", "name=probe"]))
    base = np.random.default_rng(seed).normal(0, 0.05, rows)
    scores = np.clip(quality + base + np.random.default_rng(int(lr * 1e7)).normal(0, 0.01, rows), 0, 1)
    measured: dict[str, Any] = {
        "test/rougeL": 100 * scores.mean(), "test/rouge1": 100 * scores.mean() + 3, "test/rouge2": 12.0, "test/rougeLsum": 30.0,
        "test/rougeL_low": 100 * scores.mean() - 2, "test/rougeL_high": 100 * scores.mean() + 2, "test/rows": float(rows),
        "test/generation_seconds": 4.0, "test/rouge_tokenizer": "rouge_score", "test/novel_1gram": 3.0, "test/novel_2gram": 9.0,
        **{f"test/{rule}/{key}": 20.0 for rule in ("lead1", "is_a") for key in ("rouge1", "rouge2", "rougeL", "rougeLsum")},
        "validation/rougeL": 100 * quality, "validation/loss": 3 - quality, "train/seconds": 60 / lr / 1000, "train/tokens_per_second": 1e4,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(measured))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "seconds": 90.0}))
    (folder / "provenance.json").write_text(
        json.dumps({"commit": "abc", "dirty": False, "versions": {"torch": "2.13.0"}})
    )
    if cost is not None:
        machines = [
            {
                "provider": "vast",
                "gpu": "RTX 4090",
                "spot": True,
                "price": 0.4,
                "cost": cost,
                "created": 0.0,
                "ended": 600.0,
            }
        ]
        (folder / "rental.json").write_text(json.dumps({"cost": cost, "price": 0.4, "machines": machines}))
    lines = ["epoch,step,train/loss,validation/loss,validation/rougeL"]
    lines += [f"0,{step},{3 - step / 100 * quality},," for step in range(0, steps, 5)]
    lines += [f"0,{step},,{3 - step / 100 * quality},{step / 100 * 100 * quality}" for step in range(24, steps, 25)]
    (folder / "logs" / "metrics.csv").write_text("\n".join(lines) + "\n")
    documents = [f"document {i} about {text}" for i in range(rows)]
    table = {
        "id": [f"row-{i}" for i in range(rows)], "document": documents, "reference": [f"reference {i}" for i in range(rows)],
        "summary": [f"{text} novelword {i}" for i in range(rows)], **dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), scores),
    }  # fmt: skip
    parquet.write_table(pa.table(table), folder / "predictions.parquet")
    return folder
