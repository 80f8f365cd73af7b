"""What services and instances gain a second, over all programs that tell of them. Pure.

Counters are compared by program and added up then: one that is not heard for a moment, and tells of its whole life when
it is heard again, is no burst. A program that begins anew has another name.
"""

from __future__ import annotations

from ambnet.page.history import Rate, Rates
from ambnet.page.model import Fleet, Service, Work


def flows(rates: Rates, now: float, found: Fleet) -> Rate:
    """Take this look at the fleet, and answer what is begun, sent and failed a second of a service, by its name, or of
    an instance, by its service's and its own; empty while not known.
    """
    gained = rates.look(now, _counters(found))
    stands = {service.name: [(service.name, stand.program) for stand in service.stands] for service in found.services}
    heard = {service.name: _heard(service) for service in found.services}

    def rate(key: object) -> tuple[float, ...]:
        match key:
            case (str(service), str(instance)):
                return gained((service, instance, heard.get(service)))
            case _:
                known = [got for stand in stands.get(str(key), ()) if (got := gained(stand))]
                return tuple(map(sum, zip(*known, strict=True)))

    return rate


def _counters(found: Fleet) -> dict[object, tuple[float, ...]]:
    """By service and program, and by service, instance and who is heard of it: what they tell is one sum."""
    counters: dict[object, tuple[float, ...]] = {}
    for service in found.services:
        for stand in service.stands:
            counters[service.name, stand.program] = _of(stand.work)
        heard = _heard(service)
        for seat in service.seats:
            if seat.work is not None:
                counters[seat.service, seat.id, heard] = _of(seat.work)
    return counters


def _heard(service: Service) -> frozenset[str]:
    return frozenset(stand.program for stand in service.stands)


def _of(work: Work) -> tuple[float, ...]:
    return work.begun, work.bytes, work.failed
