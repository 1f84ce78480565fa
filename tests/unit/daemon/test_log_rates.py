"""How much log a job may add: all of an honest worker's, and little of one that never stops."""

from __future__ import annotations

import re

from lando.daemon.log_rates import BURST, FLOWS_AGAIN, LAST, NOTE_KEPT, REFILL, LogRates
from lando_worker import log_buffer

NOTE = re.compile(r"\n\[lando: ([\d,]+) characters of log left out here: [^\n]*\]\n")


class Rates:
    """Rates with a clock that a test moves; each call is a transaction of its own."""

    def __init__(self) -> None:
        self.now = 50.0
        self.rates = LogRates(lambda: self.now)

    def send(self, text: str, job: str = "a", attempt: int = 1, is_last: bool = False) -> str:
        self.rates.begin()
        kept = self.rates.bounded(job, attempt, text, is_last)
        self.rates.commit()
        return kept


def left_out(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in NOTE.findall(text)]


def test_all_that_an_honest_worker_sends_at_once_is_kept() -> None:
    rates, buffer = Rates(), log_buffer.LogBuffer(())
    buffer.feed(b"a line of some length\n" * 100_000)
    buffer.close()
    sent = []
    while buffer.has_pending:
        sent.append(buffer.take())
    assert len("".join(sent)) > log_buffer.WAITING
    assert [rates.send(piece) for piece in sent] == sent
    assert not rates.rates.is_behind("a")


def test_a_flood_is_cut_to_the_burst_and_the_refill_and_says_so() -> None:
    rates = Rates()
    sent = kept = ""
    for _ in range(600):
        rates.now += 0.1
        sent += "x" * 20_000
        kept += rates.send("x" * 20_000)
    assert len(kept) < BURST + 60 * REFILL + 1000
    assert kept.count("x") > BURST + 50 * REFILL
    assert rates.rates.is_behind("a")
    assert len(left_out(kept)) < 40, "a note every other second at most"
    rest = rates.send("the end", is_last=True)
    assert not rates.rates.is_behind("a")
    kept += rest
    assert len(NOTE.sub("", kept)) + sum(left_out(kept)) == len(sent) + len("the end")


def test_nothing_flows_until_a_worthwhile_piece_may() -> None:
    rates = Rates()
    assert rates.send("x" * BURST) == "x" * BURST
    assert rates.send("w" * 10) == ""
    rates.now += (FLOWS_AGAIN - 1) / REFILL
    assert rates.send("y") == ""
    assert rates.rates.is_behind("a")
    rates.now += 1.0
    text = rates.send("z")
    assert (left_out(text), text[-1]) == ([11], "z")
    assert not rates.rates.is_behind("a")
    assert rates.send("w") == "w"


def test_of_a_text_that_is_too_long_the_end_is_kept() -> None:
    rates = Rates()
    kept = rates.send("x" * 10 + "y" * BURST)
    assert (left_out(kept), NOTE.sub("", kept)) == ([10], "y" * BURST)
    assert not rates.rates.is_behind("a")


def test_the_end_of_a_log_is_kept_whatever_came_before() -> None:
    rates = Rates()
    rates.send("x" * BURST)
    rates.send("y" * 10)
    kept = rates.send("z" * 1000 + "w" * LAST, is_last=True)
    assert (left_out(kept), NOTE.sub("", kept)) == ([1010], "w" * LAST)


def test_a_heartbeat_without_log_brings_the_note() -> None:
    rates = Rates()
    rates.send("x" * BURST)
    rates.send("x" * 10)
    rates.now += 30.0
    assert left_out(rates.send("")) == [10]


def test_the_last_text_tells_itself_what_was_left_out() -> None:
    rates = Rates()
    kept = rates.send("x" * (BURST + 10), is_last=True)
    assert (left_out(kept), kept.count("x")) == ([10], BURST)
    assert not rates.rates.is_behind("a")


def test_jobs_and_attempts_have_bounds_of_their_own() -> None:
    rates = Rates()
    rates.send("x" * (BURST + 1))
    assert rates.send("other job", job="b") == "other job"
    assert rates.send("second attempt", attempt=2) == "second attempt"


def test_what_was_not_committed_is_given_back() -> None:
    rates = Rates()
    for _ in range(3):
        rates.rates.begin()
        assert rates.rates.bounded("a", 1, "x" * BURST, False) == "x" * BURST
    rates.rates.commit()
    assert rates.send("x") == ""


def test_what_is_full_again_is_forgotten() -> None:
    rates = Rates()
    rates.send("x" * 1000)
    rates.send("x" * BURST, job="b")
    rates.send("x", job="b")
    rates.now += BURST / REFILL
    rates.send("", job="c")
    assert set(rates.rates._buckets) == {"b"}, "what was left out of it is not told yet"
    rates.now += NOTE_KEPT
    rates.send("", job="c")
    assert rates.rates._buckets == {}
