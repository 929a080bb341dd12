"""A Hydra app that uses the launchers and nothing of `summarizer`: gradient descent on a parabola, with checkpoints."""

import json
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    last = folder / "checkpoints" / "last.json"
    last.parent.mkdir(exist_ok=True)
    state = json.loads(last.read_text()) if last.exists() else {"step": 0, "weight": 0.0}
    print(f"starts at step {state['step']}", flush=True)
    while state["step"] < cfg.steps:
        if state["step"] == cfg.fail_at:
            raise ValueError(f"diverged at step {cfg.fail_at}")
        time.sleep(cfg.seconds_per_step)
        state = {
            "step": state["step"] + 1,
            "weight": state["weight"] + cfg.curve.rate * (cfg.curve.target - state["weight"]),
        }
        partial = last.with_suffix(".partial")
        partial.write_text(json.dumps(state))
        partial.replace(last)
        print(f"step {state['step']} weight {state['weight']:.6f}", flush=True)
        if cfg.report_every and state["step"] % cfg.report_every == 0:
            value = (cfg.curve.target - state["weight"]) ** 2
            with (folder / "reports.jsonl").open("a") as reports:
                reports.write(json.dumps({"step": state["step"], "value": value}) + "\n")
            left = (cfg.steps - state["step"]) * cfg.seconds_per_step
            (folder / "progress.json").write_text(
                json.dumps({"step": state["step"], "steps": cfg.steps, "left_s": left})
            )
    loss = (cfg.curve.target - state["weight"]) ** 2
    (folder / "metrics.json").write_text(json.dumps({"loss": loss}))
    return loss


if __name__ == "__main__":
    main()
