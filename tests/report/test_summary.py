"""What a finished run prints."""

from craft_jax.evaluation import robustness
from craft_jax.report import summary

CALIBRATION = (
    "calibration NLL ECE confidence on errors corrupted NLL corrupted ECE corrupted confidence on errors"
)


def network(clean, robust, **table):
    calibration = {"nll": 0.5, "ece": 0.0123, "confidence_on_errors": None}
    return {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "corruptions": table,
        "clean": calibration,
        "corrupted": {"nll": 1.5, "ece": 0.25, "confidence_on_errors": 0.75},
    }


def result(**changes):
    own = network(
        91.256, 60.0, contrast=[90.0, None, 50.123, None, None], jpeg_compression=[None] * 4 + [5.0]
    )
    rest = {"primary_metric": 67.814, "source": "regenerated", "shifted": None}
    return own | rest | {"teacher_evaluation": None, "against_reference": None} | changes


def lines(result):
    return [line.split() for line in summary.text(result).split("\n")]


def test_summary_of_a_student_alone():
    assert lines(result()) == [
        ["clean", "accuracy", "91.26%"],
        ["robust", "accuracy", "60.00%", "(mean", "over", "contrast,", "jpeg_compression;", "regenerated)"],
        ["primary", "metric", "67.81"],
        [],
        ["accuracy,", "%", *summary.ACCURACIES[:2], "no", "JPEG", *summary.ACCURACIES[3:]],
        ["student", "91.26", "60.00", "70.06", "-", "-", "-", "48.37", "48.37"],
        [],
        CALIBRATION.split(),
        ["student", "0.500", "0.012", "-", "1.500", "0.250", "0.750"],
        [],
        ["severity", "1", "2", "3", "4", "5", "mean,", "student"],
        ["contrast", "90.00", "-", "50.12", "-", "-", "70.06"],
        ["jpeg_compression", "-", "-", "-", "-", "5.00", "5.00"],
    ]


def test_held_out_images_are_named():
    for split, said in ((None, False), ("test", False), ("validation", True)):
        first = summary.text(result(evaluation_split=split)).split("\n")[0]
        assert first.startswith("clean accuracy    91.26%") and ("held-out training images" in first) == said


def test_the_teacher_stands_beside_the_student():
    teacher = network(
        95.0, 70.0, contrast=[95.0, None, 45.0, None, None], jpeg_compression=[None] * 4 + [10.0]
    )
    teacher["agreement"] = {"clean": 97.5, "corrupted": 80.25}
    found = lines(result(teacher_evaluation=teacher))
    assert ["teacher", "95.00", "70.00", "70.00", "-", "-", "-", "50.00", "50.00"] in found
    assert ["agreement", "97.50", "80.25"] in found
    assert ["contrast", "90.00", "-", "50.12", "-", "-", "70.06", "70.00"] in found
    assert ["jpeg_compression", "-", "-", "-", "-", "5.00", "5.00", "10.00"] in found


def test_files_that_are_not_the_published_ones_are_called_so():
    for note, called in (({"what": "ours"}, "cifar10_c, of regenerated files)"), (None, "; cifar10_c)")):
        found = summary.text(result(source="cifar10_c", source_record={"regenerated": note}))
        assert found.split("\n")[1].endswith(called)


def test_columns_align():
    text = summary.aligned([("a", "bbb", "c"), ("long", "1", "22.5")])
    assert text == "a     bbb     c\nlong    1  22.5"


def test_a_reference_and_its_differences():
    own, other = result(), result(clean_accuracy=90.0)
    against = {"reference": "runs/erm", **robustness.against(own, other)}
    (line,) = (x for x in summary.text(result(against_reference=against)).split("\n") if "runs/erm" in x)
    assert line.startswith("against runs/erm: mCE 100.00, relative mCE ")
    assert line.endswith("; clean +1.26, robust +0.00 points")


def test_a_relative_error_that_is_undefined_says_why():
    cells = {name: [a and 91.0 for a in row] for name, row in result()["corruptions"].items()}
    own, steady = result(), result(corruptions=cells)  # of 91.256 clean
    against = {"reference": "runs/erm", **robustness.against(own, steady)}
    text = summary.text(result(against_reference=against))
    assert "relative mCE - (the reference loses, in points: 0.3 under contrast, 0.3 under jpeg" in text


def test_a_natural_shift_has_no_corruptions():
    natural = network(91.0, None) | {"primary_metric": None, "source": "cifar10_1", "source_record": {}}
    natural |= {"shifted": {"accuracy": 83.25, "nll": 0.7, "ece": 0.04}, "against_reference": None}
    found = summary.text(natural | {"teacher_evaluation": None})
    assert "shifted accuracy  83.25%  (cifar10_1; NLL 0.700, ECE 0.040)" in found
    teacher = network(92.0, None) | {"shifted": {"accuracy": 88.5}}
    teacher["agreement"] = {"clean": 95.0, "shifted": 87.125, "corrupted": None}
    beside = summary.text(natural | {"teacher_evaluation": teacher})
    assert "(cifar10_1; NLL 0.700, ECE 0.040; teacher 88.50%, agreement 87.12%)" in beside
    assert "robust accuracy       -%  (mean over nothing; cifar10_1)" in found
    assert "severity" not in found
