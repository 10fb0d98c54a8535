"""spikegate zoo: the trained nets that come with the package and run by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from spikegate.command import cli
from spikegate.command.runs import ZOO, find_export, zoo_names
from spikegate.errors import DeployError


@dataclass
class Args:
    """List them; any command takes one as zoo:<name>."""

    net: Annotated[str | None, tyro.conf.Positional] = None
    """Show this net's card: data, training, figures, limits."""
    json: bool = False
    """Print the list as JSON only."""


def listed() -> list[dict[str, Any]]:
    """One row for each net: name, system, data set, accuracy over its test images, their number, timesteps, size in bytes."""
    rows = []
    for name in zoo_names():
        folder = ZOO / name
        manifest = json.loads((folder / "manifest.json").read_text())
        test = json.loads((folder / "metrics.json").read_text())["test"]
        rows.append({
            "name": f"zoo:{name}", "system": manifest["model"], "data": manifest["dataset"], "accuracy": test["accuracy"],
            "test_images": test["images"], "timesteps": manifest["timesteps"], "parameters": manifest.get("parameters"),
            "halting": manifest["halting"], "bytes": sum(p.stat().st_size for p in folder.iterdir()),
        })  # fmt: skip
    return rows


def card(name: str) -> str:
    """The card of a net, ``zoo:`` before its name or not, as Markdown; a DeployError names the nets that there are."""
    return (find_export(Path(f"zoo:{name.removeprefix('zoo:')}")) / "README.md").read_text()


def main() -> None:
    """Print the table, or one card."""
    args = cli.parse(Args, "The trained nets that come with the package.")
    if args.net is not None:
        from rich.markdown import Markdown

        text = card(args.net)
        if args.json:
            cli.print_json({"net": args.net, "card": text})
        else:
            cli.console.print(Markdown(text))
        return
    rows = listed()
    if not rows:
        raise DeployError(str(ZOO), "no net lies here", "install the package again: its wheel holds them")
    if args.json:
        cli.print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None)
    for column in ("name", "system", "data", "accuracy", "test images", "timesteps", "halts", "size"):
        table.add_column(column, justify="left" if column in ("name", "system", "data", "halts") else "right")
    for r in rows:
        table.add_row(r["name"], r["system"], r["data"], f"{100 * r['accuracy']:.2f} %", f"{r['test_images']:,}", str(r["timesteps"]),
                      "yes" if r["halting"] else "no", f"{r['bytes'] / 1e6:.2f} MB")
    cli.console.print(table)
    cli.console.print("\nrun one: spikegate run zoo:stas-digits --data test:16 --target int", markup=False)


if __name__ == "__main__":
    cli.run(main)
