"""The sheet of images: every pixel is where it belongs."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ils_lightning import plots


def drawn(figure) -> np.ndarray:
    """The figure's axes as pixels `[height, width, 3]`, at 100 dots per inch."""
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.axes[0].get_window_extent()
    picture = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    x, y, width, height = (round(number) for number in box.bounds)
    return picture[y : y + height, x : x + width][::-1]


@pytest.mark.parametrize(("size", "dots"), [(8, 8), (28, 2), (32, 2), (64, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_pixel_is_a_square_of_equal_size(size, dots, channels):
    images = torch.randint(256, (2, 3, channels, size, size), generator=torch.Generator().manual_seed(0)) / 255
    picture = drawn(plots.image_grid(images, title="images", row_labels=["first", "second"], column_labels="abc"))
    step = dots * size + 2 * plots.GAP
    for row in range(2):
        for column in range(3):
            cell = picture[row * step :, column * step :][: dots * size, : dots * size]
            expected = (images[row, column] * 255).round().permute(1, 2, 0).expand(size, size, 3).byte().numpy()
            expected = expected.repeat(dots, axis=0).repeat(dots, axis=1)
            assert np.abs(cell.astype(int) - expected.astype(int)).max() <= 1
    assert (picture[dots * size : step] == 255).all()


def test_labels_stand_beside_their_rows_and_columns():
    figure = plots.image_grid(torch.zeros(2, 3, 1, 8, 8), "digits", ["input", "reconstruction"], ["a", "b", "c"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["input", "reconstruction"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    figure.set_dpi(100)
    FigureCanvasAgg(figure).draw()
    texts = [*axes.get_yticklabels(), *axes.get_xticklabels(), *figure.texts]
    boxes = [text.get_window_extent() for text in texts]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert boxes[-1].y0 > boxes[2].y1


def test_values_beyond_the_range_are_clipped_not_rescaled():
    images = torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 1, 8, 8)
    picture = drawn(plots.image_grid(images))
    assert [int(picture[10, column, 0]) for column in (10, 78, 146)] == [0, 128, 255]


@pytest.mark.parametrize(
    ("shape", "labels", "match"),
    [
        ((3, 1, 8, 8), {}, r"\[rows, columns, channels, height, width\].*given \[3, 1, 8, 8\]"),
        ((2, 3, 2, 8, 8), {}, "1 or 3 channels"),
        ((0, 3, 1, 8, 8), {}, "given"),
        ((2, 3, 1, 8, 8), {"row_labels": ["a"]}, "one label per row, 2; given 1"),
        ((2, 3, 1, 8, 8), {"column_labels": ["a"]}, "one label per column, 3; given 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(shape, labels, match):
    with pytest.raises(ValueError, match=match):
        plots.image_grid(torch.zeros(shape), **labels)
