"""Which image sizes an export takes, and what is said of the others."""

import pytest

from av_grounding.backends.image_sizes import ImageSizes, all_widths, default_image_size
from av_grounding.config import default_bundle
from av_grounding.image import ResizeTransform
from av_grounding.modeling.bundle import load_bundle


@pytest.fixture(scope="module")
def spec():
    """Short side 160, patches of 16."""
    return load_bundle(default_bundle()).spec


def test_one_size_alone(spec):
    sizes = ImageSizes.of(spec)
    assert default_image_size(spec) == (160, 208)
    assert str(sizes) == "160x208"
    assert sizes.compared == ((160, 208),)
    assert sizes.dynamic_shapes() is None
    sizes.check(160, 208)
    with pytest.raises(
        ValueError, match=r"64x64 pixels; this export takes 160x208: .*-size 64x64"
    ):
        sizes.check(64, 64)


def test_a_range_of_widths(spec):
    sizes = ImageSizes.of(spec, (160, 208), (160, 480))
    assert sizes.shapes == ((1, 3, 160, 160), (1, 3, 160, 208), (1, 3, 160, 480))
    assert sizes.compared == ((160, 160), (160, 208), (160, 336), (160, 480))
    for width in range(160, 481, 16):
        sizes.check(160, width)
    for size in [(160, 144), (160, 496), (160, 200), (176, 208)]:
        with pytest.raises(
            ValueError, match=r"takes 160x160 to 160x480 in steps of 16: export ag"
        ):
            sizes.check(*size)


def test_its_own_width_may_be_an_end(spec):
    assert ImageSizes.of(spec, (160, 160), (160, 176)).compared == ((160, 160), (160, 176))


def test_every_width_that_a_camera_gives(spec):
    """Whatever the aspect: a frame is placed within the range, or stands upright."""
    low, high = all_widths(160, 16)
    sizes = ImageSizes.of(spec, (160, 208), (low, high))
    for width in range(480, 4000, 37):
        placement = ResizeTransform.fit(480, width, spec.short_side_px, spec.patch_px)
        sizes.check(placement.input_height, placement.input_width)


@pytest.mark.parametrize(
    ("size", "widths", "said"),
    [
        ((100, 208), None, "image size 100x208; expected multiples of 16, such as 160x208"),
        ((160, 208), (160, 200), "widths 160:200 .* multiples of 16 from 32 on"),
        ((160, 208), (16, 480), "widths 16:480 .* from 32 on"),
        ((160, 208), (224, 480), "with 208 among them"),
        ((160, 208), (480, 160), "the lower first"),
        ((160, 208), (208, 208), "widths 208:208"),
        ((160, 208), (96, 480), r"as 160x96 \(that shape is brought to 272x160\); .* 160 to 480"),
        ((160, 208), (160, 496), r"as 160x496 \(that shape is brought to 160x480\)"),
        ((320, 416), (320, 960), r"as 320x320 \(that shape .* 160x160\); expected height 160"),
    ],
)
def test_sizes_that_make_no_sense(spec, size, widths, said):
    with pytest.raises(ValueError, match=said) as caught:
        ImageSizes.of(spec, size, widths)
    assert "\n" not in str(caught.value)
