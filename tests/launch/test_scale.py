"""The estimate on paper: its formulas by hand, and that every program of the file is in its tables."""

import pytest

from launch.benchmarks import scale

PROGRAM = {
    **{"method": "erm", "preset": "", "devices": 1, "batch": 128, "accumulate": 1, "remat": False},
    "student": "resnet20",
    **{"launches": 300, "collectives": 0, "collective_bytes": 0},
}
RESNET20 = 81.6e6  # FLOPs of an image, two a pair: 40.8 million pairs, as published


def test_a_step_by_hand():
    assert scale.of_step(PROGRAM) == pytest.approx(128 * 3 * RESNET20, rel=0.02)
    assert scale.of_step(PROGRAM | {"remat": True}) == pytest.approx(128 * 4 * RESNET20, rel=0.02)
    teacher = scale.forward_flops("resnet56", "")
    kd = scale.of_step(PROGRAM | {"method": "kd"})
    assert kd - scale.of_step(PROGRAM) == 128 * teacher
    craft = scale.of_step(PROGRAM | {"method": "craft"})
    assert craft == 3 * kd  # three views for both networks

    best, worst = scale.seconds(PROGRAM)
    compute = scale.of_step(PROGRAM) / 495e12
    assert best == pytest.approx(max(compute / 0.3, 300e-6)) and worst == pytest.approx(
        compute / 0.02 + 1.5e-3
    )
    eight = PROGRAM | {"devices": 8, "collectives": 39, "collective_bytes": 10**6}
    assert scale.seconds(eight)[0] == pytest.approx(300e-6 + 390e-6 + 2e6 / (0.8 * 450e9))
    far = scale.seconds(eight | {"devices": 64})[1]
    assert far == pytest.approx(compute / 64 / 0.02 + 1.5e-3 + 3.9e-3 + 2e6 / (0.3 * 50e9))


def test_the_papers_table_by_hand():
    """Five methods of three seeds, 200 epochs of 390 steps; a teacher; 76 sets of 10,000 images for each."""
    told = scale.cost([PROGRAM, PROGRAM | {"devices": 8}], "")
    assert told.startswith("the paper: erm, kd, attkd, crd, craft, 3 seeds: ")
    assert told.endswith("GPU-hours; without the launches of kd, attkd, crd, craft")
    student, teacher = (scale.forward_flops(name, "") for name in ("resnet20", "resnet56"))
    each = 128 * (3 * student + teacher)  # FLOPs of a step that distils; CRAFT's are three times as many
    shown = told.split("seeds: ")[1].split(" GPU")[0].split(" to ")
    for i, (share, hours) in enumerate(zip((0.3, 0.02), shown, strict=True)):
        rate = share * 495e12
        steps = scale.seconds(PROGRAM)[i] + (3 + 3) * each / rate
        training = 3 * 200 * 390 * steps
        rest = (200 * 50_000 * 3 * teacher + 15 * 76 * 10_000 * (student + teacher)) / rate
        assert float(hours) == pytest.approx((training + rest) / 3600, abs=0.051)


def test_the_file_of_programs_is_read(capsys):
    scale.main([])
    out = capsys.readouterr().out
    assert out.count("\n| craft") > 3 and "imagenet: erm, kd, attkd, crd, craft, 3 seeds" in out
