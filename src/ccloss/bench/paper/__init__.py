"""The paper as data: its tables, its published numbers, and its claims."""

from ccloss.bench.paper.claims import CLAIMS, Claim
from ccloss.bench.paper.tables import (
    BASELINES,
    FIGURE3,
    P_VALUES,
    ROUNDS,
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5,
    TABLES,
    Cell,
    Column,
    Deviations,
    Match,
    Published,
    Table,
    select,
)

__all__ = [
    "BASELINES",
    "CLAIMS",
    "FIGURE3",
    "P_VALUES",
    "ROUNDS",
    "TABLE1",
    "TABLE2",
    "TABLE3",
    "TABLE4",
    "TABLE5",
    "TABLES",
    "Cell",
    "Claim",
    "Column",
    "Deviations",
    "Match",
    "Published",
    "Table",
    "select",
]
