"""Hypothesis strategies for the core's values."""

from __future__ import annotations

from hypothesis import strategies as st

from ambcore.model import MAX_WEIGHT, Address, Instance, Protocol, Readiness
from ambcore.table import Table

# What `str.isprintable` accepts, less the blank and the slash that names may not have.
GRAPHIC = st.characters(exclude_categories=("C", "Z"), exclude_characters="/")
names = st.text(GRAPHIC, min_size=1, max_size=24)
texts = st.text(st.one_of(GRAPHIC, st.sampled_from(" /")), max_size=24)
ports = st.integers(1, 65535)
addresses = st.builds(Address, st.ip_addresses().map(str), ports)


def instances(
    service: st.SearchStrategy[str] = names, name: st.SearchStrategy[str] = names
) -> st.SearchStrategy[Instance]:
    """Any instance, every field varied."""
    # Registrator marks UDP by the id's end, which is a rule of its own in the schema.
    ids = st.one_of(name, name.map(lambda text: f"{text}:udp"))
    return st.builds(
        Instance,
        service=service,
        id=ids,
        address=addresses,
        protocol=st.sampled_from(Protocol),
        weight=st.integers(1, MAX_WEIGHT),
        readiness=st.sampled_from(Readiness),
        owner=st.none() | texts,
        epoch=st.none() | texts,
        container=st.none() | texts,
        tags=st.lists(texts, max_size=4).map(tuple),
        attributes=st.dictionaries(texts, texts, max_size=4).map(lambda pairs: tuple(pairs.items())),
    )


# Few names, so that two tables drawn from here have instances in common.
few = st.sampled_from(("a", "b", "c"))
tables = st.lists(instances(few, few), max_size=8).map(Table.of)
