"""The planned comparisons as a forest plot: every pair, the mean difference and its interval."""

import numpy as np

from craft_jax.report import comparisons, pairs
from craft_jax.report.page import points, spec

_TITLE = "Planned comparisons"


def figure(study):
    """The Figure of a Study's planned comparisons."""
    if not study.planned:
        return spec.absent("planned", _TITLE, "none was planned: a study file's `comparisons` are")
    table = comparisons.planned(study)
    rows, waiting, order = [], [], []
    for planned, found in zip(study.planned, table.rows, strict=True):
        name = f"{planned.arm}\nless {planned.baseline}, {planned.metric}"
        cells = dict(zip(table.columns, found, strict=True))
        if not cells["n"]:
            waiting.append(f"{name.replace(chr(10), ' ')}: {cells['note']}")
            continue
        order.append(name)
        rows += _rows(study, planned, name, cells)
    if not rows:
        return spec.absent("planned", _TITLE, "no pair is done yet: " + "; ".join(waiting))
    alt = "Differences, arm less baseline: " + "; ".join(
        f"{row['comparison'].replace(chr(10), ' ')} {row['value']:+.2f}{row['said']}"
        for row in rows
        if row["kind"] == "mean"
    )
    says = (
        "In points of accuracy (nll: nats; ece: of 1). Point: mean over paired seeds; line: 95% t-interval "
        "over seeds, or of a single pair by bootstrap over test images; ticks: every seed's pair. "
        f"p is Holm's over all {len(study.planned)} planned comparisons."
    )
    missing = "Still to come: " + "; ".join(waiting) if waiting else ""
    return spec.Figure("planned", _TITLE, says, _draw(study, rows, order, alt), alt, missing, wide=True)


def _rows(study, planned, name, cells):
    matched = pairs.match(study, planned)
    head = {"arm": planned.arm, "baseline": planned.baseline, "comparison": name}
    gaps = np.subtract(matched.first, matched.second)
    for (ours, _), gap in zip(matched.runs, gaps, strict=True):
        yield {**head, "kind": "seed", "seed": ours.seed, "value": float(gap)}
    over_images = cells["low"] is None and cells["image_low"] is not None
    low, high = (cells["image_low"], cells["image_high"]) if over_images else (cells["low"], cells["high"])
    p = cells["p_holm"]
    yield {
        **{**head, "kind": "mean", "value": cells["difference"], "n": cells["n"]},
        **points.ends(low, high),
        "said": "" if p is None else ", p < 0.0001" if p < 1e-4 else f", p = {p:.2g}",
    }


def _draw(study, rows, order, alt):
    x = spec.quantity("value", "difference")
    y = spec.row(order, "comparison", labelExpr="split(datum.label, '\\n')", labelLimit=190)
    colour = spec.colour(study.arms)
    hover = spec.tooltip(
        arm=("arm", ""),
        baseline=("less", ""),
        value=("difference", "+.3f"),
        low=("95% from", "+.3f"),
        high=("to", "+.3f"),
        n=("pairs", "d"),
        said=("Holm", ""),
    )
    of_seed = spec.tooltip(
        arm=("arm", ""), baseline=("less", ""), seed=("seed", "d"), value=("difference", "+.3f")
    )
    label = {"type": "text", "dy": -11, "fontSize": 10}
    body = {
        "layer": [
            {"mark": {"type": "rule", "color": "var(--soft)"}, "encoding": {"x": {"datum": 0}}},
            spec.layer(
                "seed",
                {"type": "tick", "thickness": 1.5, "size": 11, "opacity": 0.6},
                {"x": x, "y": y, "color": colour, "tooltip": of_seed},
            ),
            spec.layer(
                "mean",
                {"type": "rule", "strokeWidth": 2.5},
                {"x": spec.quantity("low", "difference"), "x2": {"field": "high"}, "y": y, "color": colour},
            ),
            spec.layer(
                "mean",
                {"type": "point", "filled": True, "size": 85, "opacity": 1},
                {"x": x, "y": y, "color": colour, "shape": spec.shape(study.arms), "tooltip": hover},
            ),
            {
                "transform": [
                    {"filter": "datum.kind === 'mean'"},
                    {"calculate": "format(datum.value, '+.2f') + datum.said", "as": "label"},
                ],
                "mark": label,
                "encoding": {"x": x, "y": y, "text": {"field": "label"}},
            },
        ]
    }
    return spec.chart(rows, body, {"step": 42}, alt)
