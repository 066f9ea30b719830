from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from microbench.runs import signals


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_held_signal_waits_and_is_told() -> None:
    with signals.held() as held:
        assert not held.arrived
        signal.raise_signal(signal.SIGINT)
        assert held.arrived


def test_a_second_signal_does_not_wait() -> None:
    with signals.held():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_where_signals_are_heard_the_first_one_counts() -> None:
    with signals.held() as held:
        with pytest.raises(KeyboardInterrupt), held.let_through():
            signal.raise_signal(signal.SIGINT)
        assert held.arrived


def test_a_signal_that_waited_is_heard_where_signals_are() -> None:
    with signals.held() as held:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), held.let_through():
            pytest.fail("went on")


def test_afterwards_signals_do_what_they_did() -> None:
    with signals.held():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_manager_and_a_closing_terminal_end_a_run_like_ctrl_c(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    signals.listen()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_what_the_parent_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signals.listen()
    signal.raise_signal(signal.SIGHUP)
    with signals.held() as held:
        signal.raise_signal(signal.SIGHUP)
        assert not held.arrived


def test_other_handlers_are_left_alone() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    with signals.held() as held:
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    assert not held.arrived


def test_in_another_thread_nothing_is_held_and_nothing_fails() -> None:
    ended = []

    def work() -> None:
        with signals.held() as held:
            ended.append(held.arrived)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [False]
