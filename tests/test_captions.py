"""Words below frames, and films side by side."""

import numpy as np

from kitae_marl.evaluation.films import MIN_WIDTH, captioned, shrunk, side_by_side


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
