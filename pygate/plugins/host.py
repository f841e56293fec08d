"""Loads plugins and calls their hooks, so that one that fails costs its own exchange at most.

Rules:

1. A `PluginHost` belongs to one revision and never changes; a reload makes another. State that must outlive a
   reload belongs into the plugin's module.
2. Hooks run in the order the route lists them for requests, and in reverse for responses. The first that answers
   ends the chain.
3. Whatever a hook raises, and running out of budget, is a failure: logged (once a second per plugin at most),
   counted, and decided by the plugin's `fail`: `closed` fails the exchange, `open` goes on as if the plugin were
   not there.
4. Sync hooks run at once and hold the worker's loop for at most their budget. Async hooks run as tasks; their
   budget is wall time, and none of their steps may hold the loop longer than that either.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any, Literal

from pygate.config.units import seconds
from pygate.plugins.budget import Alarm, BudgetExceeded
from pygate.plugins.context import Change, Lines, Request, Response

log = logging.getLogger("pygate.plugins")

Hook = Literal["on_request", "on_response"]
HOOKS: tuple[Hook, ...] = ("on_request", "on_response")

DEFAULT_BUDGET = "50ms"
LOG_EVERY = 1.0

_ALARM = Alarm()


class PluginError(Exception):
    """A plugin cannot be loaded; the message says which, why and what to do."""


@dataclass(frozen=True)
class Continue:
    """Go on, with these changes to the head."""

    changes: list[Change] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Answer:
    """Answer with this instead."""

    status: int
    headers: Lines
    body: bytes


@dataclass(frozen=True)
class Fail:
    """Fail the exchange (`plugin-failed`). The reason is for the log, not for the client."""

    plugin: str
    reason: str


Decision = Continue | Answer | Fail


@dataclass
class Counts:
    """What became of a plugin's calls."""

    calls: int = 0
    failures: int = 0
    #: Of the failures: out of budget.
    over_budget: int = 0
    seconds: float = 0.0
    longest: float = 0.0


@dataclass
class Plugin:
    """A loaded plugin."""

    name: str
    hooks: dict[Hook, Callable[[Any], Any]]
    budget: float
    fail_open: bool
    close: Callable[[], Any] | None
    counts: Counts = field(default_factory=Counts)
    _log_next: float = 0.0
    _unlogged: int = 0

    def is_async(self, hook: Hook) -> bool:
        return hook in self.hooks and inspect.iscoroutinefunction(self.hooks[hook])

    def ended(self, begun: float) -> None:
        took = monotonic() - begun
        self.counts.calls += 1
        self.counts.seconds += took
        self.counts.longest = max(self.counts.longest, took)

    def failed(self, hook: Hook, error: BaseException) -> str:
        """Counts and logs a failure; returns the reason."""
        self.counts.failures += 1
        if isinstance(error, BudgetExceeded | TimeoutError):
            self.counts.over_budget += 1
            reason = f"{hook} exceeded its budget of {self.budget * 1e3:g} ms"
        else:
            reason = f"{hook} raised {type(error).__name__}: {error}"
        if monotonic() >= self._log_next:
            more = f" ({self._unlogged} more since the last report)" if self._unlogged else ""
            log.error("plugin %s: %s%s", self.name, reason, more, exc_info=error)
            self._log_next, self._unlogged = monotonic() + LOG_EVERY, 0
        else:
            self._unlogged += 1
        return reason


class PluginHost:
    """The plugins of one revision."""

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self._plugins = plugins
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def load(cls, config: Mapping[str, Any], base: Path | None = None) -> PluginHost:
        """Loads `[plugins]` of a whole configuration; files are relative to `base`.

        Call it in the main thread. Raises `PluginError` for the first plugin that cannot be loaded.
        """
        given: Mapping[str, Mapping[str, Any]] = config.get("plugins", {})
        plugins = {name: _load(name, settings, base or Path()) for name, settings in given.items()}
        if plugins:
            _ALARM.install()
        return cls(plugins)

    @property
    def counts(self) -> dict[str, Counts]:
        """By plugin."""
        return {name: plugin.counts for name, plugin in self._plugins.items()}

    def wants(self, names: Sequence[str], hook: Hook) -> bool:
        """Whether any of these plugins has this hook: if not, there is nothing to call."""
        return any(hook in self._plugins[name].hooks for name in names)

    def call(self, name: str, hook: Hook, ctx: Request | Response) -> Decision:
        """One sync hook of one plugin. A plugin without the hook lets everything pass."""
        plugin = self._plugins[name]
        function = plugin.hooks.get(hook)
        if function is None:
            return _passed(ctx)
        before, begun = ctx.snapshot(), monotonic()
        try:
            _ALARM.call(plugin.budget, lambda: function(ctx))
        except BaseException as e:  # SystemExit too: a plugin ends its own exchange, never the worker
            return _failed(plugin, hook, e, ctx, before)
        finally:
            plugin.ended(begun)
        return _passed(ctx)

    async def call_async(self, name: str, hook: Hook, ctx: Request | Response) -> Decision:
        """As `call`, for a hook that is a coroutine function."""
        plugin = self._plugins[name]
        before, begun = ctx.snapshot(), monotonic()
        try:
            async with asyncio.timeout(plugin.budget):
                await _ALARM.steps(plugin.budget, plugin.hooks[hook](ctx))
        except asyncio.CancelledError:
            raise
        except BaseException as e:
            return _failed(plugin, hook, e, ctx, before)
        finally:
            plugin.ended(begun)
        return _passed(ctx)

    def run(self, names: Sequence[str], hook: Hook, ctx: Request | Response, done: Callable[[Decision], None]) -> None:
        """Calls the hook of all these plugins and tells `done` what came of it: at once when all are sync."""
        order = list(names if hook == "on_request" else reversed(names))
        for index, name in enumerate(order):
            if self._plugins[name].is_async(hook):
                task = asyncio.get_running_loop().create_task(self._run_async(order[index:], hook, ctx, done))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            decision = self.call(name, hook, ctx)
            if not isinstance(decision, Continue):
                return done(decision)
        done(_passed(ctx))

    async def _run_async(
        self, names: Sequence[str], hook: Hook, ctx: Request | Response, done: Callable[[Decision], None]
    ) -> None:
        for name in names:
            is_async = self._plugins[name].is_async(hook)
            decision = await self.call_async(name, hook, ctx) if is_async else self.call(name, hook, ctx)
            if not isinstance(decision, Continue):
                return done(decision)
        done(_passed(ctx))

    def close(self) -> None:
        """Tells every plugin that has a `close` that it is over. Nothing it raises gets out."""
        for plugin in self._plugins.values():
            if plugin.close is not None:
                try:
                    plugin.close()
                except Exception:
                    log.exception("plugin %s: close failed", plugin.name)


def _passed(ctx: Request | Response) -> Decision:
    if ctx.reply is not None:
        return Answer(ctx.reply.status, ctx.reply.headers, ctx.reply.body)
    return Continue(list(ctx.headers.changes), dict(ctx.notes), frozenset(ctx.tags))


def _failed(plugin: Plugin, hook: Hook, error: BaseException, ctx: Request | Response, before: Any) -> Decision:
    ctx.restore(before)
    reason = plugin.failed(hook, error)
    return _passed(ctx) if plugin.fail_open else Fail(plugin.name, reason)


def _load(name: str, given: Mapping[str, Any], base: Path) -> Plugin:
    target = str(given["load"])
    where, colon, attribute = target.rpartition(":")
    if not colon or not where or not attribute:
        raise PluginError(
            f"plugin {name}: load = {target!r}; expected `package.module:attribute` or `./file.py:attribute`"
        )
    try:
        module = _import_file(base / where) if where.endswith(".py") else importlib.import_module(where)
    except Exception as e:
        raise PluginError(f"plugin {name}: {where} cannot be loaded: {type(e).__name__}: {e}") from e
    found = getattr(module, attribute, None)
    if found is None:
        near = difflib.get_close_matches(attribute, dir(module), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PluginError(f"plugin {name}: {where} has no {attribute!r}{hint}")
    try:
        # A class or function is called with the settings and gives the plugin; anything else is the plugin.
        instance = found(dict(given.get("settings", {}))) if callable(found) else found
    except Exception as e:
        raise PluginError(f"plugin {name}: {target} refused its settings: {type(e).__name__}: {e}") from e
    hooks: dict[Hook, Callable[[Any], Any]] = {
        hook: function for hook in HOOKS if callable(function := getattr(instance, hook, None))
    }
    if not hooks:
        raise PluginError(f"plugin {name}: {target} has neither `on_request` nor `on_response`")
    return Plugin(
        name=name,
        hooks=hooks,
        budget=seconds(str(given.get("budget", DEFAULT_BUDGET))),
        fail_open=given.get("fail", "closed") == "open",
        close=close if callable(close := getattr(instance, "close", None)) else None,
    )


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    name = f"pygate_plugin_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Known by name while it runs: dataclasses and pickles look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
