"""What passes a guard, what does not, and what a blocked call gives."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

import tracekeeper as tk

pytestmark = pytest.mark.usefixtures("keeper")


def polite(input: str) -> bool:
    return "please" in input


async def short(output: str) -> tuple[int, str]:
    return len(output), "in characters"


def tone(output: str) -> str:
    return "rude" if "!" in output else "calm"


at_most_10 = tk.metric(short, direction="minimize")
input_guard = tk.guard.input(polite, on_failure="block")
output_guard = tk.guard.output(at_most_10, threshold=10, on_failure="block")


# What passes.


@pytest.mark.parametrize(
    ("value", "options", "guard_options", "passes"),
    [
        (0.5, {}, {"threshold": 0.5}, True),
        (0.49, {}, {"threshold": 0.5}, False),
        (0.5, {"direction": "minimize"}, {"threshold": 0.5}, True),
        (0.51, {"direction": "minimize"}, {"threshold": 0.5}, False),
        (0.5, {"direction": "maximize"}, {"threshold": {"judge": 0.5}}, True),
        (True, {}, {}, True),
        (False, {}, {}, False),
        (True, {"direction": "minimize"}, {}, False),
        (False, {"direction": "minimize"}, {"threshold": 1}, True),
        ("safe", {}, {"allow": {"safe", "fine"}}, True),
        ("unsafe", {}, {"allow": ["safe"]}, False),
    ],
)
def test_what_passes(value: Any, options: Any, guard_options: Any, passes: bool) -> None:
    judge = tk.metric(lambda output: value, name="judge", **options)

    @tk.guard.output(judge, on_failure="allow", **guard_options)
    def ask(question: str) -> str:
        return "mild"

    if passes:
        assert ask("?") == "mild"
    else:
        with pytest.raises(tk.Blocked, match="the output guard 'judge' blocked the call: 'judge' is"):
            ask("?")


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (lambda output: 1 / 0, "'judge' is failed: the metric raised ZeroDivisionError: division by zero"),
        (lambda output: None, "'judge' is skipped: the metric returned None"),
        (lambda output: float("nan"), "'judge' is failed: the metric returned nan"),
        (lambda output, sources: True, "'judge' is skipped: nothing is named 'sources'"),
        (lambda output: "calm", "'judge' is the label 'calm', and the guard has no allow="),
        (lambda output: 3, "'judge' is the number 3, and the guard has no threshold= for it"),
        (lambda output: [1, 2], "'judge' is failed: the metric returned a list"),
    ],
)
def test_no_judgement_is_decided_by_on_failure(judge: Any, said: str) -> None:
    def ask(question: str) -> Any:
        return {"text": "mild"}

    metric = tk.metric(judge, name="judge")
    with pytest.raises(tk.Blocked) as caught:
        tk.guard.output(metric, on_failure="block")(ask)("?")
    assert said in str(caught.value)
    assert str(caught.value).endswith("and on_failure is 'block'")
    assert tk.guard.output(metric, on_failure="allow")(ask)("?") == {"text": "mild"}


def test_a_blocked_call_says_who_why_and_how_much() -> None:
    @tk.guard.output(tk.metric(short, direction="minimize"), threshold=3, on_failure="allow", name="brevity")
    def ask(question: str) -> str:
        return "mild"

    with pytest.raises(tk.TracekeeperError) as caught:
        ask("?")
    blocked = caught.value
    assert isinstance(blocked, tk.Blocked)
    assert str(blocked) == (
        "the output guard 'brevity' blocked the call: 'short' is 4, allowed is at most 3 (in characters)"
    )
    assert (blocked.guard, blocked.kind, blocked.metric) == ("brevity", "output", "short")
    assert blocked.score is not None
    assert (blocked.score.value, blocked.score.status) == (4.0, "scored")
    again = pickle.loads(pickle.dumps(blocked))
    assert (str(again), again.metric, again.score) == (str(blocked), "short", blocked.score)


def test_on_block_gives_a_value_instead() -> None:
    def ask(question: str) -> str:
        return "mild"

    def guard(on_block: Any) -> Any:
        return tk.guard.input(polite, on_failure="block", on_block=on_block)(ask)

    assert guard("no")("now") == "no"
    assert guard(None)("now") is None
    assert guard(lambda blocked: [blocked.metric, blocked.score.value])("now") == ["polite", False]
    assert guard("no")("please") == "mild"


def test_an_async_on_block_serves_async_callables() -> None:
    async def instead(blocked: tk.Blocked) -> str:
        await asyncio.sleep(0)
        return f"no: {blocked.kind}"

    @tk.guard.input(polite, on_failure="block", on_block=instead)
    async def ask(question: str) -> str:
        return "mild"

    @tk.guard.output(at_most_10, threshold=1, on_failure="block", on_block=instead)
    async def answer(question: str) -> str:
        return "mild"

    async def main() -> list[str]:
        return [await ask("now"), await ask("please"), await answer("?")]

    assert asyncio.run(main()) == ["no: input", "mild", "no: output"]


def test_an_input_guard_runs_before_the_call_and_sees_the_arguments() -> None:
    called = []

    def known(user: str, question: str) -> bool:
        return user == "jane" and len(question) < 10

    @tk.guard.input(known, on_failure="block")
    def ask(question: str, *, user: str) -> None:
        called.append(question)

    ask("q", user="jane")
    with pytest.raises(tk.Blocked):
        ask("q", user="joe")
    assert called == ["q"]


def test_metrics_see_the_live_objects() -> None:
    class Answer:
        text = "mild"

    made = Answer()

    @tk.guard.output(lambda output: output is made, on_failure="block")
    def ask(question: str) -> Answer:
        return made

    assert ask("?") is made


def test_several_metrics_need_all_to_pass_and_the_first_refusal_decides() -> None:
    async def hangs(output: str) -> bool:
        await asyncio.Event().wait()
        return True

    @tk.guard.output(tk.metric(hangs, timeout=60), tone, allow={"calm"}, on_failure="allow")
    def ask(question: str) -> str:
        return "what!"

    with pytest.raises(tk.Blocked, match="'tone' is 'rude'; allowed: 'calm'"):
        ask("?")


def test_a_metric_with_several_names_needs_all_of_them() -> None:
    @tk.metric(names=["rude", "long"], direction="minimize")
    def several(output: str) -> dict[str, float]:
        return {"rude": 0.1, "long": 0.9}

    def ask(question: str) -> str:
        return "mild"

    def guard(threshold: Any) -> Any:
        return tk.guard.output(several, threshold=threshold, on_failure="block")(ask)

    assert guard(0.95)("?") == "mild"
    assert guard({"several.rude": 0.2, "several.long": 0.9})("?") == "mild"
    with pytest.raises(tk.Blocked, match=r"'several\.long' is 0\.9"):
        guard({"several": 0.5})("?")


# Nothing turns a guard off.


def test_disabled_tracing_and_sampling_leave_guards_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @tk.app(name="rag")
    @input_guard
    @output_guard
    def ask(question: str) -> str:
        return question

    def judged() -> None:
        assert ask("please") == "please"
        for question in ("now", "please, something long"):
            with pytest.raises(tk.Blocked):
                ask(question)

    tk.configure(sample=0.0)
    judged()
    tk.configure(enabled=False)
    judged()
    with tk.context(enabled=False):
        judged()
    monkeypatch.setenv("TRACEKEEPER_DISABLED", "1")
    tk.configure(enabled=True)
    judged()


def test_a_metrics_own_mode_and_sampling_have_no_meaning_in_a_guard() -> None:
    never = tk.metric(lambda output: False, name="never", sample=0.0, mode="off")

    @tk.guard.output(never, on_failure="allow")
    def ask(question: str) -> str:
        return "mild"

    with pytest.raises(tk.Blocked):
        ask("?")
