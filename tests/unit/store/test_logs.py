"""Logs of workflows: each piece once; whatever a worker sends, rows, characters and numbers are bounded."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from lando.states.job import Job
from lando.store.logs import MAX_LOG, MAX_RANGES, MAX_ROWS, ROW, Ranges, contains, with_added
from lando.store.store import Store
from lando.store.tables import LOG_TOTALS, LOGS
from lando.store.transaction import Transaction

A, B = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "ab")


@pytest.fixture(autouse=True)
def jobs(store: Store) -> None:
    with store.transaction() as transaction:
        for job_id in (A, B):
            transaction.insert_job(Job(job_id), {}, "me")


def append(transaction: Transaction, attempt: int, seq: int, text: str, job_id: str = A) -> None:
    """What the engine does with a report."""
    if transaction.unseen_log(job_id, attempt, [seq]):
        transaction.append_log(job_id, attempt, [seq], text)


def kept(store: Store) -> list[tuple[int, int, str]]:
    with store.reading() as queries:
        return queries.log(A)


def counted(store: Store, job_id: str = A) -> tuple[int, int, int, Ranges]:
    """What the totals say, which is what there is."""
    with store.transaction() as transaction:
        row = transaction._connection.execute(
            sa.select(LOG_TOTALS).where(LOG_TOTALS.c.job_id == job_id)
        ).one()
        stored = sa.select(sa.func.count(), sa.func.sum(sa.func.length(LOGS.c.text)))
        rows, characters = transaction._connection.execute(stored.where(LOGS.c.job_id == job_id)).one()
    assert (row.rows, row.characters) == (rows, characters or 0)
    return row.rows, row.characters, row.attempt, tuple((a, b) for a, b in json.loads(row.seqs))


# pieces


def test_a_piece_of_log_counts_once_and_order_is_by_number(store: Store) -> None:
    with store.transaction() as transaction:
        for attempt, seq, text in ((1, 2, "b"), (1, 1, "a"), (1, 2, "twice"), (2, 1, "c")):
            append(transaction, attempt, seq, text)
    assert kept(store) == [(1, 1, "a"), (1, 2, "b"), (2, 1, "c")]
    with store.reading() as queries:
        assert queries.log(A, after=(1, 1)) == [(1, 2, "b"), (2, 1, "c")]
    assert counted(store) == (3, 3, 2, ((1, 1),))


def test_what_was_stored_before_is_known_to_later_transactions(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.append_log(A, 3, [4, 5, 9], "text")
        transaction.append_log(B, 1, [1], "of another job")
    with store.transaction() as transaction:
        assert transaction.unseen_log(A, 3, [3, 4, 5, 6, 9, 10]) == [3, 6, 10]
        transaction.append_log(A, 3, [6], "more")
        assert transaction.unseen_log(A, 3, [3, 6]) == [3]
        assert transaction.unseen_log(A, 4, [4]) == [4]
        assert transaction.unseen_log(B, 1, [1, 2]) == [2]
    assert kept(store) == [(3, 4, "text"), (3, 6, "more")]
    assert counted(store) == (2, 8, 3, ((4, 6), (9, 9)))


def test_a_piece_of_which_nothing_is_kept_is_seen_all_the_same(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.append_log(A, 1, [1, 2], "")
    assert kept(store) == []
    assert counted(store) == (0, 0, 1, ((1, 2),))


def test_a_piece_that_is_rolled_back_is_not_seen(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        append(transaction, 1, 1, "lost")
        raise ZeroDivisionError
    with store.transaction() as transaction:
        with pytest.raises(ZeroDivisionError), transaction.part():
            append(transaction, 1, 2, "lost, too")
            raise ZeroDivisionError
        assert transaction.unseen_log(A, 1, [1, 2]) == [1, 2]
        append(transaction, 1, 2, "kept")
    assert kept(store) == [(1, 2, "kept")]


def test_the_pieces_of_a_batch_are_one_read_and_one_write_a_job(store: Store) -> None:
    texts: list[str] = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *about: texts.append(about[2]))
    for seq in (1, 10):
        texts.clear()
        with store.transaction() as transaction:
            for number in range(5):
                append(transaction, 1, seq + number, "text")
        statements = [text.split()[0] for text in texts if text.split()[0] != "BEGIN"]
        assert statements == ["SELECT", "INSERT", "INSERT" if seq == 1 else "UPDATE"]


# bounds


def test_of_a_long_log_the_newest_is_kept(store: Store) -> None:
    piece = MAX_LOG // 4
    with store.transaction() as transaction:
        for seq in range(1, 8):
            append(transaction, 1, seq, str(seq) * piece)
    dropped = f"{MAX_LOG:,}"
    assert kept(store)[0] == (1, 4, f"[lando: {dropped} characters of log left out here]\n")
    assert [seq for _, seq, _ in kept(store)] == [4, 5, 6, 7]
    assert sum(len(text) for _, _, text in kept(store)) <= MAX_LOG
    counted(store)


def test_what_comes_in_one_batch_is_not_dropped_in_one_piece(store: Store) -> None:
    lines = "".join(f"line {number:6}\n" for number in range(MAX_LOG // 12))
    with store.transaction() as transaction:
        transaction.append_log(A, 1, range(1, 100), lines)
    with store.transaction() as transaction:
        transaction.append_log(A, 2, [1], "x" * 100)
    log = "".join(text for _, _, text in kept(store))
    mark, _, rest = log.partition("\n")
    assert (lines + "x" * 100).endswith(rest)
    assert len(rest) > MAX_LOG - 2 * ROW
    assert mark == f"[lando: {len(lines) + 100 - len(rest):,} characters of log left out here]"
    counted(store)


def test_one_enormous_piece_of_log_is_cut_to_its_end(store: Store) -> None:
    with store.transaction() as transaction:
        append(transaction, 1, 1, "x" * MAX_LOG + "the end")
    ((_, _, text),) = kept(store)
    assert len(text) == MAX_LOG
    assert text.endswith("the end")
    assert text.startswith(f"[lando: {7 + len(text.splitlines()[0]) + 1} characters of log left out here]\nx")


def test_all_that_was_dropped_is_counted(store: Store) -> None:
    for seq in range(1, 300):
        with store.transaction() as transaction:
            append(transaction, 1 + seq // 100, seq, "x" * 10_000)
    log = "".join(text for _, _, text in kept(store))
    assert log.startswith(f"[lando: {299 * 10_000 - log.count('x'):,} characters of log left out here]\nx")
    assert log.count("lando") == 1
    counted(store)


def test_no_numbering_of_small_pieces_evades_the_bound(store: Store) -> None:
    for number in range(300):
        with store.transaction() as transaction:
            append(transaction, 1, 64 * number + 1, "x" * 16_383)
    assert sum(len(text) for _, _, text in kept(store)) <= MAX_LOG
    counted(store)


def test_a_slow_log_of_many_small_pieces_is_kept_whole_in_few_rows(store: Store) -> None:
    pieces = [f"line {number}\n" for number in range(2 * MAX_ROWS + 5)]
    for first in range(0, len(pieces), 50):
        with store.transaction() as transaction:
            for number, piece in enumerate(pieces[first : first + 50], first + 1):
                append(transaction, 1, number, piece)
        assert counted(store)[0] <= MAX_ROWS
    found = kept(store)
    assert "".join(text for _, _, text in found) == "".join(pieces)
    assert max(len(text) for _, _, text in found) <= ROW
    assert found[-1][1] == len(pieces)
    assert counted(store)[3] == ((1, len(pieces)),)


def test_whoever_follows_a_log_misses_nothing_when_rows_are_merged(store: Store) -> None:
    read, after = "", (0, 0)
    for first in range(1, MAX_ROWS + 500, 70):
        with store.transaction() as transaction:
            for seq in range(first, first + 70):
                append(transaction, 1, seq, f"{seq} ")
        with store.reading() as queries:
            for attempt, number, text in queries.log(A, after):
                read, after = read + text, (attempt, number)
    assert read == "".join(f"{seq} " for seq in range(1, first + 70))


def test_whoever_has_read_a_part_of_a_merged_row_sees_it_again_rather_than_no_more(store: Store) -> None:
    with store.transaction() as transaction:
        for seq in range(1, MAX_ROWS + 2):
            append(transaction, 1, seq, f"{seq}\n")
    assert len(kept(store)) < MAX_ROWS
    with store.reading() as queries:
        lines = "".join(text for _, _, text in queries.log(A, (1, 500))).split()
    assert lines[-1] == str(MAX_ROWS + 1)
    assert set(map(str, range(501, MAX_ROWS + 2))) <= set(lines)


def test_a_row_an_attempt_is_bounded_too(store: Store) -> None:
    with store.transaction() as transaction:
        for attempt in range(1, MAX_ROWS + 50):
            append(transaction, attempt, 1, "x")
    assert counted(store)[0] == MAX_ROWS
    assert kept(store)[-1] == (MAX_ROWS + 49, 1, "x")


# sequence numbers

numbers = st.lists(st.integers(1, 400), max_size=150)


@given(st.lists(numbers, max_size=4))
def test_ranges_have_what_was_added_and_are_bounded(batches: list[list[int]]) -> None:
    ranges: Ranges = ()
    added: set[int] = set()
    for batch in batches:
        ranges = with_added(ranges, batch)
        added.update(batch)
        assert all(contains(ranges, seq) for seq in added)
        assert all(first <= last for first, last in ranges)
        assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges))
        assert len(ranges) <= MAX_RANGES


def test_what_was_not_added_is_not_there_unless_an_old_gap_was_closed() -> None:
    odd = range(1, 2 * MAX_RANGES + 20, 2)
    assert_not_in(with_added((), list(odd)[:MAX_RANGES]), range(2, 2 * MAX_RANGES - 1, 2))
    ranges = with_added((), odd)
    assert ranges[0] == (1, 21)
    assert_not_in(ranges, range(22, 2 * MAX_RANGES + 20, 2))


def assert_not_in(ranges: Ranges, seqs: Iterable[int]) -> None:
    assert [seq for seq in seqs if contains(ranges, seq)] == []
