"""Pictures to tensors: the same pixels as the libraries that models are trained with."""

from __future__ import annotations

import io
from typing import Any

import input_bundles
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from input_bundles import encoded, picture
from numpy.typing import NDArray
from PIL import Image
from small_nets import Net

from edge_agent.errors import InputRefused
from edge_agent.input.prepare import prepare, prepare_pixels
from edge_agent.input.resample import bilinear
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Picture
from edge_convert.emitters.tflite import emit
from edge_convert.graph import Op


def contract(shape: tuple[int, ...] = (1, 24, 32, 3), **rule: Any) -> Manifest:
    spec: dict[str, Any] = {
        "layout": "NHWC",
        "color_order": "RGB" if shape[-1] == 3 else "",
        "dtype": "float32",
    }
    spec |= {key: rule.pop(key) for key in tuple(rule) if key in spec}
    stated = Picture(**{"kind": "picture", "resample": "pillow-bilinear"} | rule)
    return input_bundles.manifest({"shape": shape, "prepare": stated, **spec})


def made(manifest: Manifest, image: Image.Image) -> NDArray[Any]:
    return prepare(manifest, "x", encoded(image), "image/png").inputs["x"]


# --- the same pixels as the training side


@pytest.mark.parametrize("method", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(300, 200), (17, 13)], ids=["shrunk", "grown"])
def test_pillows_filters_give_pillows_pixels(method: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    expected = np.asarray(image.resize((32, 24), getattr(Image.Resampling, method.upper())))
    found = made(contract(resample=f"pillow-{method}"), image)
    assert found.shape == (1, 24, 32, 3)
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize("size", [(300, 200), (17, 13), (32, 24)], ids=["shrunk", "grown", "kept"])
def test_tensorflows_bilinear_gives_the_pixels_of_its_own_kernel(size: tuple[int, int]) -> None:
    # LiteRT's RESIZE_BILINEAR is the kernel of tf.image.resize, half-pixel centres
    image = np.asarray(picture(*size), np.float32)
    net = Net({"x": (1, *image.shape)})
    how: dict[str, Any] = {"size": (24, 32), "align_corners": False, "half_pixel_centers": True}
    graph = net.graph(net.node(Op.RESIZE_BILINEAR, ["x"], **how))
    interpreter = Interpreter(model_content=emit(graph), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.abs(bilinear(image, 24, 32) - expected[0]).max() < 1e-3
    found = made(contract(resample="tf-bilinear"), Image.fromarray(image.astype(np.uint8)))
    assert np.abs(found - expected).max() < 1e-3


def test_pillow_and_tensorflow_differ_by_many_levels_when_shrinking() -> None:
    # why the rule has to be stated
    image = picture(300, 200)
    apart = made(contract(), image) - made(contract(resample="tf-bilinear"), image)
    assert np.abs(apart).max() > 20


# --- where the picture goes


def test_a_crop_is_torchvisions_resize_and_center_crop() -> None:
    # Resize(40): 101 x 57 -> int(40 * 101 / 57) x 40; CenterCrop((24, 32)): round((40 - 24) / 2) ...
    image = picture(101, 57)
    resized = image.resize((70, 40), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((19, 8, 19 + 32, 8 + 24)))
    prepared = prepare(contract(fit="crop", shorter_side=40), "x", encoded(image), "image/png")
    assert np.array_equal(prepared.inputs["x"][0], expected)
    assert prepared.view is not None
    assert prepared.view.point(0, 0) == pytest.approx((19 / 70, 8 / 40))
    assert prepared.view.point(1, 1) == pytest.approx((51 / 70, 32 / 40))


def test_a_crop_of_an_upright_picture_keeps_its_width() -> None:
    image = picture(57, 101)
    resized = image.resize((40, 70), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((4, 23, 36, 47)))
    assert np.array_equal(made(contract(fit="crop", shorter_side=40), image)[0], expected)


def test_a_letterbox_keeps_the_sides_ratio_and_pads_with_its_colour() -> None:
    # 64 x 24 into 32 x 24: half the size, 32 x 12, six rows above and six below
    image = picture(64, 24)
    prepared = prepare(contract(fit="letterbox", pad=(10, 20, 30)), "x", encoded(image), "image/png")
    found = prepared.inputs["x"][0]
    assert (found[:6] == [10, 20, 30]).all()
    assert (found[18:] == [10, 20, 30]).all()
    assert np.array_equal(found[6:18], np.asarray(image.resize((32, 12), Image.Resampling.BILINEAR)))
    assert prepared.view is not None
    assert prepared.view.point(0.5, 6 / 24) == pytest.approx((0.5, 0))
    assert prepared.view.point(0.5, 18 / 24) == pytest.approx((0.5, 1))


# --- what becomes of a pixel


def test_values_are_divided_shifted_and_scaled_channel_by_channel() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = picture(32, 24)
    expected = (np.asarray(image, np.float64) / 255 - mean) / std
    found = made(contract(divisor=255, mean=mean, std=std), image)
    assert found.dtype == np.float32
    assert np.allclose(found[0], expected, atol=1e-6)


def test_bgr_turns_the_channels_and_the_mean_follows_the_tensor() -> None:
    image = Image.new("RGB", (32, 24), (10, 20, 30))
    found = made(contract(color_order="BGR", mean=(1, 2, 3)), image)
    assert found[0, 0, 0].tolist() == [30 - 1, 20 - 2, 10 - 3]


def test_channels_first_is_the_same_picture_transposed() -> None:
    image = picture(60, 50)
    last, first = (
        made(contract(), image),
        made(contract((1, 3, 24, 32), layout="NCHW", color_order="RGB"), image),
    )
    assert np.array_equal(first, last.transpose(0, 3, 1, 2))


def test_one_channel_is_grey() -> None:
    image = Image.new("RGB", (32, 24), (200, 100, 50))
    found = made(contract((1, 24, 32, 1)), image)
    assert (found == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_an_integer_tensor_gets_codes_rounded_half_to_even() -> None:
    image = Image.new("RGB", (32, 24), (5, 7, 0))
    found = made(contract(dtype="int8", divisor=2, mean=(1,)), image)  # 1.5, 2.5, -1
    assert found.dtype == np.int8
    assert found[0, 0, 0].tolist() == [2, 2, -1]


def test_a_turned_photo_is_set_upright_only_where_the_contract_says_so() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    image = picture(24, 32)
    payload = encoded(image, "PNG", exif=exif)
    as_stored = prepare(contract(), "x", payload, "image/png").inputs["x"][0]
    upright = prepare(contract(upright=True), "x", payload, "image/png").inputs["x"][0]
    assert np.array_equal(as_stored, np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR)))
    assert np.array_equal(upright, np.asarray(image.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "LA", "1"])
def test_other_modes_become_rgb_as_pillow_does_it(mode: str) -> None:
    image = picture(32, 24, mode) if mode != "LA" else picture(32, 24, "L").convert("LA")
    assert np.array_equal(made(contract(), image)[0], np.asarray(image.convert("RGB")))


def test_a_jpeg_is_decoded_as_pillow_decodes_it() -> None:
    payload = encoded(picture(32, 24), "JPEG", quality=80)
    expected = np.asarray(Image.open(io.BytesIO(payload)))
    assert np.array_equal(prepare(contract(), "x", payload, "image/jpeg").inputs["x"][0], expected)


def test_pixels_of_a_frame_become_what_their_file_becomes() -> None:
    for manifest in (contract(), contract((1, 24, 32, 1)), contract(resample="tf-bilinear", fit="letterbox")):
        image = picture(90, 70)
        assert np.array_equal(
            prepare_pixels(manifest, "", np.asarray(image)).inputs["x"], made(manifest, image)
        )


# --- refusals


def refused(manifest: Manifest, payload: bytes, media_type: str = "image/png", name: str = "x") -> str:
    with pytest.raises(InputRefused) as error:
        prepare(manifest, name, payload, media_type)
    assert "\n" not in str(error.value)
    return error.value.code


def test_bytes_that_are_no_picture_are_damaged() -> None:
    whole = encoded(picture(32, 24))
    assert refused(contract(), b"") == "damaged"
    assert refused(contract(), b"\x89PNG\r\n\x1a\nrubbish") == "damaged"
    assert refused(contract(), whole[: len(whole) // 2]) == "damaged"
    assert refused(contract(), encoded(picture(32, 24), "GIF")) == "damaged"


def test_what_is_said_of_damage_names_no_object_of_ours() -> None:
    with pytest.raises(InputRefused, match=r"not a whole JPEG or PNG picture: 5 bytes that are neither$"):
        prepare(contract(), "x", b"hello", "image/jpeg")


@pytest.mark.parametrize("flips", range(20))
def test_a_picture_with_changed_bytes_is_read_or_refused(flips: int) -> None:
    rng = np.random.default_rng(flips)
    for kind in ("PNG", "JPEG"):
        payload = bytearray(encoded(picture(32, 24), kind))
        for place in rng.integers(0, len(payload), 8):
            payload[place] = rng.integers(0, 256)
        try:
            values = prepare(contract(), "x", bytes(payload), "image/png").inputs["x"]
        except InputRefused:
            continue
        assert values.shape == (1, 24, 32, 3)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    assert refused(contract(), encoded(Image.new("1", (8000, 7000)))) == "too-large"
    assert refused(contract(), encoded(Image.new("1", (20000, 20000)))) == "too-large"


def test_sixteen_bits_a_channel_are_refused() -> None:
    assert refused(contract(), encoded(Image.new("I;16", (32, 24)))) == "picture-mode"


def test_what_the_contract_does_not_take_is_named() -> None:
    plain = input_bundles.manifest([TensorSpec(name="a", shape=(1, 2)), TensorSpec(name="b", shape=(1, 2))])
    assert refused(plain, b"", name="a") == "media-type"
    assert refused(plain, b"", name="x") == "names"
    assert refused(contract(), encoded(picture(9, 9)), "image/tiff") == "media-type"
    assert refused(contract(), encoded(picture(9, 9)), "text/csv") == "media-type"


def test_parameters_of_a_media_type_do_not_matter() -> None:
    payload = encoded(picture(9, 9))
    assert prepare(contract(), "", payload, "IMAGE/PNG; charset=binary").inputs["x"].shape[0] == 1
