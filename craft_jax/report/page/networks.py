"""Figures of the networks themselves: what they and their training cost, how far they can be believed."""

import numpy as np

from craft_jax.report import measures
from craft_jax.report.page import points, spec


def figures(study):
    """The Figures of a Study's networks, in the page's order."""
    return [efficiency(study), cost(study), calibration(study)]


_COSTS = {
    "parameters": lambda cost: cost.get("parameters"),
    "FLOPs of an image": lambda cost: cost.get("flops"),
    "latency of 1 image, ms": lambda cost: (cost.get("latency_ms") or {}).get("1"),
    "latency of 128 images, ms": lambda cost: (cost.get("latency_ms") or {}).get("128"),
}


def efficiency(study):
    """Robust accuracy against the cost of a forward pass; students, and teachers beside them."""
    title = "Accuracy against the network's cost"
    rows = [*_networks(study)]
    if not rows:
        return spec.absent("efficiency", title, "no run notes its network's cost")
    x = {
        "field": "cost",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 24},
        "axis": {
            "title": None,
            "tickCount": 3,
            "labelOverlap": True,
            "labelExpr": "format(datum.value, datum.value < 1000 ? '~g' : '.2~s')",
        },
    }
    y = spec.quantity("robust", "robust accuracy, %")
    hover = spec.tooltip(
        arm=("arm", ""),
        network=("network", ""),
        seed=("seed", "d"),
        cost=("cost", ".4~s"),
        robust=("robust, %", ".2f"),
    )
    body = {
        "layer": [
            spec.layer(
                "student",
                {"type": "point", "filled": True, "size": 45, "opacity": 0.7},
                {
                    "x": x,
                    "y": y,
                    "color": spec.colour(study.arms),
                    "shape": spec.shape(study.arms),
                    "tooltip": hover,
                },
            ),
            spec.layer(
                "teacher",
                {"type": "point", "size": 80, "color": "var(--ink)", "shape": "circle"},
                {"x": x, "y": y, "tooltip": hover},
            ),
        ]
    }
    panels = [name for name in _COSTS if any(row["measure"] == name for row in rows)]
    networks = dict.fromkeys(row["network"] for row in rows)
    alt = f"Robust accuracy against parameters, FLOPs and latency, of {', '.join(networks)}."
    drawn = spec.multiples(rows, "measure", panels, body, 190, 260, alt, {"x": "independent"}, key=True)
    says = (
        "Filled: a student; open: its teacher, on the same images. Logarithmic costs. FLOPs: two for a "
        "multiply-add, of convolutions and head; latency as measured at a run's end, on its hardware."
    )
    return spec.Figure("efficiency", title, says, drawn, alt, wide=True)


def _networks(study):
    """Rows: a student or a teacher, a measure of its cost, its robust accuracy."""
    seen = set()
    for arm in study.arms:
        for run in study.counted(arm):
            taught = run.result.get("teacher") or {}
            pairs = [("student", run.result["config"]["student"]["name"], run.result, run.result.get("cost"))]
            if measured := run.result.get("teacher_evaluation"):
                pairs.append(("teacher", taught.get("name"), measured, taught.get("cost")))
            for kind, network, result, cost in pairs:
                robust = measures.value(result, "robust")
                for name, of in _COSTS.items():
                    value = of(cost or {})
                    row = {
                        "arm": arm,
                        "kind": kind,
                        "network": network,
                        "seed": run.seed,
                        "measure": name,
                        "cost": value,
                        "robust": robust,
                    }
                    key = (kind, network, name, value, robust)
                    if value and robust is not None and (kind == "student" or key not in seen):
                        seen.add(key)
                        yield row


def cost(study):
    """The paper's figure 8: what training costs, against what it gives."""
    title = "Training time against robust accuracy"
    rows = []
    for arm in study.arms:
        found = []
        for run in study.counted(arm):
            pair = _minutes(run.result), measures.value(run.result, "robust")
            if None not in pair:
                found.append(pair)
                rows.append(
                    {"arm": arm, "kind": "seed", "seed": run.seed, "minutes": pair[0], "robust": pair[1]}
                )
        if found:
            minutes, robust = np.mean(found, axis=0).tolist()
            rows.append({"arm": arm, "kind": "mean", "minutes": minutes, "robust": robust, "n": len(found)})
    if not rows:
        return spec.absent("cost", title, "no run notes its training's seconds (a resumed run cannot)")
    x, y = spec.quantity("minutes", "minutes of training"), spec.quantity("robust", "robust accuracy, %")
    alt = "Minutes of training and robust accuracy: " + ", ".join(
        f"{row['arm']} {row['minutes']:.1f} and {row['robust']:.1f}%" for row in rows if row["kind"] == "mean"
    )
    spec.set_labels(rows, "robust")
    drawn = spec.chart(rows, points.clouds(study, x, y, ("minutes", "robust")), spec.CLOUD, alt)
    says = (
        "The student's training alone, the teacher's forward passes in it, no evaluation. Machines that "
        "do other work as well take longer. Small: a run; large, named: the mean of an arm."
    )
    return spec.Figure("cost", title, says, drawn, alt)


def _minutes(result):
    """Minutes that a run trained; None where its last process resumed and saw a part of them alone."""
    seconds = (result.get("timings") or {}).get("training_seconds")
    return None if seconds is None or result.get("resumed_from") else seconds / 60


_CALIBRATION = {
    "ECE, clean": ("clean", "ece"),
    "ECE, corrupted": ("corrupted", "ece"),
    "NLL, clean, nats": ("clean", "nll"),
    "NLL, corrupted, nats": ("corrupted", "nll"),
    "confidence on errors, clean": ("clean", "confidence_on_errors"),
    "confidence on errors, corrupted": ("corrupted", "confidence_on_errors"),
}


def calibration(study):
    """How far probabilities can be believed: ECE, NLL, confidence on errors."""

    def value(result, measure):
        images, name = _CALIBRATION[measure]
        return (result.get(images) or {}).get(name)

    rows = points.spreads(study, tuple(_CALIBRATION), value)
    title = "Calibration"
    if not rows:
        return spec.absent("calibration", title, "no run notes it")
    alt = f"Expected calibration error. {points.said(rows, 'ECE, corrupted', 3)}."
    says = (
        "Expected calibration error over 15 bins, negative log-likelihood, and the mean confidence where the "
        "network is wrong; corrupted: means over corruptions and severities. Less is better."
    )
    drawn = points.dots(study, rows, None, alt, 3, 250)
    return spec.Figure("calibration", title, says, drawn, alt, wide=True)
