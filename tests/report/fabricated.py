"""Small results, studies of them and per-image correctness, made up for tests of the report."""

import csv
import json
import zlib

import numpy as np

from craft_jax import corruptions
from craft_jax.evaluation import robustness
from craft_jax.report import __main__ as report


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


def whole_result(arm, method, seed, robust, **changes):
    """A result with all that a page shows, of `robust` percent more or less."""
    random = np.random.RandomState(zlib.crc32(f"{arm}{seed}".encode()))

    def network(level, random):
        cells = level + random.normal(0, 4, (len(corruptions.TEST), 1)) - np.arange(5) * 6 + 12
        table = {name: row.tolist() for name, row in zip(corruptions.TEST, cells, strict=True)}
        calibration = {"nll": 1.2, "ece": 0.08, "confidence_on_errors": 0.6}
        return {
            **{"clean_accuracy": level + 20, "robust_accuracy": float(cells.mean()), "corruptions": table},
            "robust_accuracy_without_jpeg": float(cells[:-1].mean()),
            **{"families": robustness.by_family(table), "clean": calibration, "corrupted": calibration},
            "primary_metric": 0.25 * (level + 20) + 0.75 * float(cells.mean()),
        }

    cost = {"parameters": 78_042, "flops": 23_520_554, "latency_ms": {"1": 0.8, "128": 63.0}}
    bigger = {"parameters": 272_474, "flops": 81_000_000, "latency_ms": {"1": 2.1, "128": 160.0}}
    taught = {
        "teacher": {"name": "resnet20", "params_sha256": "7" * 64, "cost": bigger},
        "teacher_evaluation": network(68.0, np.random.RandomState(7))
        | {"agreement": {"clean": 90.0, "corrupted": 75.0}},
    }
    whole = {
        **(result(seed, method=method, dataset="cifar10") | network(robust, random)),
        **({} if method == "erm" else taught),
        **{"nan_count": 0, "cost": cost, "date": "2026-11-29T23:25:55+00:00", "device": "1 x cpu"},
        **{"examples": 2000, "timings": {"training_seconds": 300 + 9 * seed}, "resumed_from": []},
        **{"params_sha256": "a" * 64, "commit": "0123456789ab"},
    }
    whole["config"]["data"]["name"] = "cifar10"
    whole["config"] |= {"epochs": 8, "method": method}
    return {**whole, **changes}


def metrics(path, method, seed):
    """Write a metrics.jsonl of eight epochs beside a result."""
    random = np.random.RandomState(seed)
    lines = []
    for step in range(1, 65):
        loss = {"loss/ce": 2.3 * np.exp(-step / 30) + random.rand() / 5}
        line = {
            "step": step,
            "epoch": step / 8,
            "nan_count": 0,
            "train_accuracy": 80 - 60 * np.exp(-step / 20),
        }
        if method != "erm":
            loss["loss/kd"] = 3 * np.exp(-step / 25) + random.rand() / 5
        if method == "craft":
            counts = random.randint(1, 9, 10) + np.array([0] * 9 + [90])
            line |= {"reliability": 0.85, "reliability_histogram": counts.tolist()}
        if step % 8 == 0:
            line["clean_accuracy"] = 75 - 50 * np.exp(-step / 20) + random.rand()
        lines.append(
            json.dumps(line | loss | {"loss": sum(loss.values()), "gradient_norm": 1 + random.rand()})
        )
    path.write_text("\n".join(lines) + "\n")


def calibration_bins(correct):
    """A result's "calibration_bins", of so many right images of 40."""
    bins = {"count": [0] * 14 + [40], "confidence": [0.0] * 14 + [36.0], "correct": [0] * 14 + [correct]}
    return {"clean": bins, "corrupted": bins}


def features(folder):
    """Write features.json beside a whole result."""
    cka = {"clean": [1.0, 0.9, 0.8], "fog": [[0.9 - i / 10, 0.8, 0.7] for i in range(5)]}
    parts = {"fragility": [i / 10 for i in range(10)], "error": [5.0 * i for i in range(10)]}
    found = {"params_sha256": "a" * 64, "examples": 40, "cka": cka}
    write(folder / "features.json", found | {"fragility": {**parts, "correlation": 0.5}})


def whole_study(folder, arms, seeds, planned=(), baseline="", **changes):
    """Write a study with all that a page shows; `arms` is {arm: (method, robust accuracy)}."""
    results = {}
    for arm, (method, robust) in arms.items():
        random = np.random.RandomState(zlib.crc32(arm.encode()))
        levels = robust + random.normal(0, 0.6, seeds)
        results[arm] = {
            s: whole_result(arm, method, s, level, calibration_bins=calibration_bins(20))
            for s, level in enumerate(levels)
        }
    path = study(folder, results, planned, baseline, **changes)
    for arm, (method, _) in arms.items():
        for seed in range(seeds):
            metrics(folder / arm / f"seed{seed}" / "metrics.jsonl", method, seed)
            if method != "erm":
                features(folder / arm / f"seed{seed}")
    return path


# ----------------------------------------------------------------------------------------------------
# What the report makes of them


def of(values, **changes):
    return {seed: result(seed, robust=value, **changes) for seed, value in enumerate(values)}


def made(tmp_path, *paths):
    """{table: rows as dicts} that the report writes."""
    assert report.main([*map(str, paths), f"--out={tmp_path / 'out'}"]) == 0
    return read(tmp_path / "out" / "tables")


def read(folder):
    names = ("arms", "comparisons", "differences")
    return {name: list(csv.DictReader((folder / f"{name}.csv").open(newline=""))) for name in names}


def pick(rows, **wanted):
    (row,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return row
