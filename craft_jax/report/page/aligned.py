"""Figures of what runs record beside accuracies: alignment of features, fragility, calibration curves."""

import numpy as np

from craft_jax import corruptions, files
from craft_jax.errors import CheckpointError
from craft_jax.report import features
from craft_jax.report.page import spec

_HOW = "not computed; `python -m craft_jax.report features DIR` does, from a run's checkpoint and teacher"


def figures(study):
    """The Figures of a Study's features and calibration curves, in the page's order."""
    found = {arm: [own for run in study.counted(arm) if (own := _read(run))] for arm in study.arms}
    found = {arm: own for arm, own in found.items() if own}
    return [alignment(study, found), fragility(study, found), calibration_curve(study)]


def _read(run):
    """What `craft_jax.report.features` wrote of this very student; None where it did not.

    Raises:
      CheckpointError: the file there is something else.
    """
    beside = run.path.with_name(features.FILE)
    path = beside if run.path.name == "results.json" else run.path.with_suffix(f".{features.FILE}")
    if not path.exists():
        return None
    own = files.read_json(path)
    try:
        cells, parts = [value for _, value in _cells(own["cka"])], own["fragility"]
        tenths = [value for pair in zip(parts["fragility"], parts["error"], strict=True) for value in pair]
        numbers = [own["examples"], *cells, *tenths, parts["correlation"] or 0]
        is_whole = cells and tenths and all(isinstance(value, int | float) for value in numbers)
        is_own = own["params_sha256"] == run.result.get("params_sha256")
    except (KeyError, TypeError, ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path}: not the features of a run; allowed: what `report features` writes")
    return own if is_own else None


def alignment(study, found):
    """The paper's figure 2: linear CKA of student and teacher over layers, corruptions and severities."""
    title = "Teacher and student features aligned"
    if not found:
        return spec.absent("alignment", title, _HOW)
    rows = []
    for arm, runs in found.items():
        cells = [dict(_cells(own["cka"])) for own in runs]
        for name, severity, stage in cells[0]:
            values = [own[name, severity, stage] for own in cells if (name, severity, stage) in own]
            rows.append(
                {
                    **{
                        "arm": arm,
                        "panel": f"{arm}, stage {stage}",
                        "corruption": name,
                        "severity": severity,
                    },
                    **{"value": float(np.mean(values)), "n": len(values)},
                }
            )
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    names = list(dict.fromkeys(row["corruption"] for row in rows))
    least = min(row["value"] for row in rows)
    hover = spec.tooltip(
        arm=("arm", ""), panel=("layer", ""), corruption=("corruption", ""), severity=("severity", ""),
        value=("CKA", ".3f"), n=("seeds", "d"),
    )  # fmt: skip
    legend = {"title": "linear CKA", "orient": "top", "gradientLength": 160}
    scale = {"scheme": "viridis", "domain": [float(np.floor(least * 10) / 10), 1]}
    severities = {"field": "severity", "type": "nominal", "sort": ["clean", *"12345"]}
    body = {
        "mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 1},
        "encoding": {
            "x": {**severities, "axis": {"title": "severity", "labelAngle": 0, "grid": False}},
            "y": spec.row(names, "corruption", labelFontSize=11),
            "color": {"field": "value", "type": "quantitative", "scale": scale, "legend": legend},
            "tooltip": hover,
        },
    }
    means = {p: np.mean([row["value"] for row in rows if row["panel"] == p]) for p in panels}
    alt = "Mean linear CKA of student and teacher: " + ", ".join(f"{p} {v:.2f}" for p, v in means.items())
    drawn = spec.multiples(rows, "panel", panels, body, {"step": 15}, 210, alt)
    examples = sorted({own["examples"] for runs in found.values() for own in runs})
    says = (
        "Linear centred kernel alignment of the pooled stages (Kornblith et al. 2019), 0 to 1, defined for "
        f"networks of unequal widths; mean over seeds, {', '.join(map(str, examples))} images. "
        "Both networks see the same images."
    )
    return spec.Figure("alignment", title, says, drawn, alt, _lacking(study, found), wide=True)


def _cells(cka):
    """((corruption, severity or "clean", stage from 1), CKA) of every cell."""
    clean = cka["clean"]
    for name, of_severities in cka.items():
        if name == "clean":
            continue
        levels = zip(("clean", *map(str, corruptions.SEVERITIES)), (clean, *of_severities), strict=True)
        for severity, of_stages in levels:
            for stage, value in enumerate(of_stages or (), 1):
                yield (name.replace("_", " "), severity, stage), value


def _lacking(study, found):
    others = [
        arm
        for arm in study.arms
        if arm not in found and any(r.result.get("teacher") for r in study.counted(arm))
    ]
    return f"Of {', '.join(others)} {_HOW}." if others else ""


def fragility(study, found):
    """How far corruptions move the teacher's embedding of an image, against the student's error on it."""
    title = "Fragility against error"
    rows = [
        {"arm": arm, "seed": i, "part": part + 1, "fragility": x, "error": y}
        for arm, runs in found.items()
        for i, own in enumerate(runs)
        for part, (x, y) in enumerate(
            zip(own["fragility"]["fragility"], own["fragility"]["error"], strict=True)
        )
    ]
    if not rows:
        return spec.absent("fragility", title, _HOW)
    x, y = (
        spec.quantity("fragility", "movement of the teacher's embedding"),
        spec.quantity("error", "error, %"),
    )
    look = {"x": x, "y": y, "color": spec.colour(study.arms)}
    hover = spec.tooltip(
        arm=("arm", ""), part=("tenth", "d"), fragility=("movement", ".3f"), error=("error, %", ".1f")
    )
    body = {
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {**look, "strokeDash": spec.dash(study.arms), "detail": {"field": "seed"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
                "encoding": {**look, "shape": spec.shape(study.arms), "tooltip": hover},
            },
        ]
    }
    said = {arm: [own["fragility"]["correlation"] for own in runs] for arm, runs in found.items()}
    known = {arm: np.mean(values) for arm, values in said.items() if None not in values}
    ranks = ", ".join(f"{arm} {value:+.2f}" for arm, value in known.items()) or "undefined"
    says = (
        "Images in ten equal parts by how far corruptions move the teacher's embedding (mean length, of unit "
        f"vectors); the student's error on their corrupted copies; a line a run. Rank correlation over "
        f"images: {ranks}."
    )
    alt = f"The student's error rises with the teacher's movement, as rank correlations say: {ranks}."
    alt = alt if known and all(value > 0 for value in known.values()) else f"Error against movement: {ranks}."
    return spec.Figure("fragility", title, says, spec.chart(rows, body, 300, alt), alt)


def calibration_curve(study):
    """Accuracy against confidence, over the bins that ECE is of."""
    title = "Calibration curve"
    rows = []
    for arm in study.arms:
        for images in ("clean", "corrupted"):
            bins = [(run.result.get("calibration_bins") or {}).get(images) for run in study.counted(arm)]
            bins = [own for own in bins if own]
            if not bins:
                continue
            count, confidence, correct = (
                np.sum([own[key] for own in bins], axis=0) for key in ("count", "confidence", "correct")
            )
            for i in np.flatnonzero(count):
                rows.append(
                    {
                        **{"arm": arm, "images": images, "count": int(count[i])},
                        "confidence": 100 * float(confidence[i] / count[i]),
                        "accuracy": 100 * float(correct[i] / count[i]),
                    }
                )
    if not rows:
        return spec.absent("curve", title, "these runs were made by a version that did not record its bins")
    ends = {"scale": {"domain": [0, 100]}}
    x, y = (
        spec.quantity("confidence", "confidence, %", **ends),
        spec.quantity("accuracy", "accuracy, %", **ends),
    )
    look = {"x": x, "y": y, "color": spec.colour(study.arms)}
    hover = spec.tooltip(
        arm=("arm", ""),
        confidence=("confidence, %", ".1f"),
        accuracy=("accuracy, %", ".1f"),
        count=("images", ",d"),
    )
    size = {"field": "count", "type": "quantitative", "scale": {"range": [12, 130]}, "legend": None}
    diagonal = {"values": [{"at": 0}, {"at": 100}]}
    body = {
        "layer": [
            {
                "data": diagonal,
                "mark": {"type": "line", "color": "var(--soft)", "strokeDash": [3, 3]},
                "encoding": {"x": {**x, "field": "at"}, "y": {**y, "field": "at"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {**look, "strokeDash": spec.dash(study.arms)},
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 1},
                "encoding": {**look, "size": size, "shape": spec.shape(study.arms), "tooltip": hover},
            },
        ]
    }
    panels = [images for images in ("clean", "corrupted") if any(row["images"] == images for row in rows)]
    alt = "Accuracy against confidence in 15 bins; below the diagonal a network is too sure."
    drawn = spec.multiples(rows, "images", panels, body, 260, 280, alt, key=True)
    says = (
        "The bins of the ECE, all seeds (corrupted: all corruptions and severities) together; a point's area "
        "is how many images. Below the diagonal a network is surer than it is right."
    )
    return spec.Figure("curve", title, says, drawn, alt, wide=True)
