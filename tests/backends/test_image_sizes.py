"""Which image size an export takes, and what is said of the others."""

import pytest

from av_grounding.backends.image_sizes import (
    check_input_size,
    checked_image_size,
    default_image_size,
)
from av_grounding.config import drawn_world_bundle
from av_grounding.modeling.bundle import load_bundle


@pytest.fixture(scope="module")
def spec():
    """Short side 160, patches of 16."""
    return load_bundle(drawn_world_bundle()).spec


def test_one_size_alone(spec):
    assert default_image_size(spec) == checked_image_size(spec) == (160, 208)
    assert checked_image_size(spec, (96, 64)) == (96, 64)
    check_input_size((160, 208), (160, 208))
    with pytest.raises(
        ValueError, match=r"64x64 pixels; this export takes 160x208: .*-size 64x64"
    ):
        check_input_size((160, 208), (64, 64))


@pytest.mark.parametrize("size", [(100, 208), (160, 8), (0, 208)])
def test_sizes_that_make_no_sense(spec, size):
    with pytest.raises(ValueError, match="expected multiples of 16, such as 160x208") as caught:
        checked_image_size(spec, size)
    assert "\n" not in str(caught.value)
