"""LangChain: a callback handler that is always there, so that no program has to name it.

A run's span is current where LangChain runs the step's own code (in the context that LangChain itself makes for it),
never in the consumer of a stream. A model's run is current until its first chunk, with the mark that keeps the
provider's client below it from making a second span.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from tracekeeper.integrations.langchain_handler import Handler
from tracekeeper.integrations.langchain_runs import RUNS, elsewhere
from tracekeeper.integrations.langchain_streams import watched, watched_async
from tracekeeper.integrations.patching import Patches
from tracekeeper.integrations.runs import Entered, enter_for_good
from tracekeeper.tracing import trouble


def install() -> Callable[[], None]:
    """Trace every run; returns what puts everything back."""
    from langchain_core.callbacks.base import BaseCallbackHandler
    from langchain_core.tracers import context as hooks

    handler: Any = type("TracekeeperHandler", (Handler, BaseCallbackHandler), {})()
    always: ContextVar[Any] = ContextVar("tracekeeper_langchain", default=handler)
    patches = Patches()
    try:
        managers = "langchain_core.callbacks.manager"
        patches.wrap(managers, "BaseRunManager.__init__", partial(_made, handler))
        patches.wrap_if_there(managers, "AsyncCallbackManager.on_llm_start", partial(_begun, handler))
        patches.wrap("langchain_core.runnables.config", "_set_config_context", enters)
        for prefix, wrapper in (("", watched), ("a", watched_async)):
            name = f"Runnable._{prefix}transform_stream_with_config"
            patches.wrap_if_there("langchain_core.runnables.base", name, wrapper)
        patches.wrap_if_there(
            "langchain_core.language_models.chat_models", "BaseChatModel._agenerate_with_cache", _cancelled
        )
        hooks.register_configure_hook(always, inheritable=True)
    except BaseException:
        patches.undo()
        raise

    def undo() -> None:
        handler.off = True  # managers that are under way hold it
        patches.undo()
        held = hooks._configure_hooks
        held[:] = [hook for hook in held if hook[0] is not always]

    return undo


def enters(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """The wrapper of what fills the context that is made for the code of a run."""
    result = original(*args, **kwargs)
    try:
        config = args[0] if args else kwargs.get("config")
        run = RUNS.get(getattr((config or {}).get("callbacks"), "parent_run_id", None))
        if run is not None and run.above is not None:
            enter_for_good(run.above)
    except Exception as error:  # noqa: BLE001
        trouble.note("entering a run of LangChain", error)
    return result


async def _cancelled(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """LangChain says of a model's failed call how it ended, but not of a cancelled one."""
    try:
        return await original(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        run = RUNS.get(getattr(kwargs.get("run_manager"), "run_id", None))
        if run is not None and run.span is not None:
            run.span.fail(error)
        raise


def _made(handler: Handler, original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """A run manager is made."""
    original(*args, **kwargs)
    try:
        if any(one is handler for one in instance.handlers):
            RUNS.own(instance, instance.run_id)
    except Exception as error:  # noqa: BLE001
        trouble.note("following a run of LangChain", error)


async def _begun(handler: Handler, original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """LangChain leaves out every other handler here when one runs in place; so ours does not."""
    if any(one is not handler and one.run_inline for one in instance.handlers):
        return await original(*args, **kwargs)
    token = elsewhere.set(True)
    try:
        managers = await original(*args, **kwargs)
    finally:
        elsewhere.reset(token)
    for manager in managers:
        run = RUNS.get(manager.run_id)
        if run is not None and run.span is not None:
            run.entered = Entered(run.span, calls_a_model=True)
    return managers
