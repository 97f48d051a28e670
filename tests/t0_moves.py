"""What decides a move (`home.process.move.STEPS`), without a program, a host or a kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mosfs.home.process.move import BACK, ONWARD, OUT, STEPS, Event, Move, Phase, Step, Way

#: Steps behind which the move is over: the program is whole at one place and nowhere else.
COMMITTED = {Step.LEAVE, Step.SWITCH, Step.ARRIVE}
UNDONE = {Step.STAY, Step.RESUME, Step.ABANDON}


def moved(target: str, *events: Event, away: bool) -> list[Step]:
    """The steps of a move that meets these events."""
    move = Move(target, target)
    return [move.after(event, away=away) for event in events]


def reached(way: Way) -> set[Phase]:
    """The phases that a move comes to, whatever happens to it."""
    found = {Phase.CHANNEL}
    while more := {after for (of, phase, _), (after, _) in STEPS.items() if of is way and phase in found} - found:
        found |= more
    return found


def rows(way: Way, *steps: Step) -> Iterator[tuple[Phase, Event]]:
    return ((phase, event) for (of, phase, event), (_, step) in STEPS.items() if of is way and step in steps)


def test_out_with_memory_ahead_of_it() -> None:
    assert moved(
        "10.0.0.2", Event.CHANNEL_READY, Event.PREPARED, Event.AHEAD, Event.STOPPED, Event.FOLLOWED, Event.ENOUGH, Event.STOPPED,
        Event.IMAGE_SENT, Event.READY, Event.RUNNING, away=False,
    ) == [
        Step.NOTHING, Step.SEND_FILES, Step.STOP, Step.FOLLOW, Step.NOTHING, Step.STOP, Step.CAPTURE,
        Step.GO, Step.NOTHING, Step.LEAVE,
    ]  # fmt: skip


@pytest.mark.parametrize(("events", "steps"), [
    ((Event.NOT_AHEAD, Event.STANDS), [Step.STOP, Step.CAPTURE]),
    ((Event.AHEAD, Event.STANDS), [Step.STOP, Step.CAPTURE]),
    ((Event.AHEAD, Event.AGAIN, Event.STOPPED, Event.NOT_AHEAD), [Step.STOP, Step.STOP, Step.FOLLOW, Step.CAPTURE]),
])
def test_out_at_once(events: tuple[Event, ...], steps: list[Step]) -> None:
    """Where nothing can go ahead, or the program stands still, it is captured when it stands."""
    begin = (Event.CHANNEL_READY, Event.PREPARED)
    assert moved("10.0.0.2", *begin, *events, away=False)[2:] == steps


def test_onward_and_back() -> None:
    assert moved(
        "10.0.0.3", Event.CHANNEL_READY, Event.PREPARED, Event.COPIED, Event.AGAIN, Event.READY, Event.RUNNING, away=True
    ) == [Step.NOTHING, Step.COPY, Step.ORDER, Step.ORDER, Step.GO, Step.SWITCH]
    assert moved("", Event.AHEAD, Event.COPIED, Event.AGAIN, Event.IMAGE, away=True) == [
        Step.COPY, Step.RECALL, Step.RECALL, Step.ARRIVE,
    ]  # fmt: skip
    assert moved("", Event.NOT_AHEAD, Event.IMAGE, away=True) == [Step.RECALL, Step.ARRIVE]


@pytest.mark.parametrize("before", [0, 1], ids=["copying", "sent"])
def test_an_exec_on_the_way_leaves_from_home(before: int) -> None:
    move = Move("10.0.0.3", "3")
    for event in (Event.CHANNEL_READY, Event.PREPARED, *[Event.COPIED] * before):
        move.after(event, away=True)
    assert move.after(Event.EXECUTED, away=True) is Step.CAPTURE
    assert [move.after(event, away=False) for event in (Event.IMAGE_SENT, Event.RUNNING)] == [Step.GO, Step.LEAVE]


@pytest.mark.parametrize("way", Way, ids=lambda way: way.name)
def test_a_failure_leaves_the_program_where_it_was(way: Way) -> None:
    """In every phase to which such a move comes: on the way home there is a channel, and who executes leaves from home."""
    without = {OUT: set(), ONWARD: {Phase.STOPPING}, BACK: {Phase.CHANNEL}}[way]
    failures = {phase: STEPS[way, phase, Event.FAILED][1] for phase in reached(way) - without}
    assert set(failures.values()) <= UNDONE
    if way is OUT:
        assert {phase for phase, step in failures.items() if step is Step.STAY} == {Phase.SENT, Phase.GO}
    if way is ONWARD:
        assert {phase for phase, step in failures.items() if step is Step.RESUME} == {Phase.COPYING, Phase.SENT, Phase.GO}


@pytest.mark.parametrize(("way", "phase", "event"), [
    (OUT, Phase.GO, Event.RUNNING), (ONWARD, Phase.GO, Event.RUNNING), (BACK, Phase.RECALL, Event.IMAGE),
])
def test_there_is_one_commit_point(way: Way, phase: Phase, event: Event) -> None:
    assert list(rows(way, *COMMITTED)) == [(phase, event)]
    alone_or_all = [(Phase.STOPPING, Event.IMAGE_SENT), (Phase.SENT, Event.ALL_READY)]
    before = {OUT: alone_or_all, ONWARD: [(Phase.SENT, Event.READY)], BACK: []}[way]
    assert list(rows(way, Step.GO)) == before


def test_what_comes_too_late_is_nothing() -> None:
    """A frame of a move that has gone on, or never was so far: no phase changes, nothing is done."""
    for way, away, target in ((OUT, False, "10.0.0.2"), (ONWARD, True, "10.0.0.3"), (BACK, True, "")):
        for phase in Phase:
            for event in Event:
                move = Move(target, target, phase=phase)
                assert move.way(away=away) is way
                step = move.after(event, away=away)
                if (way, phase, event) not in STEPS:
                    assert (move.phase, step) == (phase, Step.NOTHING)


def test_every_word_is_used() -> None:
    assert {event for _, _, event in STEPS} == set(Event)
    assert {step for _, step in STEPS.values()} == set(Step)
    assert reached(OUT) | reached(ONWARD) | reached(BACK) == set(Phase)
    assert all(phase in reached(way) for way, phase, _ in STEPS)
