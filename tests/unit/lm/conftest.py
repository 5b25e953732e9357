"""A server that speaks the providers' formats, and models on it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.wire import WireServer, serving

import tracekeeper as tk

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network for prices otherwise

LITELLM = pytest.param(
    "litellm/openai",
    marks=[
        pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="a lean environment has none"),
        pytest.mark.slow,  # its import takes seconds
        pytest.mark.filterwarnings("ignore::ResourceWarning"),
        pytest.mark.filterwarnings("ignore::DeprecationWarning"),
        pytest.mark.filterwarnings("ignore:.*Pydantic.*:UserWarning"),
        pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # cancelled early, it never awaits what it prepared
        pytest.mark.filterwarnings(
            "ignore::pytest.PytestUnraisableExceptionWarning"
        ),  # its own, of what it leaves open
    ],
)
Making = Callable[..., tk.LM]


@pytest.fixture
def server() -> Iterator[WireServer]:
    with serving() as made:
        yield made


@pytest.fixture
def lm(server: WireServer) -> Making:
    """``lm("openai/full", …)``: a model on the server."""

    def made(model: str, **options: Any) -> tk.LM:
        base = server.url if model.startswith("anthropic/") else f"{server.url}/v1"
        return tk.LM(model, api_base=base, api_key="k", **options)

    return made
