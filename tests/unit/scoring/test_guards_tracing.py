"""Guards and tracing: the decision as a span, apps, and documents."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import tracekeeper as tk
from tracekeeper.tracing.keeper import Keeper

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


@pytest.mark.parametrize("above", [True, False])
def test_a_guard_stands_above_or_below_an_app(above: bool, keeper: Keeper) -> None:
    def ask(question: str) -> str:
        return "mild"

    app = tk.app(name="rag", metrics=[tk.metric(lambda output: len(output), name="length")])
    ask = input_guard(app(ask)) if above else app(input_guard(ask))
    with tk.recording() as recording:
        assert ask("please") == "mild"
    record = recording.get()
    assert record.wait_for_scores(timeout=20)["length"].value == 4
    with tk.recording() as recording, pytest.raises(tk.Blocked):
        ask("now")
    record = recording.get()
    assert (record.app, record.status, record.input) == ("rag", "error", {"question": "now"})
    assert record.error is not None
    assert "Blocked: the input guard 'polite' blocked the call: 'polite' is False" in record.error
    assert ask.app.name == "rag"
    with pytest.raises(tk.Blocked):
        ask.app("now")
    spans = spans_of(keeper, record)
    assert [span["name"] for span in spans] == ["rag", "input guard polite"]
    assert spans[1]["parent_id"] == spans[0]["span_id"]


def test_an_app_object_is_guarded_itself() -> None:
    app: Any = tk.App(lambda question: "mild", name="rag")
    assert output_guard(input_guard(app)) is app
    assert asyncio.run(app.acall("please")) == "mild"
    with pytest.raises(tk.Blocked):
        app("now")


def test_guards_stand_above_traced_callables_of_every_nature(keeper: Keeper) -> None:
    class Bot:
        @input_guard
        @tk.trace
        def ask(self, question: str) -> str:
            return "mild"

    @input_guard
    @tk.trace
    async def aask(question: str) -> str:
        return "mild"

    @input_guard
    @tk.trace
    def stream(question: str) -> Iterator[str]:
        yield "mi"
        yield "ld"

    with tk.recording() as recording:
        assert Bot().ask("please") == asyncio.run(aask("please")) == "".join(stream("please"))
    assert inspect.iscoroutinefunction(aask)
    assert inspect.isgeneratorfunction(stream)
    assert [record.output for record in recording.outermost] == ["mild", "mild", "mild"]
    assert all(len(spans_of(keeper, record)) == 2 for record in recording.outermost)


def spans_of(keeper: Keeper, record: Any) -> list[dict[str, Any]]:
    tk.flush(timeout=10)
    rows = keeper.store().spans_of(record.trace_id, record.span_id)
    payloads = keeper.store().payloads([row.id for row in rows])
    return [
        {
            "name": row.name,
            "kind": row.kind,
            "status": row.status,
            "span_id": row.span_id,
            "parent_id": row.parent_id,
            **{name: getattr(payloads.get(row.id), name, None) for name in ("input", "output", "attributes")},
        }
        for row in sorted(rows, key=lambda row: row.started_at)
    ]


def test_the_decision_is_a_span_below_the_current_one(keeper: Keeper) -> None:
    import orjson

    @tk.app(name="rag")
    @tk.guard.output(at_most_10, polite, threshold=10, on_failure="allow", timeout=5)
    def ask(question: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("please")
        with pytest.raises(tk.Blocked):
            ask("now")
    allowed, blocked = (spans_of(keeper, record)[1] for record in recording.records)
    assert (allowed["kind"], allowed["status"], orjson.loads(allowed["input"])) == ("guardrail", "ok", "mild")
    said = orjson.loads(allowed["output"])
    assert said["decision"] == "allowed"
    by_name = {one["name"]: one for one in said["metrics"]}
    assert by_name["short"] | {"seconds": 0} == {
        "name": "short",
        "value": 4.0,
        "status": "scored",
        "verdict": "passed",
        "reason": "in characters",
        "seconds": 0,
    }
    assert orjson.loads(allowed["attributes"])["guard.metrics"] == ["short", "polite"]
    assert orjson.loads(blocked["output"])["decision"] == "blocked"
    assert orjson.loads(blocked["attributes"])["guard.decision"] == "blocked"


def test_a_call_that_is_cancelled_meanwhile_leaves_a_cancelled_span(keeper: Keeper) -> None:
    async def waits(output: str) -> bool:
        await asyncio.Event().wait()
        return True

    @tk.app(name="rag")
    @tk.guard.output(waits, on_failure="allow")
    async def ask(question: str) -> str:
        return "mild"

    async def main() -> None:
        async with asyncio.timeout(0.1):
            await ask("?")

    with tk.recording() as recording, pytest.raises(TimeoutError):
        asyncio.run(main())
    assert [span["status"] for span in spans_of(keeper, recording.get())] == ["cancelled", "cancelled"]


def test_outside_any_span_the_decision_is_a_record_of_its_own(keeper: Keeper) -> None:
    with tk.recording() as recording:
        assert input_guard(lambda question: tk.current_span().kind)("please") == ""
    assert [(record.name, record.output["decision"]) for record in recording.records] == [
        ("input guard polite", "allowed")
    ]


def test_what_a_metric_retrieves_is_no_context_of_the_call(keeper: Keeper) -> None:
    @tk.trace(kind="retriever")
    def search(text: str) -> list[str]:
        return ["of the judge"]

    seen = []

    def checks(input: str) -> bool:
        return bool(search(input))

    def grounded(context: list[str]) -> bool:
        seen.append(context)
        return True

    @tk.guard.output(grounded, on_failure="allow")
    def ask(question: str) -> str:
        tk.guard.input(checks, on_failure="block")(lambda question: "")("?")
        tk.guard.context(lambda document: True, on_failure="block")(lambda question: ["of the call"])("?")
        return "mild"

    assert ask("?") == "mild"
    assert seen == [["of the call"]]


def test_what_a_metric_traces_lies_below_the_guards_span(keeper: Keeper) -> None:
    @tk.trace(kind="llm")
    async def judge_model(text: str) -> str:
        return "fine"

    async def judged(output: str) -> bool:
        return await judge_model(output) == "fine"

    @tk.app(name="rag")
    @tk.guard.output(judged, on_failure="block")
    def ask(question: str) -> str:
        return "mild"

    with tk.recording() as recording:
        ask("?")
    app, guard, judge = spans_of(keeper, recording.get())
    assert (judge["kind"], judge["parent_id"], guard["parent_id"]) == ("llm", guard["span_id"], app["span_id"])


def test_a_guard_writes_nothing_that_the_call_around_it_hides(keeper: Keeper) -> None:
    def mask(value: Any) -> Any:
        return {**value, "card": "hidden"} if isinstance(value, dict) else value

    fine = tk.metric(lambda card: True, name="fine")

    @tk.app(name="masked", mask=mask)
    @tk.guard.input(fine, on_failure="block")
    def masked(card: str) -> str:
        return "mild"

    @tk.guard.input(fine, on_failure="block")
    @tk.guard.output(fine, on_failure="block")
    @tk.app(name="unseen", capture_input=False, capture_output=False)
    def unseen(card: str) -> str:
        return f"mild {card}"

    with tk.recording() as recording:
        masked("4111")
        unseen("4111")
    spans = [span for record in recording.records for span in spans_of(keeper, record)]
    assert len(spans) == 5
    assert "4111" not in repr(spans)
    assert '"card":"hidden"' in spans[1]["input"]


def test_the_callers_context_variables_reach_the_metrics() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    async def ours(input: str) -> bool:
        return tenant.get() == "acme"

    def also_ours(input: str) -> bool:
        return tenant.get() == "acme"

    @tk.guard.input(ours, also_ours, on_failure="block")
    def ask(question: str) -> str:
        return tenant.get()

    tenant.set("acme")
    assert ask("?") == "acme"


# Documents.


def test_a_context_guard_keeps_the_documents_that_pass_in_their_order() -> None:
    async def relevant(question: str, document: str) -> float:
        await asyncio.sleep(0.01 if document == "rain" else 0)
        return float(question in document)

    guard = tk.guard.context(relevant, threshold=0.5, on_failure="block")
    found = ["rain", "sun", "rain again"]
    assert guard(lambda question: found)("rain") == ["rain", "rain again"]
    assert guard(lambda question: tuple(found))("rain") == ("rain", "rain again")
    assert guard(lambda question: [])("rain") == []
    assert guard(lambda question: None)("rain") is None
    assert guard(lambda question: found)("u") == ["sun"]

    async def retrieve(question: str) -> list[str]:
        return found

    assert asyncio.run(guard(retrieve)("sun")) == ["sun"]


def test_a_document_is_seen_as_object_as_text_and_as_context() -> None:
    class Document:
        def __init__(self, text: str) -> None:
            self.page_content = text

    documents = [Document("rain"), Document("sun")]
    seen = []

    def look(question: str, document: Document, output: str, context: list[Any], input: str) -> bool:
        seen.append((question, document, output, context, input))
        return True

    assert tk.guard.context(look, on_failure="block")(lambda question: documents)("?") == documents
    assert sorted(seen, key=lambda one: one[2]) == [
        ("?", documents[0], "rain", [{"content": "rain"}], "?"),
        ("?", documents[1], "sun", [{"content": "sun"}], "?"),
    ]


def test_a_document_that_cannot_be_judged_is_left_out_or_kept() -> None:
    def fails(document: str) -> bool:
        return document != "bad" or bool(1 / 0)

    def retrieve(question: str) -> list[str]:
        return ["good", "bad"]

    assert tk.guard.context(fails, on_failure="block")(retrieve)("?") == ["good"]
    assert tk.guard.context(fails, on_failure="allow")(retrieve)("?") == ["good", "bad"]


def test_what_is_no_list_of_documents_is_decided_by_on_failure() -> None:
    guard = functools.partial(tk.guard.context, lambda document: True)
    assert guard(on_failure="allow")(lambda question: {"a": 1})("?") == {"a": 1}
    with pytest.raises(tk.Blocked, match="it returned dict, which is no list or tuple of documents"):
        guard(on_failure="block")(lambda question: {"a": 1})("?")


def test_a_stream_that_a_plain_function_returns_is_decided_by_on_failure() -> None:
    def ask(question: str) -> Any:
        return map(str, ("mi", "ld"))

    assert "".join(tk.guard.output(at_most_10, threshold=10, on_failure="allow")(ask)("?")) == "mild"
    with pytest.raises(tk.Blocked, match="it returned a stream, whose text leaves before it can be judged"):
        output_guard(ask)("?")


@pytest.mark.parametrize("settings", [{}, {"sample": 0.0}, {"sample": 0.0, "keep_errors": False}])
@pytest.mark.parametrize("traced", [True, False])
def test_an_output_is_judged_by_what_was_retrieved(settings: dict[str, Any], traced: bool) -> None:
    tk.configure(**settings)
    seen = []

    def grounded(output: str, context: list[Any]) -> bool:
        seen.append(context)
        return any(document in output for document in context)

    def retrieve(question: str) -> list[str]:
        return ["rain"]

    keep = tk.guard.context(lambda document: True, on_failure="block")
    look_up = tk.trace(kind="retriever", capture_output=False)(retrieve) if traced else keep(retrieve)

    @tk.app(name="rag")
    @tk.guard.output(grounded, on_failure="allow")
    def ask(question: str) -> str:
        return f"{look_up(question)[0]} or {question}"

    assert ask("?") == "rain or ?"
    assert seen == [["rain"]]


def test_a_built_in_metric_guards_by_what_a_traced_retriever_returned() -> None:
    @tk.trace(kind="retriever")
    def retrieve(question: str) -> list[str]:
        return ["Ireland has a mild climate with rain all year."]

    @tk.app(name="rag")
    @tk.guard.output(tk.metrics.OverlapGroundedness(), threshold=0.5, on_failure="block")
    def ask(question: str) -> str:
        retrieve(question)
        return "Ireland has a mild climate." if question == "ireland" else "Bananas are purple spaceships."

    assert ask("ireland") == "Ireland has a mild climate."
    with pytest.raises(tk.Blocked, match=r"wanted is at least 0\.5"):
        ask("fruit")
