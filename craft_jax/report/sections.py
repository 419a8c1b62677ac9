"""A study, or groups of runs, as text and as files of tables."""

from pathlib import Path

from craft_jax.errors import ConfigError
from craft_jax.report import arms, comparisons, formats, provenance, studies
from craft_jax.report.pairs import seeds


def text(study, tables):
    """What is printed of a Study, in Markdown.

    Args:
      study: a studies.Study.
      tables: its Tables, from `tables_of`.
    """
    shown = [formats.to_markdown(table) for table in tables if table.lines]
    return "\n".join([_head(study), *left_out(study), "", *shown, *provenance.lines(study)]).rstrip()


def tables_of(study):
    """The Tables of a Study: arms, planned comparisons, other differences."""
    return [arms.table(study), comparisons.planned(study), comparisons.others(study)]


def files_of(study, tables):
    """The Tables that are written: those printed and the runs', each with its origin in its notes."""
    origin = provenance.lines(study)
    return [table._replace(notes=[*table.notes, *origin]) for table in (*tables, provenance.table(study))]


def write(out, written):
    """Write OUT/tables, or OUT/NAME/tables of several.

    Args:
      out: a folder.
      written: [(Study, its Tables)].
    Returns:
      The folders.
    Raises:
      ConfigError: two are called the same.
      CheckpointError: nothing can be written there.
    """
    names = [study.name for study, _ in written]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two studies are called {', '.join(twice)}; allowed: one --out for each")
    folders = [Path(out, name, "tables") if len(names) > 1 else Path(out, "tables") for name in names]
    for folder, (study, tables) in zip(folders, written, strict=True):
        for table in files_of(study, tables):
            formats.write(folder, table)
    return folders


def title(study):
    """A Study's name, and how many of its runs count."""
    counted = sum(not run.fault for run in study.runs)
    return f"{study.name}: {counted} of {len(study.runs)} runs"


def _head(study):
    return f"{title(study)}. {study.question}" if study.question else title(study)


def left_out(study):
    """Lines: the runs that do not count: those still to come by arm, the others each with its reason."""
    waiting = {}
    for run in study.runs:
        if run.fault == studies.NOT_DONE:
            waiting.setdefault(run.arm, []).append(run.seed)
    if waiting:
        yield f"{studies.NOT_DONE}: " + "; ".join(f"{arm} {seeds(waiting[arm])}" for arm in waiting)
    for run in study.runs:
        if run.fault and run.fault != studies.NOT_DONE:
            yield f"left out: {run.arm} seed {run.seed}, {run.fault}"
