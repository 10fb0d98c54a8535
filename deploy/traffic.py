"""What the ports of the Lava processes sent: written as a table of messages, printed as a line for each port."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from spikegate.command import cli
from spikegate.deploy.network.message_log import Messages


def save(folder: Path, messages: Messages, halt: str = "on") -> str:
    """Write messages.csv (messages_off.csv of a run without halting) and return its name."""
    name = f"messages{'' if halt == 'on' else '_off'}.csv"
    messages.save(folder / name)
    return name


def facts(messages: Messages) -> list[dict[str, Any]]:
    """Totals of each port, JSON ready."""
    return [asdict(total) for total in messages.ports()]


def show(messages: Messages) -> None:
    """Print the totals."""
    table = Table(title="messages between Lava processes", title_justify="left", box=None, pad_edge=False)
    for column in ("from", "port", "to"):
        table.add_column(column, overflow="fold")
    for column in ("messages", "timesteps", "silent", "events", "bytes"):
        table.add_column(column, justify="right", no_wrap=True)
    for total in messages.ports():
        figures = (total.messages, total.rows, total.silent, total.events, total.bytes)
        table.add_row(total.sender, total.port, ", ".join(total.receivers), *(f"{n:,}" for n in figures))
    cli.console.print(table)
    note = "silent: timesteps of a sample without any event, so that the message held nothing for it; of a gate: it was closed"
    cli.console.print(note, soft_wrap=True)
