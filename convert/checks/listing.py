"""Tables of a graph for people and programs: every op with its size, and the accumulate-only audit."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from spikegate.convert.checks.audit import OpAudit
from spikegate.graph.ir import Graph


def op_rows(graph: Graph) -> list[dict[str, Any]]:
    """One dict per op: name, kind, shape, sources, neurons, synapses (unrolled), payload, weight_bits, dense_ops per timestep."""
    rows = []
    for name, op in graph.ops.items():
        sources = [("~" if e.delay else "") + e.source for edges in graph.sources(name).values() for e in edges]
        size = op.size
        rows.append(
            {
                "name": name,
                "kind": op.kind,
                "shape": list(op.out_shape),
                "sources": sources,
                "neurons": size.neurons,
                "synapses": size.synapses,
                "payload": str(op.payload),
                "payload_bits": op.payload.bits,
                "weight_bits": size.weight_bits,
                "dense_ops": op.dense_ops,
            }
        )
    return rows


def op_table(graph: Graph) -> Table:
    """The same as a rich table; a ``~`` before a source marks an edge that acts one timestep later."""
    table = Table(title=f"{len(graph.ops)} ops, {graph.timesteps} timesteps", title_justify="left")
    for column in ("op", "type", "shape"):
        table.add_column(column, no_wrap=True)
    table.add_column("from", overflow="fold")
    for column in ("neurons", "synapses", "weight kbit"):
        table.add_column(column, justify="right")
    table.add_column("payload")
    rows = op_rows(graph)
    for r in rows:
        shape = "x".join(map(str, r["shape"]))
        table.add_row(
            r["name"],
            r["kind"],
            shape,
            ", ".join(r["sources"]),
            f"{r['neurons']:,}",
            f"{r['synapses']:,}",
            f"{r['weight_bits'] / 1e3:,.1f}",
            r["payload"],
        )
    totals = [sum(r[k] for r in rows) for k in ("neurons", "synapses")]
    table.add_section()
    table.add_row("total", "", "", "", *(f"{v:,}" for v in totals), f"{sum(r['weight_bits'] for r in rows) / 1e3:,.1f}", "")
    return table


def audit_table(rows: list[OpAudit]) -> Table:
    """What each op's synaptic path did for one sample, on a unit that cannot multiply."""
    table = Table(title="accumulate-only audit, one sample, all timesteps", title_justify="left")
    table.add_column("op", no_wrap=True)
    table.add_column("operations", no_wrap=True)
    for column in ("adds", "ANDs", "shifts", "compares", "MACs"):
        table.add_column(column, justify="right")
    table.add_column("= events")
    for r in rows:
        used = [r.used[k] for k in ("add", "and", "shift", "compare")]
        table.add_row(r.name, " ".join(r.declared), *(f"{v:,}" for v in used), str(r.macs), "yes" if r.exact else "no")
    return table
