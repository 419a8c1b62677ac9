"""The student beside its teacher."""

import numpy as np

from craft_jax.evaluation import robustness
from craft_jax.report import measures
from craft_jax.report.page import points, spec


def teacher(study):
    """Every student beside its teacher on the same images."""
    title = "Teacher beside student"

    def own(result, measure):
        return measures.value(result, measure) if result.get("teacher_evaluation") else None

    def taught(result, measure):
        found = result.get("teacher_evaluation")
        return measures.value(found, measure) if found else None

    names = ("clean", "robust", *robustness.METRICS[3:7])
    rows = [row for row in points.spreads(study, names, own) if row["kind"] == "mean"]
    rows += [
        {**row, "kind": "teacher"} for row in points.spreads(study, names, taught) if row["kind"] == "mean"
    ]
    if not rows:
        why = "no run was evaluated with its teacher (eval.teacher), or no run has one"
        return spec.absent("teacher", title, why)
    order = {points.TITLES.get(name, name): i for i, name in enumerate(names)}
    rows.sort(key=lambda row: order[row["measure"]])
    x, y = spec.quantity("value", "accuracy, %"), spec.row(study.arms)
    hover = spec.tooltip(arm=("arm", ""), measure=("images", ""), kind=("network", ""), value=("%", ".2f"))
    body = {
        "layer": [
            {
                "mark": {"type": "line", "color": "var(--rule)", "strokeWidth": 3},
                "encoding": {"x": x, "y": y, "detail": {"field": "arm"}},
            },
            spec.layer(
                "teacher",
                {"type": "tick", "thickness": 2.5, "size": 16, "color": "var(--ink)"},
                {"x": x, "y": y, "tooltip": hover},
            ),
            spec.layer(
                "mean",
                {"type": "point", "filled": True, "size": 70, "opacity": 1},
                {
                    "x": x,
                    "y": y,
                    "color": spec.colour(study.arms),
                    "shape": spec.shape(study.arms),
                    "tooltip": hover,
                },
            ),
        ]
    }
    panels = list(dict.fromkeys(row["measure"] for row in rows))
    alt = "Accuracy of students beside their teachers. " + points.said(
        [
            {
                **row,
                "kind": "mean",
                "arm": f"{row['arm']} {'teacher' if row['kind'] == 'teacher' else 'student'}",
            }
            for row in rows
        ],
        "robust",
    )
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
