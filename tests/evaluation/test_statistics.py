"""Statistics of evaluation against numbers worked out by hand, known values, and their coverage."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from kitae_marl.evaluation import (
    Evaluation,
    compare,
    iqm,
    normalized_score,
    over_games,
    over_seeds,
    probability_of_improvement,
    stratified_bootstrap,
    summarize,
)
from kitae_marl.evaluation.results import joined
from kitae_marl.evaluation.statistics import mean_and_iqm

GROUPS = {"fox": ("fox_0",), "hen": ("hen_0", "hen_1")}


def played(fox, hen_0, hen_1, **rest) -> Evaluation:
    returns = {"fox_0": np.array(fox), "hen_0": np.array(hen_0), "hen_1": np.array(hen_1)}
    return Evaluation(returns, np.full(len(fox), 7), GROUPS, **rest)


class TestIqm:
    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 41])
    def test_it_is_scipys_trimmed_mean(self, n):
        values = np.random.default_rng(n).normal(size=n)
        assert iqm(values) == pytest.approx(trim_mean(values, 0.25))

    def test_outliers_do_not_move_it(self):
        assert iqm(np.array([-1e9, 1.0, 2.0, 3.0, 1e9])) == 2.0

    def test_leading_axes(self):
        assert iqm(np.arange(10.0).reshape(2, 5)).tolist() == [2.0, 7.0]


class TestBootstrap:
    def test_strata_are_resampled_apart(self):
        """The mean of a constant stratum cannot vary, and strata never mix."""
        spread = lambda values: np.ptp(values, axis=-1)  # noqa: E731
        low, high = stratified_bootstrap(spread, [np.zeros(4), np.full(3, 5.0)])
        assert (low, high) == (5.0, 5.0)

    def test_two_values_by_hand(self):
        """Of {0, 1} the mean is 0, 1/2 or 1, with probability 1/4, 1/2, 1/4."""
        assert stratified_bootstrap(mean, [np.array([0.0, 1.0])], confidence=0.4) == (0.5, 0.5)
        assert stratified_bootstrap(mean, [np.array([0.0, 1.0])], confidence=0.6) == (0.0, 1.0)

    def test_parts_drawn_one_by_one_are_the_same_in_distribution(self, monkeypatch):
        values = np.random.default_rng(0).normal(size=50)
        whole = stratified_bootstrap(iqm, [values])
        monkeypatch.setattr("kitae_marl.evaluation.statistics._CHUNK", 500)
        assert stratified_bootstrap(iqm, [values]) == pytest.approx(whole, abs=0.05)

    def test_single_values_say_nothing_of_spread(self):
        assert all(map(math.isnan, stratified_bootstrap(iqm, [np.ones(1), np.ones(1)])))

    @pytest.mark.parametrize("strata", [[], [np.ones(3), np.ones(0)]])
    def test_no_values(self, strata):
        with pytest.raises(ValueError, match="at least one value in each stratum"):
            stratified_bootstrap(iqm, strata)
        with pytest.raises(ValueError, match="at least one value in each stratum"):
            probability_of_improvement(strata, [np.ones(2)])


def mean(values: np.ndarray) -> np.ndarray:
    return np.mean(values, axis=-1)


class TestProbabilityOfImprovement:
    def test_it_is_the_mann_whitney_statistic(self):
        generator = np.random.default_rng(0)
        x, y = generator.integers(0, 6, size=(2, 30)).astype(float)  # with ties
        known = mannwhitneyu(x, y).statistic / (len(x) * len(y))
        assert probability_of_improvement([x], [y])[0] == pytest.approx(known)

    def test_ends(self):
        low, high = np.arange(3.0), np.arange(3.0) + 10
        assert probability_of_improvement([high], [low]) == (1.0, 1.0, 1.0)
        assert probability_of_improvement([low], [high]) == (0.0, 0.0, 0.0)
        assert probability_of_improvement([low], [low])[0] == 0.5

    def test_single_values(self):
        estimate, *interval = probability_of_improvement([np.ones(1)], [np.zeros(1)])
        assert estimate == 1.0
        assert all(map(math.isnan, interval))


class TestDescriptions:
    def test_mean_and_interval_of_three_runs(self):
        row = mean_and_iqm([1.0, 2.0, 3.0])
        assert row["stderr"] == pytest.approx(1 / math.sqrt(3))
        assert row["high"] - row["mean"] == pytest.approx(4.302653 / math.sqrt(3))
        assert row["iqm"] == 2.0
        assert 1.0 <= row["iqm_low"] < 2.0 < row["iqm_high"] <= 3.0

    def test_no_runs(self):
        with pytest.raises(ValueError, match="at least one run"):
            over_seeds([])
        with pytest.raises(ValueError, match="at least one run"):
            summarize([])

    def test_one_run_is_described_by_its_episodes(self):
        summary = played([0.0, 2.0], [1.0, 3.0], [5.0, 7.0]).summary()
        means = {tag: row["mean"] for tag, row in summary["returns"].items()}
        assert means == {
            "fox_0": 1.0,
            "hen_0": 2.0,
            "hen_1": 6.0,
            "mean": 3.0,
            "team": 9.0,
            "group/fox": 1.0,
            "group/hen": 4.0,
        }
        assert (summary["unit"], summary["runs"], summary["episodes"]) == ("episodes", 1, 2)
        assert summary["returns"]["fox_0"]["stderr"] == pytest.approx(1.0)
        assert "outcomes" not in summary

    def test_several_runs_are_described_by_their_means(self):
        runs = [played([x - 9, x + 9], [x, x], [x, x]) for x in (1.0, 2.0, 3.0)]
        summary = summarize(runs)
        assert (summary["unit"], summary["runs"], summary["episodes"]) == ("runs", 3, 6)
        assert summary["returns"]["fox_0"] == mean_and_iqm([1.0, 2.0, 3.0])
        assert "runs" in summary["spread"]

    def test_outcomes_of_zero_sum_games(self):
        assert played([1.0], [-1.0], [0.0]).outcomes() is None
        counts = played([1.0, 0, -2], [-1.0, 0, 2], [0.0, 0, 0], zero_sum=True).outcomes()
        assert counts == {
            "fox_0": {"win": 1, "draw": 1, "loss": 1},
            "hen_0": {"win": 1, "draw": 1, "loss": 1},
            "hen_1": {"win": 0, "draw": 3, "loss": 0},
        }

    def test_sides_keep_the_returns_of_their_own_episodes(self):
        whole = joined(
            {("fox_0",): played([1.0], [2.0], [3.0]), GROUPS["hen"]: played([4.0], [5.0], [6.0])}
        )
        assert {agent: values.tolist() for agent, values in whole.returns.items()} == {
            "fox_0": [1.0],
            "hen_0": [5.0],
            "hen_1": [6.0],
        }
        assert "team" not in whole.values()
        assert "one side" in whole.definition
        assert (whole.n_episodes, len(whole.lengths)) == (1, 2)

    def test_scores(self):
        row = normalized_score(mean_and_iqm([-26.0, -8.0, 1.0, -17.0]), random=-26.0, oracle=-8.0)
        assert row["mean"] == pytest.approx((-12.5 + 26) / 18)
        assert row["low"] < row["mean"] < row["high"]
        with pytest.raises(ValueError, match="worse than the oracle"):
            normalized_score({"mean": 1.0}, random=2.0, oracle=2.0)

    def test_scores_over_games(self):
        score = over_games([[0.0, 0.2, 0.4], [0.8]])
        assert score["mean"] == pytest.approx(0.35)
        assert score["iqm"] == pytest.approx(0.3)
        assert score["low"] >= 0.2  # the second game's one run is in every resample
        assert score["high"] <= 0.5


class TestComparing:
    def test_runs_against_runs(self):
        a = [played([x, x], [x, x], [0.0, 0.0]) for x in (1.0, 2.0, 3.0, 4.0)]
        b = [played([x, x], [-x, -x], [0.0, 0.0]) for x in (0.0, 1.5)]
        result = compare(a, b)
        assert result["unit"] == "runs"
        fox = result["returns"]["fox_0"]
        assert fox["probability_of_improvement"]["estimate"] == 7 / 8
        assert fox["iqm_a"]["estimate"] == 2.5
        assert fox["iqm_b"]["estimate"] == 0.75
        assert fox["iqm_difference"]["estimate"] == pytest.approx(2.5 - 0.75)
        assert fox["iqm_difference"]["low"] < 1.75 < fox["iqm_difference"]["high"]
        assert result["returns"]["hen_1"]["probability_of_improvement"]["estimate"] == 0.5

    @pytest.mark.parametrize(("n_a", "n_b", "warns"), [(2, 9, True), (5, 4, True), (5, 5, False)])
    def test_few_runs_are_warned_of(self, n_a, n_b, warns):
        runs = [played([x], [x], [x]) for x in range(9)]
        assert bool(compare(runs[:n_a], runs[:n_b])["warning"]) is warns
        assert compare(runs[:1], runs[:n_b])["warning"] is None  # of episodes, as it says

    def test_a_single_run_is_compared_by_episodes(self):
        a = [played([1.0, 2.0, 3.0], [0.0] * 3, [0.0] * 3)]
        b = [played([0.0, 2.0], [0.0] * 2, [0.0] * 2) for _ in range(2)]
        result = compare(a, b)
        assert result["unit"] == "episodes"
        fox = result["returns"]["fox_0"]["probability_of_improvement"]
        assert fox["estimate"] == (2 + 3 + 4) / 12  # of the pairs with 0, 2, 0 and 2

    def test_other_agents(self):
        other = Evaluation({"cow_0": np.ones(1)}, np.ones(1), {"cow": ("cow_0",)})
        with pytest.raises(ValueError, match="the same agents"):
            compare([played([1.0], [1.0], [1.0])], [other])
        with pytest.raises(ValueError, match="at least one run on each side"):
            compare([], [other])


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(5, 0.86), (10, 0.9), (40, 0.92), (200, 0.92)])
def test_intervals_cover_what_they_claim(n, least):
    """2 standard errors of 800 trials are 1.5 %; five runs fall short, as the docstring says."""
    generator = np.random.default_rng(n)
    trials = [generator.normal(size=n) for _ in range(800)]
    intervals = [stratified_bootstrap(iqm, [x], n_resamples=1000) for x in trials]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert least <= covered <= 0.98


@pytest.mark.slow
def test_intervals_of_the_probability_of_improvement_cover():
    generator = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(0.5 / 2))  # P(X > Y) of two normals half a deviation apart
    hits = 0
    for _ in range(400):
        x, y = generator.normal(0.5, size=20), generator.normal(size=20)
        _, low, high = probability_of_improvement([x], [y], n_resamples=500)
        hits += low <= truth <= high
    assert 0.9 <= hits / 400 <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("n", "known"), [(2, 0.6), (3, 0.8)])
def test_intervals_of_few_runs_cover_what_the_warning_says(n, known):
    """2 standard errors of 400 trials are 5 %, twice that for what ``about`` leaves open."""
    generator = np.random.default_rng(n)
    sides = generator.normal(size=(400, 2, n))

    def difference(values: np.ndarray) -> np.ndarray:
        return iqm(values[..., :n]) - iqm(values[..., n:])

    intervals = [stratified_bootstrap(difference, list(pair), n_resamples=500) for pair in sides]
    assert np.mean([low <= 0 <= high for low, high in intervals]) == pytest.approx(known, abs=0.1)


class TestBadInput:
    @pytest.mark.parametrize("values", [None, [None], ["a"], [1.0, "x"], np.zeros((2, 2))])
    def test_no_numbers(self, values):
        with pytest.raises(TypeError, match="expected a list of numbers"):
            over_seeds(values)

    @pytest.mark.parametrize("confidence", [0.0, 1.0, 2.0, -1.0, math.nan])
    def test_confidence(self, confidence):
        for statistic in (
            lambda: over_seeds([1.0, 2.0], confidence),
            lambda: stratified_bootstrap(iqm, [[1.0, 2.0]], confidence=confidence),
            lambda: probability_of_improvement([[1.0]], [[1.0]], confidence=confidence),
        ):
            with pytest.raises(ValueError, match="expected a confidence between 0 and 1"):
                statistic()

    def test_what_is_no_evaluation(self):
        with pytest.raises(TypeError, match=r"expected evaluations, .* got int"):
            summarize([1])  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match=r"expected evaluations, .* got str"):
            compare("x", [played([1.0], [1.0], [1.0])])  # pyright: ignore[reportArgumentType]

    def test_other_agents(self):
        other = Evaluation({"cat": np.array([1.0])}, np.array([3]), {"cat": ("cat",)})
        with pytest.raises(ValueError, match="expected evaluations of the same agents"):
            summarize([played([1.0], [1.0], [1.0]), other])
