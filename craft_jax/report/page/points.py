"""What several figures are made of: means with intervals over seeds, as rows of points or as clouds."""

from craft_jax.report import statistics
from craft_jax.report.page import spec

TITLES = {"robust_without_jpeg": "robust without JPEG", "weather_digital": "weather and digital"}


def spreads(study, names, value):
    """Rows: of each arm and measure every seed's value, and their mean with its interval.

    Args:
      names: measures.
      value: (result, measure) -> a number, or None where it was not measured.
    """
    rows = []
    for name in names:
        for arm in study.arms:
            runs = study.counted(arm)
            found = [(run.seed, value(run.result, name)) for run in runs]
            found = [(seed, x) for seed, x in found if x is not None]
            if not found or len(found) < len(runs):
                continue  # a mean of the others would leave out the worst
            head = {"arm": arm, "measure": TITLES.get(name, name)}
            rows += [{**head, "kind": "seed", "seed": seed, "value": x} for seed, x in found]
            rows.append({**head, "kind": "mean", **mean([x for _, x in found])})
    return rows


def mean(values):
    """The cells of a mean: "value", "n", and "low" and "high" of its interval where it has one."""
    spread = statistics.spread(values)
    return {"value": spread.mean, "n": spread.n, **ends(spread.low, spread.high)}


def ends(low, high):
    """{"low", "high"} of an interval; {} of none, since a null is drawn and told as a 0."""
    return {} if low is None else {"low": low, "high": high}


def dots(study, rows, title, alt, digits=1, least=260):
    """A row an arm and a panel a measure: mean, 95% interval, and every seed."""
    panels = list(dict.fromkeys(row["measure"] for row in rows))
    y, colour = spec.row(study.arms), spec.colour(study.arms)
    whole = {"x": spec.quantity("value", title), "y": y, "color": colour}
    hover = spec.tooltip(
        arm=("arm", ""),
        value=("mean", f".{digits + 1}f"),
        low=("95% from", f".{digits + 1}f"),
        high=("to", f".{digits + 1}f"),
        n=("seeds", "d"),
    )
    of_seed = spec.tooltip(arm=("arm", ""), seed=("seed", "d"), value=("value", f".{digits + 1}f"))
    label = {"type": "text", "dy": -9, "fontSize": 10, "color": "var(--ink)"}
    body = {
        "layer": [
            spec.layer(
                "seed",
                {"type": "tick", "thickness": 1.5, "size": 9, "opacity": 0.55},
                {**whole, "tooltip": of_seed},
            ),
            spec.layer(
                "mean",
                {"type": "rule", "strokeWidth": 2},
                {"x": spec.quantity("low", title), "x2": {"field": "high"}, "y": y, "color": colour},
            ),
            spec.layer(
                "mean",
                {"type": "point", "filled": True, "size": 70, "opacity": 1},
                {**whole, "shape": spec.shape(study.arms), "tooltip": hover},
            ),
            spec.layer(
                "mean", label, {"x": whole["x"], "y": y, "text": {"field": "value", "format": f".{digits}f"}}
            ),
        ]
    }
    return spec.multiples(rows, "measure", panels, body, {"step": 30}, least, alt, {"x": "independent"})


def said(rows, measure, digits=1):
    """The means of a measure in words, for those who do not see the figure."""
    means = [row for row in rows if row["kind"] == "mean" and row["measure"] == measure]
    return f"{measure}: " + ", ".join(f"{row['arm']} {row['value']:.{digits}f}" for row in means)


def clouds(study, x, y, fields):
    """Layers: a small point a run, a large named one an arm's mean."""
    look = {"x": x, "y": y, "color": spec.colour(study.arms), "shape": spec.shape(study.arms)}
    shown = {field: (field, ".2f") for field in fields}
    label = {"type": "text", "align": "left", "dx": 8, "fontSize": 11, "limit": 120}
    return {
        "layer": [
            spec.layer(
                "seed",
                {"type": "point", "filled": True, "size": 26, "opacity": 0.5},
                {**look, "tooltip": spec.tooltip(arm=("arm", ""), seed=("seed", "d"), **shown)},
            ),
            spec.layer(
                "mean",
                {"type": "point", "filled": True, "size": 95, "opacity": 1},
                {**look, "tooltip": spec.tooltip(arm=("arm", ""), n=("seeds", "d"), **shown)},
            ),
            spec.layer("mean", label, {"x": x, "y": {**y, "field": "label_at"}, "text": {"field": "arm"}}),
        ]
    }
