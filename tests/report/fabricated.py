"""Small results, studies of them and per-image correctness, made up for tests of the report."""

import json

import numpy as np


def result(seed=0, clean=90.0, robust=70.0, config=None, **changes):
    """The least that a results.json of a finished run holds."""
    return {
        **{"status": "done", "method": "erm", "dataset": "digits", "seed": seed, "draws": "d"},
        **{"clean_accuracy": clean, "robust_accuracy": robust, "robust_accuracy_without_jpeg": robust - 1},
        "primary_metric": 0.25 * clean + 0.75 * robust,
        "families": {
            **{"noise": robust + 1, "blur": None, "weather": robust + 2, "digital": robust - 2},
            "weather_and_digital": robust + 0.5,
        },
        "corrupted": {"nll": 1.5, "ece": 0.0625, "confidence_on_errors": 0.5},
        "corruptions": {"fog": [robust, None, None, None, robust]},
        **{"source": "regenerated", "source_record": None, "evaluation_split": "test", "examples": 8},
        **{"data": {"fingerprint": "f"}, "teacher": None, "trained_corruptions": []},
        "config": {
            **{"seed": seed, "method": "erm", "student": {"name": "resnet8"}, "kd": {"weight": 1.0}},
            "views": {"ce_views": "clean", "distill_views": "clean", "kind": "corruptions"},
            **{"eval": {"batch_size": 8}, "data": {"name": "digits", "dir": ""}, **(config or {})},
        },
        **changes,
    }


def write(path, tree):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return str(path)


def study(folder, results, comparisons=(), baseline="", name="trial", manifest="study.json"):
    """Write a study; `results` is {arm: {seed: a result, or None where it is not done}}."""
    runs = []
    for arm, of_seed in results.items():
        for seed, one in of_seed.items():
            where = f"{arm}/seed{seed}/results.json"
            runs.append({"arm": arm, "seed": seed, "result": where})
            if one:
                write(folder / where, one)
    tree = {
        **{"name": name, "question": "Which?", "file": "f.py", "seeds": [0], "baseline": baseline},
        "arms": {arm: {"config": "configs/erm.py", "overrides": {}, "seeds": []} for arm in results},
        "comparisons": [dict(zip(("arm", "baseline", "metric"), c, strict=True)) for c in comparisons],
        "runs": runs,
    }
    return write(folder / manifest, tree)


def correctness(path, cells):
    """Write X.npz: {cell: booleans}, of one length."""
    examples = [len(right) for right in cells.values()]
    bits = np.stack([np.packbits(np.asarray(right, bool)) for right in cells.values()])
    np.savez(path, cells=np.array(list(cells)), examples=np.array(examples), bits=bits)
