"""All attacks one after the other on one gateway, and the table of them."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.greedy.attacks import Attack
from tests.chaos.greedy.stage import Bounds, Measured, stage

#: Files for the most connections of an attack, on both legs, and what else there is.
FILES = 25_000


@dataclass
class Result:
    measured: list[Measured] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        return [f"{found.attack}: {text}" for found in self.measured for text in found.wrong]

    @property
    def ok(self) -> bool:
        return bool(self.measured) and not self.wrong

    def summary(self) -> str:
        rise = max((found.peak_mb - found.before_mb for found in self.measured), default=0.0)
        calm = max((found.calm_p99_ms for found in self.measured), default=0.0)
        p99 = max((found.p99_ms for found in self.measured), default=0.0)
        lag = max((found.loop_lag_max_ms for found in self.measured), default=0.0)
        others = sum(found.asked for found in self.measured)
        failed = sum(found.failed for found in self.measured)
        return (
            f"attacks={len(self.measured)} wrong={len(self.wrong)} others={others} failed={failed}"
            f" p99_ms={p99:.1f} calm_p99_ms={calm:.1f} rise_mb={rise:.1f} loop_lag_ms={lag:.1f}"
        )


def run(
    attacks: Sequence[Attack],
    share: float,
    directory: Path,
    result: Result,
    say: Callable[[str], None],
    bounds: Bounds | None = None,
    calm_seconds: float = 3.0,
) -> None:
    """Fills `result`; `share` of the connections of each attack."""
    raise_limit()
    with stage(directory, any(attack.entrypoint == "secure" for attack in attacks)) as made:
        for number, attack in enumerate(attacks, 1):
            connections = max(min(8, attack.connections), round(attack.connections * share))
            say(f"{number} of {len(attacks)}: {attack.name}, {connections} connections")
            result.measured.append(made.measure(attack, connections, bounds or Bounds(), calm_seconds))


def raise_limit() -> None:
    """Open files for all connections, here and in what is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def show(result: Result, console: Console) -> None:
    """A line per attack, and what does not hold."""
    columns = [
        "attack",
        "connections",
        "MB before",
        "wave 1",
        "wave 2",
        "after",
        "p50 calm",
        "p99 calm",
        "p50",
        "p99 ms",
    ]
    table = Table(*columns, "failed", "lag ms", "CPU s", "how the attackers ended", box=None, pad_edge=False)
    for column in table.columns[1:13]:
        column.justify = "right"
    for found in result.measured:
        last: dict[str, float] = {}
        for wave in found.waves:
            for end, took in wave.last.items():
                last[end] = max(last.get(end, 0.0), took)
        table.add_row(
            found.attack,
            f"{found.connections:,}",
            f"{found.before_mb:.1f}",
            *(f"{wave.peak_mb:.1f}" for wave in found.waves),
            f"{found.after_mb:.1f}",
            *(f"{ms:.1f}" for ms in (found.calm_p50_ms, found.calm_p99_ms, found.p50_ms, found.p99_ms)),
            str(found.failed),
            f"{found.loop_lag_max_ms:.1f}",
            f"{sum(wave.cpu_seconds for wave in found.waves):.2f}",
            ", ".join(f"{count} {end} ≤ {last[end]:.1f} s" for end, count in sorted(found.ends.items())),
        )
    console.print(table, highlight=False)
    for text in result.wrong:
        console.print(f"[red]does not hold[/red] {text}", highlight=False)
