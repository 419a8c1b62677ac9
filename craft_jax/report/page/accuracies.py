"""Figures of what networks got right: methods compared, by part, by corruption, beside the teacher."""

import numpy as np

from craft_jax import corruptions
from craft_jax.evaluation import robustness
from craft_jax.report import measures, pairs, statistics
from craft_jax.report.page import spec
from craft_jax.report.studies import Comparison

PARTS = ("clean", "robust", "robust_without_jpeg", "noise", "blur", "weather", "digital", "weather_digital")
_TITLES = {"robust_without_jpeg": "robust without JPEG", "weather_digital": "weather and digital"}


def figures(study):
    """The Figures of a Study's accuracies, in the page's order."""
    return [methods(study), primary(study), parts(study), pairwise(study), scatter(study),
            by_corruption(study), against_baseline(study), teacher(study)]  # fmt: skip


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
            head = {"arm": arm, "measure": _TITLES.get(name, name)}
            rows += [{**head, "kind": "seed", "seed": seed, "value": x} for seed, x in found]
            rows.append({**head, "kind": "mean", **_mean([x for _, x in found])})
    return rows


def _mean(values):
    spread = statistics.spread(values)
    low, high = (spread.mean, spread.mean) if spread.low is None else (spread.low, spread.high)
    return {"value": spread.mean, "low": low, "high": high, "n": spread.n}


def dots(study, rows, title, alt, digits=1, least=260):
    """A row an arm and a panel a measure: mean, 95% interval, and every seed."""
    panels = list(dict.fromkeys(row["measure"] for row in rows))
    y, colour = spec.row(study.arms), spec.colour(study.arms)
    whole = {"x": spec.quantity("value", title), "y": y, "color": colour}
    hover = spec.tooltip(arm=("arm", ""), value=("mean", f".{digits + 1}f"),
                         low=("95% from", f".{digits + 1}f"), high=("to", f".{digits + 1}f"), n=("seeds", "d"))  # fmt: skip
    of_seed = spec.tooltip(arm=("arm", ""), seed=("seed", "d"), value=("value", f".{digits + 1}f"))
    label = {"type": "text", "dy": -9, "fontSize": 10, "color": "var(--ink)"}
    body = {
        "layer": [
            spec.layer("seed", {"type": "tick", "thickness": 1.5, "size": 9, "opacity": 0.55},
                       {**whole, "tooltip": of_seed}),
            spec.layer("mean", {"type": "rule", "strokeWidth": 2},
                       {"x": spec.quantity("low", title), "x2": {"field": "high"}, "y": y, "color": colour}),
            spec.layer("mean", {"type": "point", "filled": True, "size": 70, "opacity": 1},
                       {**whole, "shape": spec.shape(study.arms), "tooltip": hover}),
            spec.layer("mean", label, {"x": whole["x"], "y": y,
                                       "text": {"field": "value", "format": f".{digits}f"}}),
        ]
    }  # fmt: skip
    return spec.multiples(rows, "measure", panels, body, {"step": 30}, least, alt, {"x": "independent"})


def _said(rows, measure, digits=1):
    means = [row for row in rows if row["kind"] == "mean" and row["measure"] == measure]
    return f"{measure}: " + ", ".join(f"{row['arm']} {row['value']:.{digits}f}" for row in means)


_HOW = "Points: means over seeds; lines: 95% t-intervals (from two seeds on); ticks: every seed."


def methods(study):
    """The paper's figure 3: clean and robust accuracy of the methods."""
    rows = spreads(study, ("clean", "robust"), measures.value)
    if not rows:
        return spec.absent("methods", "Methods compared", "no run is done yet")
    alt = f"Accuracy in percent. {_said(rows, 'clean')}. {_said(rows, 'robust')}."
    return spec.Figure("methods", "Methods compared", f"Accuracy in percent, clean and under corruptions. {_HOW}",
                       dots(study, rows, "accuracy, %", alt), alt, wide=True)  # fmt: skip


def primary(study):
    """The paper's figure 4: the primary metric, defined here since the paper's is constant."""
    rows = spreads(study, ("primary metric",), lambda result, _: result.get("primary_metric"))
    if not rows:
        return spec.absent("primary", "Primary metric", "no run with corruptions is done yet")
    weights = next(iter(_weights(study)), (0.25, 0.75))
    says = f"{weights[0]:g} × clean + {weights[1]:g} × robust accuracy; the paper leaves its own undefined. {_HOW}"
    alt = f"In points. {_said(rows, 'primary metric')}."
    return spec.Figure("primary", "Primary metric", says, dots(study, rows, "points", alt), alt)


def _weights(study):
    for run in study.runs:
        if weights := run.result.get("config", {}).get("eval", {}).get("primary_weights"):
            yield weights


def parts(study):
    """The paper's figure 6: all conditions."""
    rows = spreads(study, PARTS, measures.value)
    if not rows:
        return spec.absent("parts", "All conditions", "no run is done yet")
    alt = "Accuracy in percent by condition. " + ". ".join(
        _said(rows, m) for m in dict.fromkeys(row["measure"] for row in rows)
    )
    says = f"Means over the families of corruptions. {_HOW} The panels' axes differ."
    spec_ = dots(study, rows, "accuracy, %", alt, least=280)
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
                    rows.append({"arm": arm, "baseline": other, "measure": metric, "value": spread.mean,
                                 "low": spread.low, "high": spread.high, "n": spread.n})  # fmt: skip
    if not rows:
        return spec.absent("pairwise", "Pair by pair", "no two arms have a seed in common yet")
    most = max(0.1, *(abs(row["value"]) for row in rows))
    scale = {"domain": [-most, 0, most], "range": ["#b35806", "#f7f7f7", "#2166ac"], "interpolate": "lab"}
    x = spec.row(study.arms, "baseline", labelAngle=-40)
    x["axis"] |= {"title": "less this arm", "orient": "bottom"}
    dark = {"test": f"abs(datum.value) > {0.62 * most}", "value": "#ffffff"}
    both = {"x": x, "y": spec.row(study.arms)}
    hover = spec.tooltip(arm=("arm", ""), baseline=("less", ""), value=("difference", "+.2f"),
                         low=("95% from", "+.2f"), high=("to", "+.2f"), n=("pairs", "d"))  # fmt: skip
    colour = {"field": "value", "type": "quantitative", "scale": scale, "legend": None}
    body = {
        "layer": [
            {"mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 2},
             "encoding": {**both, "color": colour, "tooltip": hover}},
            {"mark": {"type": "text", "fontSize": 10},
             "encoding": {**both, "text": {"field": "value", "type": "quantitative", "format": "+.1f"},
                          "color": {"condition": dark, "value": "#1b1b1b"}}},
        ]
    }  # fmt: skip
    alt = (
        f"Differences in accuracy between {len(study.arms)} arms, in points; from {-most:.1f} to {most:.1f}."
    )
    least = max(240, 34 * len(study.arms) + 110)
    drawn = spec.multiples(rows, "measure", ("clean", "robust"), body, {"step": 26}, least, alt)
    drawn["usermeta"]["text"] = 32 * len(study.arms)
    says = (
        "Row less column, in points, mean over the seeds that both arms have, measured alike. Orange: the row "
        "is worse, blue: better. Intervals on hover; none is a test."
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
    drawn = spec.chart(rows, clouds(study, x, y, ("clean", "robust")), spec.CLOUD, alt)
    return spec.Figure("scatter", "Clean against robust", "Small: a run; large, named: the mean of an arm.",
                       drawn, alt)  # fmt: skip


def clouds(study, x, y, fields):
    """Layers: a small point a run, a large named one an arm's mean."""
    look = {"x": x, "y": y, "color": spec.colour(study.arms), "shape": spec.shape(study.arms)}
    shown = {field: (field, ".2f") for field in fields}
    label = {"type": "text", "align": "left", "dx": 8, "fontSize": 11}
    return {
        "layer": [
            spec.layer("seed", {"type": "point", "filled": True, "size": 26, "opacity": 0.5},
                       {**look, "tooltip": spec.tooltip(arm=("arm", ""), seed=("seed", "d"), **shown)}),
            spec.layer("mean", {"type": "point", "filled": True, "size": 95, "opacity": 1},
                       {**look, "tooltip": spec.tooltip(arm=("arm", ""), n=("seeds", "d"), **shown)}),
            spec.layer("mean", label, {"x": x, "y": {**y, "field": "label_at"}, "text": {"field": "arm"}}),
        ]
    }  # fmt: skip


def _cells(result, name):
    """{severity: accuracy} of a corruption in a result."""
    row = (result.get("corruptions") or {}).get(name) or []
    return {s: x for s, x in zip(corruptions.SEVERITIES, row, strict=False) if x is not None}


def evaluated(study):
    """The corruptions that a study's runs were evaluated on, family by family."""
    found = {name for run in study.runs if not run.fault for name in run.result.get("corruptions") or {}}
    return [name for name in corruptions.NAMES if name in found] + sorted(found - set(corruptions.NAMES))


def by_corruption(study):
    """Small multiples: accuracy over severity, a panel a corruption."""
    rows = []
    for name in (names := evaluated(study)):
        for arm in study.arms:
            cells = [_cells(run.result, name) for run in study.counted(arm)]
            for severity in corruptions.SEVERITIES:
                values = [of_run[severity] for of_run in cells if severity in of_run]
                if values and len(values) == len(cells):
                    rows.append({"arm": arm, "corruption": name.replace("_", " "), "severity": severity,
                                 **_mean(values)})  # fmt: skip
    if not rows:
        return spec.absent("corruptions", "By corruption and severity", "no run with corruptions is done yet")
    x = {
        "field": "severity",
        "type": "ordinal",
        "axis": {"labelAngle": 0, "title": "severity", "grid": False},
    }
    y = spec.quantity("value", "accuracy, %")
    look = {"x": x, "y": y, "color": spec.colour(study.arms)}
    hover = spec.tooltip(arm=("arm", ""), corruption=("corruption", ""), severity=("severity", "d"),
                         value=("mean", ".2f"), low=("95% from", ".2f"), high=("to", ".2f"), n=("seeds", "d"))  # fmt: skip
    body = {
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5},
             "encoding": {**look, "strokeDash": spec.dash(study.arms)}},
            {"mark": {"type": "point", "filled": True, "size": 32, "opacity": 1},
             "encoding": {**look, "shape": spec.shape(study.arms), "tooltip": hover}},
        ]
    }  # fmt: skip
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
                rows.append({"arm": arm, "corruption": name.replace("_", " "), **_mean(gaps)})
    if not rows:
        return spec.absent("baseline", title, f"no pair with {study.baseline} is done yet")
    y = spec.row([name.replace("_", " ") for name in names], "corruption", labelFontSize=11)
    colour = spec.colour(study.arms)
    x = spec.quantity("value", f"points more than {study.baseline}")
    hover = spec.tooltip(arm=("arm", ""), corruption=("corruption", ""), value=("difference", "+.2f"),
                         low=("95% from", "+.2f"), high=("to", "+.2f"), n=("pairs", "d"))  # fmt: skip
    body = {
        "layer": [
            {"mark": {"type": "rule", "color": "var(--soft)"}, "encoding": {"x": {"datum": 0}}},
            {"mark": {"type": "rule", "strokeWidth": 1.5},
             "encoding": {"x": spec.quantity("low", x["axis"]["title"]), "x2": {"field": "high"}, "y": y, "color": colour}},
            {"mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
             "encoding": {"x": x, "y": y, "color": colour, "shape": spec.shape(study.arms), "tooltip": hover}},
        ]
    }  # fmt: skip
    arms = [arm for arm in study.arms if arm in {row["arm"] for row in rows}]
    alt = f"Differences in accuracy to {study.baseline} under {len(names)} corruptions, of {', '.join(arms)}."
    drawn = spec.multiples(rows, "arm", arms, body, {"step": 17}, 300, alt)
    says = f"Mean over severities, paired by seed with {study.baseline}; 95% t-intervals, each for itself."
    return spec.Figure("baseline", title, says, drawn, alt, wide=True)


def _gap(ours, theirs, name):
    """The difference in accuracy of two runs under a corruption, mean over the severities of both."""
    own, other = _cells(ours.result, name), _cells(theirs.result, name)
    shared = own.keys() & other.keys()
    return float(np.mean([own[s] - other[s] for s in shared])) if shared else None


def teacher(study):
    """Every student beside its teacher on the same images."""
    title = "Teacher beside student"

    def own(result, measure):
        return measures.value(result, measure) if result.get("teacher_evaluation") else None

    def taught(result, measure):
        found = result.get("teacher_evaluation")
        return measures.value(found, measure) if found else None

    names = ("clean", "robust", *robustness.METRICS[3:7])
    rows = [row for row in spreads(study, names, own) if row["kind"] == "mean"]
    rows += [{**row, "kind": "teacher"} for row in spreads(study, names, taught) if row["kind"] == "mean"]
    if not rows:
        why = "no run was evaluated with its teacher (eval.teacher), or no run has one"
        return spec.absent("teacher", title, why)
    order = {_TITLES.get(name, name): i for i, name in enumerate(names)}
    rows.sort(key=lambda row: order[row["measure"]])
    x, y = spec.quantity("value", "accuracy, %"), spec.row(study.arms)
    hover = spec.tooltip(arm=("arm", ""), measure=("images", ""), kind=("network", ""), value=("%", ".2f"))
    body = {
        "layer": [
            {"mark": {"type": "line", "color": "var(--rule)", "strokeWidth": 3},
             "encoding": {"x": x, "y": y, "detail": {"field": "arm"}}},
            spec.layer("teacher", {"type": "tick", "thickness": 2.5, "size": 16, "color": "var(--ink)"},
                       {"x": x, "y": y, "tooltip": hover}),
            spec.layer("mean", {"type": "point", "filled": True, "size": 70, "opacity": 1},
                       {"x": x, "y": y, "color": spec.colour(study.arms), "shape": spec.shape(study.arms), "tooltip": hover}),
        ]
    }  # fmt: skip
    panels = list(dict.fromkeys(row["measure"] for row in rows))
    alt = "Accuracy of students beside their teachers. " + _said(
        [{**row, "kind": "mean", "arm": f"{row['arm']} {'teacher' if row['kind'] == 'teacher' else 'student'}"}
         for row in rows], "robust")  # fmt: skip
    drawn = spec.multiples(rows, "measure", panels, body, {"step": 24}, 260, alt, {"x": "independent"})
    says = f"Coloured: the student; upright bar: its teacher on the same images. {_agreement(study)}"
    return spec.Figure("teacher", title, says, drawn, alt, wide=True)


def _agreement(study):
    """How often students predict what their teachers do, in a line."""
    said = []
    for arm in study.arms:
        found = [run.result.get("teacher_evaluation") for run in study.counted(arm)]
        shares = [one["agreement"]["corrupted"] for one in found if one and one.get("agreement")]
        if shares and None not in shares:
            said.append(f"{arm} {np.mean(shares):.1f}%")
    return f"Both predict the same class on corrupted images: {', '.join(said)}." if said else ""
