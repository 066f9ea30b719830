"""What hangs or dies ends one item and no more, whatever the items are."""

from __future__ import annotations

import os
import sys

import pytest
from places import FAKES

from microbench.runs.isolation import Group, Limits, Outcome, Stand, watch

# Long enough that no machine is so busy that a fake's next word is later.
LIMITS = Limits(item_s=6.0, end_s=6.0)


def group(name: str, *items: str) -> Group:
    return Group(name=name, command=(sys.executable, str(FAKES / "fake_worker.py"), *items))


def ends(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.item: outcome.status for outcome in outcomes}


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_each_item_ends_its_own_way_and_the_next_goes_on_behind_it() -> None:
    items = ("a=right", "b=die", "c=wrong", "d=lost", "e=right", "f=quit", "g=right")
    found = watch([group("g", *items)], 1, LIMITS)
    assert [outcome.item for outcome in found] == list("abcdefg")
    assert ends(found) == {
        "a": "right",
        "b": "died",
        "c": "wrong",
        "d": "lost",
        "e": "right",
        "f": "died",
        "g": "right",
    }
    says = {outcome.item: outcome.says for outcome in found}
    assert (says["b"], says["c"], says["f"]) == ("killed by SIGKILL", "c is wrong", "exit code 7")
    assert "ran out of luck" in next(outcome.tail for outcome in found if outcome.item == "f")
    pids = {outcome.item: outcome.facts["pid"] for outcome in found if outcome.status != "died"}
    assert len(set(pids.values())) == 4  # a | c d | e | g
    assert all(map(gone, pids.values()))


@pytest.mark.parametrize("how", ["hang", "stuck"])
def test_an_item_that_never_answers_is_ended_alone(how: str) -> None:
    found = watch([group("g", "a=right", f"b={how}", "c=right")], 1, Limits(item_s=3.0, end_s=3.0))
    assert ends(found) == {"a": "right", "b": "hang", "c": "right"}
    assert found[1].seconds >= 3.0
    assert str(found[1].says).startswith("no answer within")


def test_a_group_that_hangs_holds_no_other_up() -> None:
    stands: list[Stand] = []
    limits = Limits(item_s=120.0, whole_s=8.0)
    found = watch([group("g", "a=hang", "b=right"), group("h", "x=right", "y=right")], 2, limits, stands.append)
    assert ends(found) == {"x": "right", "y": "right", "a": "not reached", "b": "not reached"}
    assert {outcome.says for outcome in found if outcome.group == "g"} == {
        "the time was up while it ran",
        "the time was up",
    }
    assert [stand.last.item for stand in stands if stand.last] == [outcome.item for outcome in found]
    assert max(stand.known for stand in stands) == 4
    assert any("a" in stand.doing for stand in stands)


def test_a_process_that_cannot_start_is_told_once_with_its_reason() -> None:
    found = watch([group("g", "--refuse"), group("h", "x=right")], 2, LIMITS)
    assert ends(found) == {"": "no start", "x": "right"}
    assert found[[outcome.item for outcome in found].index("")].says == "exit code 3: no such device"


def test_a_process_that_dies_at_its_end_is_told_and_keeps_its_outcomes() -> None:
    found = watch([group("g", "a=late")], 1, LIMITS)
    assert [(outcome.item, outcome.status) for outcome in found] == [("a", "right"), ("", "died")]
    assert found[1].says == "after its last item: killed by SIGSEGV"


def test_what_an_item_prints_is_no_outcome() -> None:
    found = watch([group("g", "a=chatty", "b=right")], 1, LIMITS)
    assert ends(found) == {"a": "right", "b": "right"}


def test_an_interrupt_leaves_no_process_behind_and_loses_no_outcome() -> None:
    heard: list[Outcome] = []

    def hear(stand: Stand) -> None:
        if stand.last:
            heard.append(stand.last)
            if stand.last.item == "a":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch([group("g", "a=right", "b=hang"), group("h", "x=right")], 1, LIMITS, hear)
    assert ends(heard) == {"a": "right", "b": "not reached", "": "not reached"}
    assert gone(heard[0].facts["pid"])
