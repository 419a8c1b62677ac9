"""What the tests of shifted images share."""

import pytest

from tests.data.shifted_files import NAMES


@pytest.fixture
def settings(make_config, tmp_path):
    """settings(source, **{"eval.key": value}): a configuration that evaluates NAMES, from `tmp_path`."""

    def make(source="cifar10_c", **overrides):
        fixed = {"eval.source": source, "eval.dir": str(tmp_path), "eval.corruptions": NAMES}
        return make_config("erm", **(fixed | overrides))

    return make
