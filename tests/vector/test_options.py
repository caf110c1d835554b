"""The options of a vector: told by name, documented once, each arriving where it belongs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from vector_games import CountGame

from kitae_marl import SubProcVecParallelEnv
from kitae_marl.vector import options
from kitae_marl.vector.options import VectorOptions, n_cores

FIELDS = {field.name: field for field in dataclasses.fields(VectorOptions)}
OTHER: dict[str, Any] = {
    "n_workers": 0,
    "with_state": None,
    "keep_infos": True,
    "step_timeout": 61.0,
    "start_timeout": 121.0,
    "close_timeout": 6.0,
    "max_restarts": 4,
    "on_crash": "raise",
    "on_exception": "restart",
    "on_nonfinite": "truncate",
    "max_episode_steps": 7,
    "strict_bounds": True,
    "worker_env": {"A": "b"},
}
"""For each option another value than its default, and different from that of every other."""


def test_options_cannot_be_given_by_position() -> None:
    with pytest.raises(TypeError):
        VectorOptions(0)  # pyright: ignore[reportCallIssue]


def test_the_vector_has_every_option_with_its_default() -> None:
    parameters = dict(inspect.signature(SubProcVecParallelEnv).parameters)
    parameters.pop("env_fns")
    assert list(parameters) == list(FIELDS) == list(OTHER)
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters.pop("worker_env").default is None
    assert {name: p.default for name, p in parameters.items()} == {
        name: field.default for name, field in FIELDS.items() if name != "worker_env"
    }


@pytest.mark.parametrize("name", OTHER)
def test_an_option_arrives_where_it_belongs(name: str) -> None:
    given = {"n_workers": 0, name: OTHER[name]}
    with SubProcVecParallelEnv([CountGame], **given) as vec:
        assert vec._options == VectorOptions(**given)
        assert getattr(vec._options, name) == OTHER[name]


def test_a_sentence_stands_under_every_field() -> None:
    body = ast.parse(Path(options.__file__).read_text(encoding="utf-8")).body
    (record,) = (node for node in body if isinstance(node, ast.ClassDef))
    for field, text in zip(record.body, record.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr), ast.unparse(field)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells")
def test_cores_are_those_we_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6})
    assert n_cores() == VectorOptions().count_workers(100) == 3
