"""Figures of single corruptions: accuracy over severity, and the difference to the baseline."""

import numpy as np

from craft_jax import corruptions
from craft_jax.report import pairs
from craft_jax.report.page import points, spec
from craft_jax.report.studies import Comparison


def by_corruption(study):
    """Small multiples: accuracy over severity, a panel a corruption."""
    rows = []
    for name in (names := evaluated(study)):
        for arm in study.arms:
            cells = [_cells(run.result, name) for run in study.counted(arm)]
            for severity in corruptions.SEVERITIES:
                values = [of_run[severity] for of_run in cells if severity in of_run]
                if values and len(values) == len(cells):
                    rows.append(
                        {
                            "arm": arm,
                            "corruption": name.replace("_", " "),
                            "severity": severity,
                            **points.mean(values),
                        }
                    )
    if not rows:
        return spec.absent("corruptions", "By corruption and severity", "no run with corruptions is done yet")
    x = {
        "field": "severity",
        "type": "ordinal",
        "axis": {"labelAngle": 0, "title": "severity", "grid": False},
    }
    y = spec.quantity("value", "accuracy, %")
    look = {"x": x, "y": y, "color": spec.colour(study.arms)}
    hover = spec.tooltip(
        arm=("arm", ""),
        corruption=("corruption", ""),
        severity=("severity", "d"),
        value=("mean", ".2f"),
        low=("95% from", ".2f"),
        high=("to", ".2f"),
        n=("seeds", "d"),
    )
    body = {
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {**look, "strokeDash": spec.dash(study.arms)},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 32, "opacity": 1},
                "encoding": {**look, "shape": spec.shape(study.arms), "tooltip": hover},
            },
        ]
    }
    alt = f"Accuracy over five severities under {len(names)} corruptions: {', '.join(names)}; a line an arm."
    panels = [name.replace("_", " ") for name in names]
    drawn = spec.multiples(rows, "corruption", panels, body, 130, 190, alt, key=True)
    says = "Mean over seeds; one axis for all panels. Which line is which arm: above, and on hover."
    return spec.Figure("corruptions", "By corruption and severity", says, drawn, alt, wide=True)


def against_baseline(study):
    """Differences to the baseline, a panel an arm and a row a corruption."""
    title = "Difference to the baseline by corruption"
    if not study.baseline:
        return spec.absent("baseline", title, "the study names no baseline")
    rows = []
    for name in (names := evaluated(study)):
        for arm in study.arms:
            if arm == study.baseline:
                continue
            matched = pairs.match(study, Comparison(arm, study.baseline, "robust"))
            gaps = [_gap(*pair, name) for pair in matched.runs]
            if gaps and None not in gaps:
                rows.append({"arm": arm, "corruption": name.replace("_", " "), **points.mean(gaps)})
    if not rows:
        return spec.absent("baseline", title, f"no pair with {study.baseline} is done yet")
    y = spec.row([name.replace("_", " ") for name in names], "corruption", labelFontSize=11)
    colour = spec.colour(study.arms)
    x = spec.quantity("value", f"points more than {study.baseline}")
    hover = spec.tooltip(
        arm=("arm", ""),
        corruption=("corruption", ""),
        value=("difference", "+.2f"),
        low=("95% from", "+.2f"),
        high=("to", "+.2f"),
        n=("pairs", "d"),
    )
    body = {
        "layer": [
            {"mark": {"type": "rule", "color": "var(--soft)"}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": spec.quantity("low", x["axis"]["title"]),
                    "x2": {"field": "high"},
                    "y": y,
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
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
    arms = [arm for arm in study.arms if arm in {row["arm"] for row in rows}]
    alt = f"Differences in accuracy to {study.baseline} under {len(names)} corruptions, of {', '.join(arms)}."
    drawn = spec.multiples(rows, "arm", arms, body, {"step": 17}, 300, alt)
    says = f"Mean over severities, paired by seed with {study.baseline}; 95% t-intervals, each for itself."
    return spec.Figure("baseline", title, says, drawn, alt, wide=True)


def _cells(result, name):
    """{severity: accuracy} of a corruption in a result."""
    row = (result.get("corruptions") or {}).get(name) or []
    return {s: x for s, x in zip(corruptions.SEVERITIES, row, strict=False) if x is not None}


def evaluated(study):
    """The corruptions that a study's runs were evaluated on, family by family."""
    found = {name for run in study.runs if not run.fault for name in run.result.get("corruptions") or {}}
    return [name for name in corruptions.NAMES if name in found] + sorted(found - set(corruptions.NAMES))


def _gap(ours, theirs, name):
    """The difference in accuracy of two runs under a corruption, mean over the severities of both."""
    own, other = _cells(ours.result, name), _cells(theirs.result, name)
    shared = own.keys() & other.keys()
    return float(np.mean([own[s] - other[s] for s in shared])) if shared else None
