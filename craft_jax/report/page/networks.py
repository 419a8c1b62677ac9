"""Figures of the networks themselves: what they cost, how far their probabilities can be believed."""

from craft_jax.report import measures
from craft_jax.report.page import accuracies, spec

_COSTS = {
    "parameters": lambda cost: cost.get("parameters"),
    "FLOPs of an image": lambda cost: cost.get("flops"),
    "latency of 1 image, ms": lambda cost: (cost.get("latency_ms") or {}).get("1"),
    "latency of 128 images, ms": lambda cost: (cost.get("latency_ms") or {}).get("128"),
}


def figures(study):
    """The Figures of a Study's networks, in the page's order."""
    return [efficiency(study), calibration(study)]


def efficiency(study):
    """Robust accuracy against the cost of a forward pass; students, and teachers beside them."""
    title = "Accuracy against the network's cost"
    rows = [*_networks(study)]
    if not rows:
        return spec.absent("efficiency", title, "no run notes its network's cost")
    x = {"field": "cost", "type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 24},
         "axis": {"title": None, "tickCount": 3, "labelOverlap": True,
                  "labelExpr": "format(datum.value, datum.value < 1000 ? '~g' : '.2~s')"}}  # fmt: skip
    y = spec.quantity("robust", "robust accuracy, %")
    hover = spec.tooltip(arm=("arm", ""), network=("network", ""), seed=("seed", "d"), cost=("cost", ".4~s"),
                         robust=("robust, %", ".2f"))  # fmt: skip
    body = {
        "layer": [
            spec.layer("student", {"type": "point", "filled": True, "size": 45, "opacity": 0.7},
                       {"x": x, "y": y, "color": spec.colour(study.arms), "shape": spec.shape(study.arms), "tooltip": hover}),
            spec.layer("teacher", {"type": "point", "size": 80, "color": "var(--ink)", "shape": "circle"},
                       {"x": x, "y": y, "tooltip": hover}),
        ]
    }  # fmt: skip
    panels = [name for name in _COSTS if any(row["measure"] == name for row in rows)]
    networks = dict.fromkeys(row["network"] for row in rows)
    alt = f"Robust accuracy against parameters, FLOPs and latency, of {', '.join(networks)}."
    drawn = spec.multiples(rows, "measure", panels, body, 190, 260, alt, {"x": "independent"}, key=True)
    says = (
        "Filled: a student; open: its teacher, on the same images. Logarithmic costs. FLOPs: two for a "
        "multiply-add, of convolutions and head; latency as measured at a run's end, on the hardware named below."
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
                    row = {"arm": arm, "kind": kind, "network": network, "seed": run.seed, "measure": name,
                           "cost": value, "robust": robust}  # fmt: skip
                    key = (kind, network, name, value, robust)
                    if value and robust is not None and (kind == "student" or key not in seen):
                        seen.add(key)
                        yield row


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

    rows = accuracies.spreads(study, tuple(_CALIBRATION), value)
    title = "Calibration"
    if not rows:
        return spec.absent("calibration", title, "no run notes it")
    means = {
        row["arm"]: row["value"]
        for row in rows
        if row["kind"] == "mean" and row["measure"] == "ECE, corrupted"
    }
    alt = "Expected calibration error on corrupted images: " + ", ".join(
        f"{a} {v:.3f}" for a, v in means.items()
    )
    says = (
        "Expected calibration error over 15 bins, negative log-likelihood, and the mean confidence where the "
        "network is wrong; corrupted: means over corruptions and severities. Less is better."
    )
    drawn = accuracies.dots(study, rows, None, alt, 3, 250)
    return spec.Figure("calibration", title, says, drawn, alt, wide=True)
