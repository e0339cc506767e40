import numpy as np
import pytest

from edgekd.agent.preprocess import Letterbox, NumpyResize, best_resize, frame_from_image, to_input


def test_normalise_by_hand():
    images = np.array([[[[0, 51], [255, 102]]]], dtype=np.uint8)  # one image, one row, two columns, two channels
    out = np.zeros((1, 2, 1, 2), dtype=np.float32)
    to_input(images, "NCHW", "RGB", 255.0, out)
    np.testing.assert_array_equal(out, np.array([[[[0, 1.0]], [[0.2, 0.4]]]], dtype=np.float32))


def test_normalise_equals_torch_division():
    torch = pytest.importorskip("torch")
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    out = np.zeros((1, 1, 16, 16), dtype=np.float32)
    to_input(images, "NCHW", "RGB", 255.0, out)
    np.testing.assert_array_equal(out[0, 0], (torch.from_numpy(images[0, :, :, 0]).float() / 255).numpy())
    half = np.zeros((1, 1, 16, 16), dtype=np.float16)
    to_input(images, "NCHW", "RGB", 255.0, half)
    np.testing.assert_array_equal(half, out.astype(np.float16))


@pytest.mark.parametrize("frame_px", [(480, 640), (640, 480), (37, 91), (96, 96), (100, 3)])
@pytest.mark.parametrize("size_px", [(96, 96), (64, 128)])
def test_letterbox_geometry_equals_the_engines(frame_px, size_px):
    augment = pytest.importorskip("ultralytics.data.augment")
    params = augment.LetterBox(new_shape=size_px, auto=False).get_params({"img": np.zeros((*frame_px, 3), np.uint8)})
    ours = Letterbox(frame_px, size_px, 114, NumpyResize())
    assert (ours.inner_px[1], ours.inner_px[0]) == tuple(params["new_unpad"])
    assert (ours.top_px, ours.left_px) == (params["top"], params["left"])


def test_letterbox_by_hand():
    frame = np.full((2, 4, 3), 200, dtype=np.uint8)
    out = np.zeros((4, 4, 3), dtype=np.uint8)
    Letterbox((2, 4), (4, 4), 114, NumpyResize())(frame, out)
    assert out[:, 0, 0].tolist() == [114, 200, 200, 114]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size_px", [(96, 128), (40, 30), (700, 900)])
def test_numpy_resize_is_within_one_level_of_opencv(size_px, channels):
    pytest.importorskip("cv2")
    name, with_opencv = best_resize()
    assert name.startswith("cv2 ")
    frame = np.random.default_rng(1).integers(0, 256, (240, 320, channels), dtype=np.uint8)
    theirs, ours = with_opencv(frame, size_px), NumpyResize()(frame, size_px)
    assert theirs.shape == ours.shape == (*size_px, channels)
    assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1


def test_without_opencv_numpy_serves_and_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    name, resize = best_resize()
    assert name == "numpy " + np.__version__
    assert resize(np.full((4, 4, 3), 9, np.uint8), (2, 2)).tolist() == [[[9] * 3] * 2] * 2


def test_frame_keeps_the_content_of_the_image():
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    assert frame_from_image(image, (2, 4))[:, :, 0].tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
