"""Films: whole files or none, and frames of one shape."""

import os

import numpy as np
import pytest

from kitae_marl.evaluation.films import write_video

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
