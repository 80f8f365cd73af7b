"""From facts to findings: in their order, so that the first red one is the cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ambcore.errors import RecordError
from ambcore.findings import Finding, Level
from ambcore.fleet import Drain
from ambcore.health import Result, Verdict
from ambcore.model import Address, Instance, Readiness
from ambcore.unreachable import Unreachable
from ambctl.explain.facts import Facts, Local
from ambctl.explain.judge import Explanation, judge
from ambctl.explain.subject import Subject
from ambctl.explain.text import document, ending, steps
from ambctl.explain.verb import exit_code
from tests.ambctl.explain.scenes import facts, item, proxy, record, registrar, service

GREEN = Finding(Level.GREEN, "record", "it stands")
RED = Finding(Level.RED, "ports", "nothing is published", "publish it")
STANDS = "web/one is at 10.1.2.3:80, kept by host-a, under lease 5f"
SEES = Finding(Level.GREEN, "instance", "one answers")
REFUSED, SILENT = Result(Verdict.REFUSED), Result(Verdict.SILENT, error="No route to host")


def told(*given: Any, **more: Any) -> list[str]:
    """`level topic: what is said`, of each step, with who says so where that changes."""
    return [f"{step.level.value} {step.topic}: {step.says}" for _, step in judge(facts(*given, **more)).steps]


def red(seen: Facts) -> str:
    """The first red step."""
    explanation = judge(seen)
    assert explanation.cause is not None
    by, step = explanation.steps[explanation.cause - 1]
    return f"{by}: {step.topic}: {step.says}"


def test_what_is_well_goes_from_the_registrar_to_the_proxy() -> None:
    well = facts(record(), answers=(registrar(GREEN), proxy(service(item()), findings=(SEES,))))
    explanation = judge(well)
    assert [by for by, _ in explanation.steps] == [
        *("registrar on host-a", "etcd at http://etcd:2379", "a dial from here", "dynproxy on host-b")
    ]
    assert explanation.steps[1][1].says == (
        "web/one is at 10.1.2.3:80, kept by host-a, under lease 5f with 8 s left; revision 12"
    )
    assert explanation.steps[2][1].says == "web/one at 10.1.2.3:80 answers in 1.0 ms"
    assert (explanation.cause, explanation.level, exit_code(explanation)) == (None, Level.GREEN, 0)


def test_the_first_red_step_is_the_cause_whatever_follows() -> None:
    seen = facts(record(dial=REFUSED), answers=(registrar(GREEN, RED), proxy(service(), findings=(RED,))))
    assert red(seen) == "registrar on host-a: ports: nothing is published"
    assert exit_code(judge(seen)) == 1


@pytest.mark.parametrize(
    ("one", "level", "says"),
    [
        (record(left=None), Level.AMBER, "web/one is at 10.1.2.3:80, kept by host-a; its lease 5f has just ended"),
        (
            record(left=-1),
            Level.GREEN,
            f"{STANDS}; revision 12",
        ),
        (
            record(lease=0, left=None),
            Level.AMBER,
            "web/one at 10.1.2.3:80 has no lease: nobody takes it away when the instance goes",
        ),
        (
            record(lease=0, left=None, dial=REFUSED),
            Level.RED,
            "web/one has no lease, so nobody took it away when 10.1.2.3:80 went (refused)",
        ),
        (
            record(readiness=Readiness.DRAINING),
            Level.AMBER,
            f"{STANDS} with 8 s left; it drains: its record says that it takes nobody new",
        ),
        (
            record(marker=Drain(host="host-a", why="disk", by="eve", since="2026-01-02T03:04:05Z")),
            Level.AMBER,
            f"{STANDS} with 8 s left; all of host host-a is drained by eve since 2026-01-02T03:04:05Z: disk",
        ),
        (
            record(refused=RecordError("malformed", "no JSON"), dial=None),
            Level.RED,
            "web/one is refused by whoever reads it: malformed: no JSON",
        ),
    ],
)
def test_a_record_says_how_it_stands(one: Any, level: Level, says: str) -> None:
    step = next(step for by, step in judge(facts(one)).steps if by.startswith("etcd"))
    assert (step.level, step.says) == (level, says)


def test_an_address_that_only_default_options_refuse_is_amber_where_a_proxy_has_it() -> None:
    denied = record(refused=RecordError("address_denied", "127.0.0.1:1 …"), dial=None)
    assert "red record" in told(denied)[0]
    assert "amber record" in told(denied, answers=(proxy(service(item())),))[0]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (REFUSED, "refuses connections: the machine answers, and nobody listens on that port"),
        (SILENT, "does not answer at all: no refusal, no connection (No route to host)"),
        (
            Result(Verdict.CLOSED),
            "takes a connection and ends it at once: Docker listens there, and nobody does in the container",
        ),
    ],
)
def test_a_dial_in_vain_is_red_unless_a_proxy_gets_through(result: Result, says: str) -> None:
    assert red(facts(record(dial=result))) == f"a dial from here: dial: web/one at 10.1.2.3:80 {says}"
    seen = facts(record(dial=result), answers=(proxy(service(item()), findings=(SEES,)),))
    assert judge(seen).level is Level.AMBER
    assert exit_code(judge(seen)) == 0


def test_trouble_of_this_machine_says_nothing_of_the_instance() -> None:
    local = Result(Verdict.LOCAL, error="Too many open files")
    lines = told(record(dial=local), answers=(proxy(service(item()), findings=(SEES,)),))
    assert "unknown dial: web/one at 10.1.2.3:80 could not be dialled: Too many open files" in lines


def test_a_record_without_lease_that_a_proxy_reaches_is_no_ghost() -> None:
    ghost = record(lease=0, left=None, dial=REFUSED)
    assert judge(facts(ghost, answers=(proxy(service(item()), findings=(SEES,)),))).cause is None


def test_a_stale_view_comes_before_what_the_proxy_says_itself() -> None:
    seen = facts(record(), answers=(proxy(service(), findings=(RED,)),))
    assert red(seen).startswith("dynproxy on host-b: view: its view is stale: it does not have one")


def test_who_could_not_be_asked_is_said_once_for_each_reason_and_is_no_fault() -> None:
    seen = facts(record(), answers=(registrar(why_not="no answer"), registrar(why_not="no answer"), proxy(why_not="x")))
    lines = [f"{step.level.value}: {step.says}" for _, step in judge(seen).steps if step.level is Level.UNKNOWN]
    assert lines == [
        "unknown: registrar on host-a, host-a could not be asked: no answer",
        "unknown: dynproxy on host-b could not be asked: x",
    ]
    assert exit_code(judge(seen)) == 0


def test_a_fleet_that_cannot_be_asked_is_a_few_lines() -> None:
    apart = [step for _, step in judge(facts(answers=tuple(registrar(why_not=f"{n}") for n in range(50)))).steps]
    assert apart[6].says == "44 others could not be asked either, each for a reason of its own"
    alike = judge(facts(answers=(registrar(why_not="away"),) * 50)).steps[0][1]
    assert alike.says == f"registrar on {', '.join(['host-a'] * 6)} and 44 more could not be asked: away"


def test_no_record_is_red_and_no_proxy_amber() -> None:
    lines = told(answers=(registrar(GREEN),))
    assert "red record: there is no record of web under /services/web/" in lines
    assert "amber proxy: no proxy that is announced balances over web" in lines


def test_what_docker_here_has_and_nobody_registers_is_red() -> None:
    made = Instance("web", "here:shop:80", Address("10.1.2.3", 80), container="4f" * 32)
    local = Local("unix:///x", findings=(GREEN,), instances=(made,))
    says = "nobody registers web at 10.1.2.3:80: no registrar that could be asked knows this container"
    assert red(facts(local=local)) == f"docker here: registrar: {says}"
    assert "docker here" not in red(facts(local=Local("unix:///x", findings=(GREEN,))))


def test_without_etcd_what_can_be_told_is_and_the_exit_code_says_so() -> None:
    local = Local("unix:///x", findings=(GREEN,))
    away = judge(facts(local=local, etcd_error="refused"))
    assert [step.topic for _, step in away.steps] == ["record", "etcd"]
    assert exit_code(away) == 3
    assert exit_code(judge(facts(local=Local("unix:///x", findings=(RED,)), etcd_error="refused"))) == 1


def test_a_name_that_nobody_knows_is_told_so_without_a_cause() -> None:
    nobody = judge(facts(subject=Subject("wbe", near=("web",)), local=Local("unix:///x")))
    assert (nobody.steps, nobody.cause, exit_code(nobody)) == ((), None, 1)
    _, (last,) = ending(nobody)
    assert last.says.startswith("nobody knows wbe: looked at every record")
    assert last.do == "names that resemble it: web"
    assert exit_code(judge(facts(subject=Subject("wbe"), etcd_error="refused"))) == 3


def test_a_crowd_of_records_is_told_of_where_it_is_not_well() -> None:
    crowd = [record(f"web/i{number}", left=None if number == 7 else 8) for number in range(60)]
    lines = [step.says for by, step in judge(facts(*crowd)).steps if by.startswith("etcd")]
    assert lines[0] == "60 records; those that are not well follow"
    assert len(lines) == 2
    assert "web/i7 " in lines[1]


# As text and as JSON


def _explanation() -> Explanation:
    return judge(facts(record(), answers=(registrar(GREEN, RED), proxy(service(item()), findings=(SEES,)))))


def test_the_text_numbers_the_steps_below_who_says_them_and_ends_with_the_cause() -> None:
    blocks = list(steps(_explanation()))
    assert [title for title, _ in blocks] == [
        "web, taken for a service",
        *("registrar on host-a", "etcd at http://etcd:2379", "a dial from here", "dynproxy on host-b"),
    ]
    assert [step.topic for _, block in blocks for step in block] == [
        *("1 record", "2 ports", "3 record", "4 dial", "5 instance")
    ]
    assert ending(_explanation()) == (
        "",
        (Finding(Level.RED, "the cause", "2 ports: nothing is published", "publish it"),),
    )


def test_the_document_has_every_step_and_the_number_of_the_cause() -> None:
    made = document(_explanation())
    assert (made["name"], made["taken_for"], made["level"], made["cause"]) == ("web", ["service"], "red", 2)
    assert made["steps"][1] == {"number": 2, "by": "registrar on host-a", **RED.document()}
    assert [step["number"] for step in made["steps"]] == [1, 2, 3, 4, 5]


def test_a_hostile_name_reaches_no_terminal_as_it_is() -> None:
    hostile = judge(facts(subject=Subject("\x1b[31mweb", near=("\x1b]0;",))))
    titles = [title for title, _ in steps(hostile)]
    assert all(title.isprintable() for title in titles)
    assert ending(hostile)[1][0].do.isprintable()


def test_what_a_proxy_that_cannot_be_asked_announces_is_believed() -> None:
    down = Unreachable("2026-01-31T12:00:00Z", "web", "one", "refused")
    mute = proxy(why_not="no answer")
    told_by = replace(mute, program=replace(mute.program, unreachable=(down, replace(down, instance="other"))))
    assert red(facts(record(), answers=(told_by,))) == (
        "dynproxy on host-b: instance: web/one has not answered its checks since 2026-01-31T12:00:00Z: refused; "
        "it announces that"
    )
