"""A result as text: the headline, its parts, and every corruption by severity."""

from craft_jax.evaluation import adaptation, robustness

ACCURACIES = ("clean", "robust", "no JPEG", "noise", "blur", "weather", "digital", "weather+digital")

NOT_COMPARED = "figures depend on the batches, and are not to be compared with a student's that was not"


def text(result):
    """What a finished run or an evaluation prints.

    Args:
      result: the contents of results.json or eval/NAME.json.
    Returns:
      Several lines of text; "-" stands where nothing was evaluated.
    """
    names = ", ".join(result["corruptions"]) or "nothing"
    lines = [
        f"clean accuracy   {number(result['clean_accuracy']):>6}%{_split(result)}",
        f"robust accuracy  {number(result['robust_accuracy']):>6}%  (mean over {names}; {_source(result)})",
        f"primary metric   {number(result['primary_metric']):>6}",
    ]
    if adapted := result.get("adaptation"):  # absent from results of older versions
        lines.insert(0, f"ADAPTED to these very images by {adaptation.text(adapted)}: {NOT_COMPARED}")
    if result["shifted"]:
        lines.append(_shifted(result))
    if result.get("cue"):  # absent from results of older versions
        lines.append(_cue(result["data"]["cue"], result))
    if published := result.get("against_alexnet"):
        lines.append(f"against AlexNet: mCE {number(published['mce'])}")
    if reference := result["against_reference"]:
        lines.append(_against(reference))
    networks = {"student": result}
    if result["teacher_evaluation"]:
        networks["teacher"] = result["teacher_evaluation"]
    tables = (_parts(networks), _calibration(networks), _cells(networks))
    return "\n\n".join(["\n".join(lines), *(aligned(rows) for rows in tables if len(rows) > 1)])


def accuracies(result):
    """The figures named by `ACCURACIES`, of one network, as text."""
    table = result["corruptions"]
    without_jpeg = robustness.mean_over(table, [name for name in table if name != "jpeg_compression"])
    parts = robustness.by_family(table).values()
    return [number(x) for x in (result["clean_accuracy"], result["robust_accuracy"], without_jpeg, *parts)]


def number(value, digits=2):
    """A float as text; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def aligned(rows):
    """Rows of text as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _split(result):
    held_out = result.get("evaluation_split") == "validation"
    return "  (this and all below on held-out training images, not on the test set)" if held_out else ""


def _source(result):
    made_here = result["source"] != "regenerated" and (result["source_record"] or {}).get("regenerated")
    return f"{result['source']}, of regenerated files" if made_here else result["source"]


def _against(reference):
    why = reference.get("relative_mce_undefined")  # absent from results of older versions
    relative = number(reference["relative_mce"]) + (f" ({why})" if why else "")
    return (
        f"against {reference['reference']}: mCE {number(reference['mce'])}, relative mCE {relative}; "
        f"clean {reference['clean_difference']:+.2f}, "
        f"robust {reference['robust_difference']:+.2f} points"
    )


def _cue(cue, result):
    figures = result["cue"]
    return (
        f"{cue['kind']} cue       as in training ({cue['correlation']:g} its own class's) "
        f"{number(figures['as_in_training'])}%, absent {number(figures['absent'])}%, "
        f"reversed {number(figures['reversed'])}%; worst group {number(figures['worst_group'])}%: "
        + worst_group(result)
    )


def worst_group(result):
    """The group of least accuracy of a result's "cue", in words: "class cat, another's cue, 40 images"."""
    figures, names = result["cue"], result["data"].get("classes")  # absent from results of older versions
    label, cue = figures["worst"]["class"], figures["worst"]["cue"]
    whose = "its own cue" if cue == "own" else "another's cue"
    return f"class {names[label] if names else label}, {whose}, {figures['examples'][cue][label]} images"


def _shifted(result):
    own, teacher = result["shifted"], result["teacher_evaluation"]
    beside = ""
    if teacher:
        agreement = number(teacher["agreement"]["shifted"])
        beside = f"; teacher {number(teacher['shifted']['accuracy'])}%, agreement {agreement}%"
    return (
        f"shifted accuracy {number(own['accuracy']):>6}%  ({result['source']}; "
        f"NLL {number(own['nll'], 3)}, ECE {number(own['ece'], 3)}{beside})"
    )


def _parts(networks):
    rows = [("accuracy, %", *ACCURACIES)]
    rows += [(name, *accuracies(network)) for name, network in networks.items()]
    if "teacher" in networks:
        agreement = networks["teacher"]["agreement"]
        shown = [number(agreement["clean"]), number(agreement["corrupted"])]
        rows.append(("agreement", *shown, *[""] * (len(ACCURACIES) - len(shown))))
    return rows


def _calibration(networks):
    names = ("NLL", "ECE", "confidence on errors")
    rows = [("calibration", *names, *(f"corrupted {name}" for name in names))]
    for name, network in networks.items():
        figures = [network[part][k] for part in ("clean", "corrupted") for k in robustness.CALIBRATION]
        rows.append((name, *(number(x, 3) for x in figures)))
    return rows


def _cells(networks):
    rows = [("severity", *"12345", *(f"mean, {name}" for name in networks))]
    for name, cells in networks["student"]["corruptions"].items():
        means = [robustness.mean_over(network["corruptions"], [name]) for network in networks.values()]
        rows.append((name, *map(number, cells), *map(number, means)))
    return rows
