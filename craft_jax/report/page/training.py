"""Figures of what happened while training: curves over seeds, loss terms, reliability, faults."""

import json

import numpy as np

from craft_jax.report.page import spec

_BINS = 60  # points of a curve at most


_CURVES = {"clean_accuracy": "clean accuracy, %", "train_accuracy": "training accuracy, %", "loss": "loss"}


_NO_LOGS = "no metrics.jsonl lies beside the results; it is in a run's working directory"


def figures(study):
    """The Figures of a Study's training, in the page's order."""
    logs = {(run.arm, run.seed): read(run.path) for arm in study.arms for run in study.counted(arm)}
    return [curves(study, logs), terms(study, logs), histogram(study, logs), nan_counts(study)]


def read(result_path):
    """The lines of a run's metrics, [{"step", "epoch", name: number or counts}], or [].

    Args:
      result_path: of its results.json, beside metrics.jsonl; or of a kept result, X.json beside X.jsonl.
    """
    own = result_path.with_name("metrics.jsonl")
    path = own if result_path.name == "results.json" else result_path.with_suffix(".jsonl")
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue  # a crash cut it short, or a disk changed it
    return [line for line in lines if isinstance(line, dict) and "epoch" in line]


def _over_seeds(study, logs, names):
    """Rows: of each arm and quantity its course over epochs, mean and range of the seeds."""
    rows = []
    for name in names:
        for arm in study.arms:
            seeds = [log for (of, _), log in logs.items() if of == arm and any(name in line for line in log)]
            if not seeds:
                continue
            last = max(line["epoch"] for log in seeds for line in log)
            binned = [_binned(log, name, last) for log in seeds]
            for at in sorted(set.intersection(*map(set, binned))):
                values = [of_seed[at] for of_seed in binned]
                rows.append(
                    {
                        "arm": arm,
                        "measure": _CURVES.get(name, name.removeprefix("loss/")),
                        "epoch": at,
                        "value": float(np.mean(values)),
                        "low": min(values),
                        "high": max(values),
                        "n": len(values),
                    }
                )
    return rows


def _binned(log, name, last):
    """{epoch: mean}: a log in at most `_BINS` equal parts; a part is called by its end."""
    parts = {}
    for line in log:
        if name in line:
            part = max(1, int(np.ceil(line["epoch"] / last * _BINS - 1e-9)))
            parts.setdefault(part, []).append(line[name])
    return {round(part * last / _BINS, 4): float(np.mean(values)) for part, values in parts.items()}


def _lines(study, rows, alt, height=170, least=280):
    x = spec.quantity("epoch", "epoch", axis={"grid": False})
    y = spec.quantity("value", None)
    colour = spec.colour(study.arms)
    hover = spec.tooltip(
        arm=("arm", ""),
        measure=("of", ""),
        epoch=("epoch", ".1f"),
        value=("mean", ".4g"),
        low=("least", ".4g"),
        high=("most", ".4g"),
        n=("seeds", "d"),
    )
    band = {"type": "area", "opacity": 0.18}
    body = {
        "layer": [
            {
                "mark": band,
                "encoding": {
                    "x": x,
                    "y": spec.quantity("low", None),
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.6},
                "encoding": {"x": x, "y": y, "color": colour, "strokeDash": spec.dash(study.arms)},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0},
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": hover},
            },
            {
                "transform": _ends(),
                "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": colour,
                    "shape": spec.shape(study.arms),
                    "tooltip": hover,
                },
            },
        ]
    }
    panels = list(dict.fromkeys(row["measure"] for row in rows))
    return spec.multiples(rows, "measure", panels, body, height, least, alt, {"y": "independent"}, key=True)


def _ends():
    """A transform: each line's last point."""
    return [
        {"joinaggregate": [{"op": "max", "field": "epoch", "as": "last"}], "groupby": ["arm", "measure"]},
        {"filter": "datum.epoch === datum.last"},
    ]


_BAND = "Lines: means over seeds; bands: from the least seed to the greatest."


def curves(study, logs):
    """The paper's figure 9: how training went."""
    title = "Training curves"
    rows = _over_seeds(study, logs, _CURVES)
    if not rows:
        return spec.absent("curves", title, _NO_LOGS)
    ends = [row for row in rows if row["measure"] == _CURVES["clean_accuracy"]]
    last = {row["arm"]: row["value"] for row in ends}
    alt = "Clean accuracy at the end of training: " + ", ".join(f"{a} {v:.1f}" for a, v in last.items())
    says = (
        f"{_BAND} Clean accuracy is of held-out images where there are some, else of test images, and "
        f"chooses nothing; the loss is each method's own, in at most {_BINS} means of logged steps. Robust "
        "accuracy is measured once, at the end."
    )
    return spec.Figure("curves", title, says, _lines(study, rows, alt), alt, wide=True)


def terms(study, logs):
    """The terms of the losses, and the teacher's reliability, over time."""
    title = "Loss terms and reliability over time"
    found = {name: None for log in logs.values() for line in log for name in line}
    names = [name for name in found if name.startswith("loss/")]
    names += [name for name in ("reliability", "gradient_norm") if name in found]
    rows = _over_seeds(study, logs, names)
    if not rows:
        return spec.absent("terms", title, _NO_LOGS)
    panels = list(dict.fromkeys(row["measure"] for row in rows))
    alt = f"Panels over epochs: {', '.join(panels)}; a line an arm."
    says = f"{_BAND} A term includes its weight. The panels' axes differ."
    return spec.Figure("terms", title, says, _lines(study, rows, alt, 130, 250), alt, wide=True)


def histogram(study, logs):
    """How the teacher's reliability was spread over images in the last tenth of training."""
    title = "Histogram of r"
    rows = []
    for arm in study.arms:
        counts = [_last_counts(log) for (of, _), log in logs.items() if of == arm]
        counts = [own for own in counts if own is not None]
        if not counts:
            continue
        total = np.sum(counts, axis=0)
        for i, count in enumerate(total):
            rows.append(
                {
                    "arm": arm,
                    "from": i / len(total),
                    "to": (i + 1) / len(total),
                    "share": 100 * float(count / total.sum()),
                }
            )
    if not rows:
        why = "no arm weighs by reliability" if any(logs.values()) else _NO_LOGS
        return spec.absent("reliability", title, why)
    hover = spec.tooltip(
        arm=("arm", ""), **{"from": ("r from", ".1f"), "to": ("to", ".1f")}, share=("% of images", ".1f")
    )
    x = {
        "field": "from",
        "bin": {"binned": True, "step": 0.1},
        "type": "quantitative",
        "axis": {"title": "reliability r", "grid": False, "values": [0, 0.5, 1], "format": ".1f"},
    }
    y = {"field": "share", "type": "quantitative", "axis": {"title": "% of images", "tickCount": 4}}
    body = {
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": x,
            "x2": {"field": "to"},
            "y": y,
            "color": spec.colour(study.arms),
            "tooltip": hover,
        },
    }
    arms = [arm for arm in study.arms if arm in {row["arm"] for row in rows}]
    extremes = {arm: [r["share"] for r in rows if r["arm"] == arm] for arm in arms}
    alt = "Share of images with r below 0.1 and from 0.9 on: " + ", ".join(
        f"{arm} {shares[0]:.0f}% and {shares[-1]:.0f}%" for arm, shares in extremes.items()
    )
    drawn = spec.multiples(rows, "arm", arms, body, 120, 170, alt)
    says = (
        "Of the images of the last tenth of the logged steps (of a kept result: of the lines that are kept), "
        "all seeds together. A score at 0 or 1 for all does nothing."
    )
    return spec.Figure("reliability", title, says, drawn, alt)


def _last_counts(log):
    counted = [line["reliability_histogram"] for line in log if "reliability_histogram" in line]
    return np.sum(counted[-max(1, len(counted) // 10) :], axis=0) if counted else None


def nan_counts(study):
    """The paper's figure 7: steps whose loss or gradient was not finite."""
    rows = [
        {"arm": run.arm, "seed": run.seed, "value": run.result["nan_count"]}
        for run in study.runs
        if run.result.get("nan_count") is not None
    ]
    title = "Steps that were not finite"
    if not rows:
        return spec.absent("nan", title, "no run is done yet")
    most = max(row["value"] for row in rows)
    x = spec.quantity(
        "value",
        "steps with a loss or gradient that is not finite",
        scale={"domain": [0, max(1, most)]},
        axis={"format": "d", "values": [0, max(1, most)]},
    )
    y = spec.row(study.arms)
    counted = {
        "transform": [
            {
                "aggregate": [{"op": "count", "as": "runs"}, {"op": "max", "field": "value", "as": "most"}],
                "groupby": ["arm"],
            },
            {
                "calculate": "(datum.most ? 'at most ' + datum.most : 'none') + ' in ' + datum.runs + ' run'"
                " + (datum.runs > 1 ? 's' : '')",
                "as": "label",
            },
        ],
        "mark": {"type": "text", "align": "left", "dx": 10, "color": "var(--soft)"},
        "encoding": {"x": {"field": "most", "type": "quantitative"}, "y": y, "text": {"field": "label"}},
    }
    hover = spec.tooltip(arm=("arm", ""), seed=("seed", "d"), value=("steps", "d"))
    point = {"type": "point", "filled": True, "size": 60, "opacity": 0.7}
    look = {
        "x": x,
        "y": y,
        "color": spec.colour(study.arms),
        "shape": spec.shape(study.arms),
        "tooltip": hover,
    }
    alt = f"Steps that were not finite: {most} at most, in {len(rows)} runs."
    drawn = spec.chart(rows, {"layer": [{"mark": point, "encoding": look}, counted]}, {"step": 26}, alt)
    says = (
        "A run stops at the first such step, and counts for nothing else here; with "
        "optimizer.skip_nonfinite it leaves such updates out, and counts."
    )
    return spec.Figure("nan", title, says, drawn, alt)
