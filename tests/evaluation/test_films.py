"""Films: whole files or none, frames of one shape, words below them, films side by side."""

import os

import numpy as np
import pytest

from kitae_marl.evaluation.films import (
    MIN_WIDTH,
    TextPainter,
    captioned,
    shrunk,
    side_by_side,
    write_video,
)

FRAMES = [np.full((16, 16, 3), 20 * i, np.uint8) for i in range(5)]


def test_a_gif_holds_the_frames_at_their_speed(tmp_path):
    import imageio.v2 as imageio

    assert write_video(tmp_path / "film.gif", iter(FRAMES), fps=20) == 5
    frames = imageio.mimread(tmp_path / "film.gif")
    assert len(frames) == 5
    assert [int(frame[0, 0, 0]) for frame in frames] == pytest.approx([0, 20, 40, 60, 80], abs=4)
    assert os.listdir(tmp_path) == ["film.gif"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # JAX fears forks
def test_an_mp4(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    assert write_video(tmp_path / "film.mp4", iter(FRAMES), fps=10) == 5
    assert b"ftyp" in (tmp_path / "film.mp4").read_bytes()[:16]


@pytest.mark.parametrize(
    ("name", "frames", "fps", "message"),
    [
        ("film.avi", FRAMES, 10, r"ends in \.gif or \.mp4, got"),
        ("film", FRAMES, 10, "ends in"),
        (";touch x", FRAMES, 10, "ends in"),
        ("nowhere/film.gif", FRAMES, 10, "a folder that exists"),
        ("film.gif", FRAMES, 0, "frames a second"),
        ("film.gif", [], 10, "at least one frame"),
        ("film.gif", [*FRAMES, FRAMES[0][:8]], 10, r"shape \(16, 16, 3\), got uint8 \(8, 16, 3\)"),
        ("film.gif", [FRAMES[0] / 2.0], 10, "got float64"),
        ("film.gif", [FRAMES[0][0]], 10, "expected frames"),
    ],
)
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, name, frames, fps, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, iter(frames), fps=fps)
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_game_leaves_the_old_film(tmp_path):
    (tmp_path / "film.gif").write_text("old")

    def broken():
        yield FRAMES[0]
        raise RuntimeError("no screen")

    with pytest.raises(RuntimeError, match="no screen"):
        write_video(tmp_path / "film.gif", broken(), fps=10)
    assert (tmp_path / "film.gif").read_text() == "old"
    assert os.listdir(tmp_path) == ["film.gif"]


def frame(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_words_stand_below_the_picture():
    picture = frame(300, 400, 77)
    page = captioned(picture, "run  step 1", {"agent_0": -1.25})
    assert (page[:300] == picture).all()
    assert page.shape[0] > 300
    assert page.shape[1] == 400
    below = page[300:]
    assert (below < 100).any()  # ink
    other = captioned(picture, "run  step 1", {"agent_0": -1.26})
    assert (other[300:] != below).any()  # the numbers can be told apart


def test_small_pictures_are_enlarged_without_smoothing():
    page = captioned(frame(10, 16, 77), "x", {})
    assert page.shape[1] >= MIN_WIDTH
    assert (page[: 10 * page.shape[1] // 16] == 77).all()


def test_many_agents_get_columns_and_lines():
    one = captioned(frame(300, 400, 0), "x", {"agent_0": 1.0})
    some = captioned(frame(300, 400, 0), "x", {f"agent_{i}": 1.0 for i in range(3)})
    many = captioned(frame(300, 400, 0), "x", {f"agent_{i}": 1.0 for i in range(40)})
    assert one.shape == some.shape
    assert many.shape[0] > some.shape[0]


def test_the_shape_stays_while_title_and_numbers_grow():
    few, much = (captioned(frame(9, 300, 0), "x", dict.fromkeys("abcde", x)) for x in (0, -999.25))
    assert few.shape == much.shape
    short = captioned(frame(300, 300, 0), "x", {"a": 0.0})
    assert captioned(frame(300, 300, 0), "x" * 200, {"a": 0.0}).shape == short.shape


def test_shrunk():
    assert shrunk(frame(100, 300, 9), 150).shape == (50, 150, 3)
    assert shrunk(frame(100, 300, 9), 300).shape == (100, 300, 3)


def test_films_side_by_side_last_as_long_as_the_longest():
    films = [[frame(8, 8, i) for i in range(n)] for n in (2, 4, 1)]
    shown = list(side_by_side(films))
    assert len(shown) == 4
    assert {page.shape for page in shown} == {(20, 20, 3)}
    assert [page[5, 5, 0] for page in shown] == [0, 1, 1, 1]  # the first keeps its last frame
    assert [page[5, 15, 0] for page in shown] == [0, 1, 2, 3]


def test_smaller_films_stand_in_the_middle():
    (page,) = side_by_side([[frame(8, 8, 10)], [frame(4, 4, 20)]])
    assert page.shape == (10, 20, 3)
    assert (page[3:7, 13:17] == 20).all()
    assert (page[1:3, 11:19] == 255).all()


def test_one_film_is_itself():
    (page,) = side_by_side([[frame(3, 5, 1)]])
    assert page.shape == (3, 5, 3)


def test_texts_are_drawn_on_pages_of_one_size():
    paint = TextPainter()
    first = paint("\x1b[1mab\x1b[0m\nc")
    assert first.shape == (3 * 17, 3 * 10, 3)
    assert (first < 100).any()
    assert paint("").shape == paint("longer than the first\n" * 9).shape == first.shape
    assert (paint("") == 255).all()
