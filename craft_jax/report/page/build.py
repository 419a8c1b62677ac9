"""The page and its figures, written: OUT/index.html, OUT/figures/NAME.svg and .png."""

from pathlib import Path

from craft_jax import files
from craft_jax.report import provenance, sections
from craft_jax.report.page import (
    accuracies,
    corrupted,
    document,
    networks,
    planned,
    render,
    taught,
    training,
)

_TITLES = {
    "comparisons": "Planned comparisons, in numbers",
    "arms": "Arms, in numbers",
    "differences": "All other differences",
    "runs": "Runs",
}


def write(out, told):
    """Write the page of some studies, and their figures.

    Args:
      out: a folder.
      told: [(Study, its Tables)], of different names; from `sections`.
    Returns:
      The page's path.
    Raises:
      CheckpointError: nothing can be written there.
    """
    articles = []
    for i, (study, tables) in enumerate(told):
        folder = f"{study.name}/" if len(told) > 1 else ""
        figures = {figure.name: figure for figure in _figures(study)}
        render.write(Path(out, folder, "figures"), figures.values())
        articles.append(_article(f"s{i}", folder, study, tables, figures))
    title = ", ".join(study.name for study, _ in told)
    path = Path(out, "index.html")
    with files.whole(path) as temporary:
        temporary.write_text(document.page(title, articles, render.library()), encoding="utf-8")
    return path


def _figures(study):
    return [
        planned.figure(study),
        *accuracies.figures(study),
        corrupted.by_corruption(study),
        corrupted.against_baseline(study),
        taught.teacher(study),
        *training.figures(study),
        *networks.figures(study),
    ]


def _article(key, folder, study, tables, figures):
    shown = {table.name: table for table in sections.files_of(study, tables)}

    def place(name):
        return document.figure(key, figures[name], f"{folder}figures")

    def table(name):
        if not shown[name].lines:
            return ""
        return document.table(shown[name], _TITLES[name], study.arms, f"{folder}tables")

    parts = [
        ("Comparisons", [place("planned"), table("comparisons")]),
        ("Accuracy", [*map(place, ("methods", "primary", "scatter", "parts", "pairwise")), table("arms")]),
        ("Corruptions", [*map(place, ("corruptions", "baseline"))]),
        ("Teacher", [*map(place, ("teacher", "reliability"))]),
        ("Calibration", [place("calibration")]),
        ("Training", [*map(place, ("curves", "terms", "nan", "cost"))]),
        ("Networks", [place("efficiency")]),
        ("Tables", [table("differences"), table("runs")]),
    ]
    marks = dict.fromkeys(
        mark for run in study.runs if not run.fault for mark in provenance.marks(run.result)
    )
    origin = [line for line in provenance.lines(study) if not line.startswith(("configuration", "marks"))]
    lines = [*filter(None, [study.question, " · ".join(origin)]), *sections.left_out(study)]
    drawn = {f"{key}-{name}": figure.spec for name, figure in figures.items() if figure.spec}
    return document.article(key, sections.title(study), lines, marks, study.arms, parts), drawn
