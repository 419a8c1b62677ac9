"""The page and its figures, written: OUT/index.html, OUT/figures/NAME.svg and .png."""

from pathlib import Path

from craft_jax import files
from craft_jax.report import provenance, sections
from craft_jax.report.page import (
    accuracies,
    aligned,
    changes,
    corrupted,
    document,
    images,
    networks,
    planned,
    render,
    spec,
    taught,
    training,
)

_TITLES = {
    "comparisons": "Planned comparisons, in numbers",
    "arms": "Arms, in numbers",
    "differences": "All other differences",
    "runs": "Runs",
    "configuration": "What differs in the configuration",
    "accuracies": "Accuracies",
    "corruptions": "By corruption, over the same images",
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
        articles.append(_study(_Article(out, f"s{i}", folder, study, tables)))
    return _write_page(out, ", ".join(study.name for study, _ in told), articles)


def write_comparison(out, study, tables):
    """Write the page of two runs.

    Args:
      out: a folder.
      study, tables: of `craft_jax.report.compare`.
    Returns, Raises: as `write`.
    """
    article = _Article(out, "s0", "", study, tables)
    by_name = {table.name: table for table in tables}
    training_figures = {figure.name: figure for figure in training.figures(study)}
    parts = [
        ("Configuration", [article.table("configuration")]),
        ("Accuracy", [article.figure(accuracies.methods(study)), article.table("accuracies")]),
        (
            "Corruptions",
            [
                article.figure(changes.figure(study, by_name["corruptions"])),
                article.table("corruptions"),
                article.figure(corrupted.by_corruption(study)),
            ],
        ),
        ("Images", [article.picture(images.of_runs(*study.runs))]),
        ("Training", [article.figure(training_figures[name]) for name in ("curves", "terms")]),
        ("Runs", [article.table("runs")]),
    ]
    return _write_page(out, study.name, [article.done(parts)])


def _write_page(out, title, articles):
    path = Path(out, "index.html")
    with files.whole(path) as temporary:
        temporary.write_text(document.page(title, articles, render.library()), encoding="utf-8")
    return path


class _Article:
    """A study on the page: what is placed in it is also written beside the page."""

    def __init__(self, out, key, folder, study, tables):
        self._out, self._key, self._folder = Path(out, folder), key, folder
        self._study, self._drawn = study, {}
        self._tables = {table.name: table for table in sections.files_of(study, tables)}
        files.check_writable(self._out)

    @property
    def study(self):
        return self._study

    def figure(self, figure):
        """The HTML of a spec.Figure."""
        if figure.spec:
            render.write(self._out / "figures", [figure])
            self._drawn[f"{self._key}-{figure.name}"] = figure.spec
        return document.figure(self._key, figure, f"{self._folder}figures")

    def picture(self, picture):
        """The HTML of a spec.Picture, or of the Figure that is absent."""
        if not isinstance(picture, spec.Picture):
            return self.figure(picture)
        images.write(self._out / "figures", picture)
        width, _ = images.size(picture)
        return document.picture(self._key, picture, images.data_url(picture), width, f"{self._folder}figures")

    def table(self, name):
        """The HTML of a Table; "" of one without rows."""
        its = self._tables[name]
        if not its.lines:
            return ""
        return document.table(its, _TITLES[name], self._study.arms, f"{self._folder}tables")

    def done(self, parts):
        """(html, {figure's id: spec}) of the whole."""
        study = self._study
        counted = [run.result for run in study.runs if not run.fault]
        marks = provenance.marks(*counted)
        facts = [line for line in provenance.lines(study) if not line.startswith(("configuration", "marks"))]
        lines = [*filter(None, [study.question, " · ".join(facts)]), *sections.left_out(study)]
        html = document.article(self._key, sections.title(study), lines, marks, study.arms, parts)
        return html, self._drawn


def _study(article):
    study = article.study
    methods, primary, scatter, conditions, pairwise = map(article.figure, accuracies.figures(study))
    curves, terms, reliability, nan = map(article.figure, training.figures(study))
    efficiency, cost, calibration = map(article.figure, networks.figures(study))
    alignment, fragility, curve = map(article.figure, aligned.figures(study))
    by_corruption, baseline, teacher, forest = map(
        article.figure,
        (
            corrupted.by_corruption(study),
            corrupted.against_baseline(study),
            taught.teacher(study),
            planned.figure(study),
        ),
    )
    pictures = article.picture(images.of_study(study))
    return article.done(
        [
            ("Comparisons", [forest, article.table("comparisons")]),
            ("Accuracy", [methods, primary, scatter, conditions, pairwise, article.table("arms")]),
            ("Corruptions", [by_corruption, baseline, pictures]),
            ("Teacher", [teacher, alignment, fragility, reliability]),
            ("Calibration", [curve, calibration]),
            ("Training", [curves, terms, nan]),
            ("Networks", [efficiency, cost]),
            ("Tables", [article.table("differences"), article.table("runs")]),
        ]
    )
