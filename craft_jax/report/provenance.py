"""Where a study's figures come from: what every table and the page carry, so that a number has an origin."""

import hashlib
import json

from craft_jax import corruptions
from craft_jax.config import changes, tree
from craft_jax.evaluation import adaptation
from craft_jax.report import groups, tables
from craft_jax.report.formats import Table
from craft_jax.report.summary import number

# The paper's protocol (its table 1, section 4.2), which configs/default.py holds: {dotted key: value}.
_PROTOCOL = {
    **{"data.name": "cifar10", "data.size": 0, "data.max_train": 0, "epochs": 200},
    **{"student.name": "resnet20", "teacher.name": "resnet56"},
}
COLUMNS = (
    *("arm", "seed", "status", "method", "student", "teacher", "clean", "robust", "primary", "not_finite"),
    *("images", "hardware", "date", "commit", "configuration", "draws", "parameters_sha256", "marks"),
)
NOT_RECORDED = "not recorded"


def lines(study):
    """A Study's origin, a line a fact, of the runs that count; [] of none."""
    results = [run.result for run in study.runs if not run.fault]
    if not results:
        return []
    dates = sorted(result.get("date", NOT_RECORDED)[:10] for result in results)
    of_arms = {arm: _all(configuration(run.result) for run in study.counted(arm)) for arm in study.arms}
    hashes = "; ".join(f"{arm} {hashed}" for arm, hashed in of_arms.items() if hashed)
    return [
        f"n: {len(results)} runs, seeds {_all(str(result['seed']) for result in results)}",
        f"hardware: {_all(map(_hardware, results))}",
        f"dates: {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else ""),
        f"commit: {_all(commit(result) for result in results)}",
        f"configuration, sha256 without the seed: {hashes}",
        f"draws: {_all(str(result.get('draws', NOT_RECORDED)) for result in results)}",
        f"marks: {'; '.join(marks(*results)) or 'none'}",
    ]


def _all(texts):
    return ", ".join(dict.fromkeys(texts))


def table(study):
    """The Table "runs" of a Study, a row a run, those that do not count among them."""
    rows = [_row(run) for run in study.runs]
    lines = [tuple(_shown(cell) for cell in row) for row in rows]
    return Table("runs", COLUMNS, rows, COLUMNS, lines, [])


def _row(run):
    result = run.result
    if not result:
        return (run.arm, run.seed, run.fault, *[None] * (len(COLUMNS) - 3))
    config, teacher = result["config"], result.get("teacher") or {}
    return (
        *(run.arm, run.seed, run.fault or "done", result["method"], config["student"]["name"]),
        teacher.get("name"),
        *(result.get(key) for key in ("clean_accuracy", "robust_accuracy", "primary_metric", "nan_count")),
        *(result.get("examples"), _hardware(result), result.get("date")),
        *(commit(result), configuration(result), result.get("draws"), result.get("params_sha256")),
        # Evaluations beside a run's own have no status: they are written once, when done.
        "; ".join(marks(result)) if result.get("status", "done") == "done" else "",
    )


def _hardware(result):
    known = [result[key] for key in ("device", "processor") if result.get(key)]  # older versions noted less
    return ", ".join(known) or NOT_RECORDED


def _shown(cell):
    return "" if cell is None else number(cell) if isinstance(cell, float) else str(cell)


def commit(result):
    """The commit that a run was made with, as `runs.results` noted it."""
    return result.get("commit") or NOT_RECORDED


def configuration(result):
    """Ten digits of the sha256 of what a run changes in the defaults, less what changes no figure."""
    changed = changes.of(tree.from_json(result["config"]))
    return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:10]


def marks(*results):
    """What a reader must know of results before comparing them with others', in words; most have one."""
    found = []
    if any(map(_is_regenerated, results)):
        found.append("regenerated corruptions")
    if overlap := _all(name for result in results for name in result.get("overlap") or ()):
        found.append(f"overlap: trained and evaluated on {overlap}")
    if any(result.get("evaluation_split") == "validation" for result in results):
        found.append("validation: on held-out training images")
    if adapted := _all(adaptation.text(by) for result in results if (by := result.get("adaptation"))):
        found.append(f"adapted to the test images: {adapted}")
    if cues := _all(cue for result in results if (cue := tables.cue_of(result))):
        found.append(f"spurious cue on every image: {cues}")
    finished = [result for result in results if result.get("status") == "done"]
    if skipped := sum(result.get("nan_count") or 0 for result in finished):
        found.append(f"{skipped} updates that were not finite were left out")
    if reduced := _all(part for r in results for part in (*_reduced_training(r), *_reduced_evaluation(r))):
        found.append(f"reduced protocol: {reduced}")
    return found


def _is_regenerated(result):
    return result.get("source") == "regenerated" or (result.get("source_record") or {}).get("regenerated")


def _reduced_training(result):
    flat = groups.settings(result)
    for key, value in _PROTOCOL.items():
        own = flat.get(key, value)
        taught = key != "teacher.name" or result.get("teacher")
        if own != value and taught:
            yield f"{key.removesuffix('.name')} {own}" + (f" of {value}" if key == "epochs" else "")


def _reduced_evaluation(result):
    table = result.get("corruptions") or {}
    whole = next((s for s in (corruptions.CIFAR10_C_BAR, corruptions.TEST) if set(table) <= set(s)), ())
    if table and len(table) < len(whole):
        yield f"{len(table)} of {len(whole)} corruptions"
    severities = {i for row in table.values() for i, accuracy in enumerate(row) if accuracy is not None}
    if severities and len(severities) < len(corruptions.SEVERITIES):
        yield f"{len(severities)} of {len(corruptions.SEVERITIES)} severities"
    of_all = (result.get("data") or {}).get("test_examples")
    if of_all and result.get("evaluation_split") == "test" and result["examples"] < of_all:
        yield f"{result['examples']} of {of_all} test images"
