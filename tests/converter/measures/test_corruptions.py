"""Corruptions: within the value range, stronger with severity, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import pictures

from edge_convert.graph import Port
from edge_convert.measures import corruptions
from edge_convert.measures.corruptions import SEVERITIES, Corruption, Space, space_of

NHWC = Port("x", "x", (1, 24, 24, 3), layout="NHWC")
PICTURES = pictures(12, size=24) * 255
VECTORS = np.random.RandomState(0).normal(3, [0.5, 2.0, 0.0], (50, 3)).astype(np.float32)
EVERY = corruptions.of_kind("picture") + corruptions.of_kind("vector")


def available(one: Corruption) -> None:
    if one.needs:
        pytest.importorskip(one.needs)


def given(one: Corruption) -> tuple[np.ndarray, Space]:
    if one.kind == "picture":
        return PICTURES, space_of(NHWC, PICTURES)
    return VECTORS, space_of(Port("x", "x", (1, 3)), VECTORS)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_every_corruption_keeps_the_range_grows_and_repeats(one: Corruption) -> None:
    available(one)
    values, space = given(one)
    before = values.copy()
    moved = []
    for severity in SEVERITIES:
        changed = corruptions.corrupted(one, {"x": values}, {"x": space}, severity)["x"]
        again = corruptions.corrupted(one, {"x": values}, {"x": space}, severity)["x"]
        np.testing.assert_array_equal(changed, again)
        assert changed.dtype == values.dtype and changed.shape == values.shape
        assert space.low <= changed.min() and changed.max() <= space.high
        moved.append(float(np.abs(changed - values).mean()))
    assert 0 < moved[0] < moved[1] < moved[2]
    np.testing.assert_array_equal(values, before)


def test_the_layout_does_not_matter() -> None:
    (noise, *_) = [c for c in EVERY if c.name == "brightness"]
    turned = np.ascontiguousarray(PICTURES.transpose(0, 3, 1, 2))
    nchw = space_of(Port("x", "x", (1, 3, 24, 24), layout="NCHW"), turned)
    first = corruptions.corrupted(noise, {"x": PICTURES}, {"x": space_of(NHWC, PICTURES)}, 2)["x"]
    second = corruptions.corrupted(noise, {"x": turned}, {"x": nchw}, 2)["x"]
    np.testing.assert_allclose(second.transpose(0, 2, 3, 1), first, rtol=1e-6)


def test_a_blur_is_scipys_gaussian() -> None:
    from scipy.ndimage import gaussian_filter

    (blur,) = [c for c in EVERY if c.name == "blur"]
    sigma = 1.0 * 24 / 32
    low, high = float(PICTURES.min()), float(PICTURES.max())
    scaled = (PICTURES.astype(np.float64) - low) / (high - low)
    expected = gaussian_filter(scaled, (0, sigma, sigma, 0), mode="nearest", radius=(0, 3, 3, 0))
    found = corruptions.corrupted(blur, {"x": PICTURES}, {"x": space_of(NHWC, PICTURES)}, 3)["x"]
    np.testing.assert_allclose(found, expected * (high - low) + low, rtol=1e-5, atol=1e-3)


def test_contrast_keeps_the_mean_and_shrinks_the_spread() -> None:
    (contrast,) = [c for c in EVERY if c.name == "contrast"]
    found = corruptions.corrupted(contrast, {"x": PICTURES}, {"x": space_of(NHWC, PICTURES)}, 2)["x"]
    np.testing.assert_allclose(found.mean(axis=(1, 2)), PICTURES.mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.std(axis=(1, 2)), PICTURES.std(axis=(1, 2)) / 2, rtol=1e-4)


def test_a_feature_that_never_varies_gets_no_noise_and_a_lost_one_its_mean() -> None:
    noise, dropout = corruptions.of_kind("vector")
    space = given(noise)[1]
    noisy = corruptions.corrupted(noise, {"x": VECTORS}, {"x": space}, 3)["x"]
    np.testing.assert_array_equal(noisy[:, 2], VECTORS[:, 2])
    lost = corruptions.corrupted(dropout, {"x": VECTORS}, {"x": space}, 3)["x"]
    gone = (lost != VECTORS)[:, :2]
    assert 0.05 < gone.mean() < 0.4
    np.testing.assert_allclose(lost[:, 0][gone[:, 0]], VECTORS[:, 0].mean(), rtol=1e-5)


def test_spectra_are_no_pictures_and_whole_numbers_are_left_alone() -> None:
    mfcc = np.zeros((4, 49, 10, 1), np.float32)
    assert space_of(Port("x", "x", (1, 49, 10, 1), layout="NHWC"), mfcc).kind == "vector"
    assert space_of(NHWC, PICTURES).kind == "picture"
    (brightness,) = [c for c in EVERY if c.name == "brightness"]
    tokens = {"x": PICTURES, "t": np.arange(12)[:, None]}
    found = corruptions.corrupted(brightness, tokens, {"x": space_of(NHWC, PICTURES)}, 1)
    assert found["t"] is tokens["t"]
    assert not corruptions.applies(brightness, {"t": tokens["t"]}, {})


def test_jpeg_is_for_one_or_three_channels() -> None:
    (jpeg,) = [c for c in EVERY if c.name == "JPEG"]
    four = np.random.RandomState(0).rand(2, 16, 16, 4).astype(np.float32)
    space = space_of(Port("x", "x", (1, 16, 16, 4), layout="NHWC"), four)
    assert not corruptions.applies(jpeg, {"x": four}, {"x": space})
