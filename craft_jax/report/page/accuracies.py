"""Figures of what networks got right: methods compared, by part, pair by pair."""

import numpy as np

from craft_jax.report import measures, pairs, statistics
from craft_jax.report.page import points, spec
from craft_jax.report.studies import Comparison

PARTS = ("clean", "robust", "robust_without_jpeg", "noise", "blur", "weather", "digital", "weather_digital")


def figures(study):
    """The Figures of a Study's accuracies, in the page's order."""
    return [methods(study), primary(study), scatter(study), parts(study), pairwise(study)]


_HOW = "Points: means over seeds; lines: 95% t-intervals (from two seeds on); ticks: every seed."


def methods(study):
    """The paper's figure 3: clean and robust accuracy of the methods."""
    rows = points.spreads(study, ("clean", "robust"), measures.value)
    if not rows:
        return spec.absent("methods", "Methods compared", "no run is done yet")
    alt = f"Accuracy in percent. {points.said(rows, 'clean')}. {points.said(rows, 'robust')}."
    return spec.Figure(
        "methods",
        "Methods compared",
        f"Accuracy in percent, clean and under corruptions. {_HOW}",
        points.dots(study, rows, "accuracy, %", alt),
        alt,
        wide=True,
    )


def primary(study):
    """The paper's figure 4: the primary metric, defined here since the paper's is constant."""
    rows = points.spreads(study, ("primary metric",), lambda result, _: result.get("primary_metric"))
    if not rows:
        return spec.absent("primary", "Primary metric", "no run with corruptions is done yet")
    found = set(_weights(study))
    made_of = "a weighted mean of clean and robust accuracy; the weights are each run's own"
    if len(found) == 1 and () not in found:
        made_of = "{:g} of clean and {:g} of robust accuracy".format(*found.pop())
    says = f"{made_of}; the paper leaves its own undefined. {_HOW}"
    alt = f"In points. {points.said(rows, 'primary metric')}."
    return spec.Figure("primary", "Primary metric", says, points.dots(study, rows, "points", alt), alt)


def _weights(study):
    """The weights of each run that counts; () where it does not say them."""
    for run in study.runs:
        if not run.fault:
            yield tuple(run.result["config"].get("eval", {}).get("primary_weights", ()))


def parts(study):
    """The paper's figure 6: all conditions."""
    rows = points.spreads(study, PARTS, measures.value)
    if not rows:
        return spec.absent("parts", "All conditions", "no run is done yet")
    alt = "Accuracy in percent by condition. " + ". ".join(
        points.said(rows, m) for m in dict.fromkeys(row["measure"] for row in rows)
    )
    says = f"Means over the families of corruptions. {_HOW} The panels' axes differ."
    spec_ = points.dots(study, rows, "accuracy, %", alt, least=280)
    return spec.Figure("parts", "All conditions", says, spec_, alt, wide=True)


def pairwise(study):
    """The paper's figure 5: every arm less every other, over the seeds of both."""
    rows = []
    for metric in ("clean", "robust"):
        for arm in study.arms:
            for other in study.arms:
                if arm == other:
                    continue
                matched = pairs.match(study, Comparison(arm, other, metric))
                if matched.runs:
                    spread = statistics.spread(np.subtract(matched.first, matched.second))
                    rows.append(
                        {
                            "arm": arm,
                            "baseline": other,
                            "measure": metric,
                            "value": spread.mean,
                            "n": spread.n,
                            **points.ends(spread.low, spread.high),
                        }
                    )
    if not rows:
        return spec.absent("pairwise", "Pair by pair", "no two arms have a seed in common yet")
    most = max(0.1, *(abs(row["value"]) for row in rows))
    scale = {"domain": [-most, 0, most], "range": ["#b35806", "#f7f7f7", "#2166ac"], "interpolate": "lab"}
    x = spec.row(study.arms, "baseline", labelAngle=-40)
    x["axis"] |= {"title": "less this arm", "orient": "bottom"}
    dark = {"test": f"abs(datum.value) > {0.62 * most}", "value": "#ffffff"}
    both = {"x": x, "y": spec.row(study.arms)}
    hover = spec.tooltip(
        arm=("arm", ""),
        baseline=("less", ""),
        value=("difference", "+.2f"),
        low=("95% from", "+.2f"),
        high=("to", "+.2f"),
        n=("pairs", "d"),
    )
    colour = {"field": "value", "type": "quantitative", "scale": scale, "legend": None}
    body = {
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 2},
                "encoding": {**both, "color": colour, "tooltip": hover},
            },
            {
                "mark": {"type": "text", "fontSize": 10},
                "encoding": {
                    **both,
                    "text": {"field": "value", "type": "quantitative", "format": "+.1f"},
                    "color": {"condition": dark, "value": "#1b1b1b"},
                },
            },
        ]
    }
    alt = (
        f"Differences in accuracy between {len(study.arms)} arms, in points; from {-most:.1f} to {most:.1f}."
    )
    least = max(240, 34 * len(study.arms) + 110)
    drawn = spec.multiples(rows, "measure", ("clean", "robust"), body, {"step": 26}, least, alt)
    drawn["usermeta"]["text"] = 32 * len(study.arms)
    says = (
        "Row less column, in points, mean over the seeds that both arms have, measured alike. Orange: the "
        "row is worse, blue: better. Intervals on hover; none is a test."
    )
    return spec.Figure("pairwise", "Pair by pair", says, drawn, alt, wide=True)


def scatter(study):
    """Clean against robust accuracy, a point a run."""
    rows = []
    for arm in study.arms:
        both = [[measures.value(run.result, m) for m in ("clean", "robust")] for run in study.counted(arm)]
        known = [
            (run.seed, *two) for run, two in zip(study.counted(arm), both, strict=True) if None not in two
        ]
        rows += [{"arm": arm, "kind": "seed", "seed": s, "clean": c, "robust": r} for s, c, r in known]
        if known:
            clean, robust = (float(np.mean([one[i] for one in known])) for i in (1, 2))
            rows.append({"arm": arm, "kind": "mean", "clean": clean, "robust": robust, "n": len(known)})
    if not rows:
        return spec.absent("scatter", "Clean against robust", "no run with corruptions is done yet")
    x, y = spec.quantity("clean", "clean accuracy, %"), spec.quantity("robust", "robust accuracy, %")
    alt = "Clean and robust accuracy in percent: " + ", ".join(
        f"{row['arm']} {row['clean']:.1f} and {row['robust']:.1f}" for row in rows if row["kind"] == "mean"
    )
    spec.set_labels(rows, "robust")
    drawn = spec.chart(rows, points.clouds(study, x, y, ("clean", "robust")), spec.CLOUD, alt)
    return spec.Figure(
        "scatter", "Clean against robust", "Small: a run; large, named: the mean of an arm.", drawn, alt
    )
