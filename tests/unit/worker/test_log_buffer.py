import base64
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lando_worker import log_buffer
from lando_worker.log_buffer import PIECE, SLACK, TAIL, WAITING, LogBuffer

MARK = re.compile(r"\n\[lando: ([0-9,]+) bytes of log left out here\]\n")


def everything(log):
    pieces = []
    while piece := log.take():
        assert len(piece.encode()) <= PIECE
        pieces.append(piece)
    return "".join(pieces)


def left_out(text):
    return sum(int(number.replace(",", "")) for number in MARK.findall(text))


def test_lines_come_out_as_they_went_in():
    log = LogBuffer([])
    log.feed(b"one\ntw")
    assert log.take() == "one\n"
    log.feed("ö\nthree".encode())
    assert log.take() == "twö\n"
    log.close()
    assert log.take() == "three"
    assert log.tail() == "one\ntwö\nthree"


def test_a_secret_split_over_chunks_is_masked():
    for cut in range(1, 8):
        log = LogBuffer(["hunter22"])
        log.feed(b"is hunter22!\n"[: 3 + cut])
        early = log.take()
        log.feed(b"is hunter22!\n"[3 + cut :])
        assert early + log.take() == "is ***!\n"
        assert log.tail() == "is ***!\n"


def test_a_secret_in_an_endless_line_is_masked(monkeypatch):
    monkeypatch.setattr(log_buffer, "LINE", 10)
    for filling in range(40, 180):
        log = LogBuffer(["hunter22"])
        for byte in b"." * filling + b"hunter22" + b"." * 200:
            log.feed(bytes([byte]))
        log.close()
        assert everything(log) == "." * filling + "***" + "." * 200


def test_a_gigabyte_is_bounded_and_says_so():
    log = LogBuffer(["hunter22"])
    line = b"x" * 99 + b"\n"
    for _ in range(200):
        log.feed(line * 10_000)
    log.feed(b"the end is hunter22\n")
    log.close()
    text = everything(log)
    assert text.endswith("\nthe end is ***\n")
    assert WAITING - 200 < len(text) < WAITING + SLACK + 200
    kept = MARK.sub("", text)
    assert left_out(text) == 200 * 10_000 * 100 + 20 - (len(kept) + len("hunter22") - len("***"))
    assert log.tail().endswith("the end is ***\n")
    assert len(log.tail()) <= TAIL


def test_the_tail_does_not_begin_inside_a_secret(monkeypatch):
    monkeypatch.setattr(log_buffer, "TAIL", log_buffer.RECENT)
    secret = "S" * 50
    for extra in range(60):
        log = LogBuffer([secret])
        log.feed(secret.encode() + b"." * (log_buffer.RECENT - 60 + extra))
        assert "S" not in log.tail()


def test_nul_and_broken_characters_can_be_sent():
    log = LogBuffer([])
    log.feed(b"a\0b\xff\n")
    assert log.take() == "ab\ufffd\n"


def test_a_secret_in_base64_is_masked_wherever_the_chunks_end():
    printed = f"header {base64.b64encode(b'bob:hunter22-and-more').decode()} end\n".encode()
    for cut in range(len(printed)):
        log = LogBuffer(["hunter22-and-more"])
        log.feed(printed[:cut])
        early = log.take()
        log.feed(printed[cut:])
        shown = early + log.take()
        assert shown.startswith("header ") and shown.endswith(" end\n") and "***" in shown
        assert "aHVudGVyMjIt"[:8] not in shown and "dW50ZXIyMi1hbm" not in shown


def test_a_secret_of_wide_characters_in_an_endless_line_is_masked(monkeypatch):
    monkeypatch.setattr(log_buffer, "LINE", 10)
    secret = "\U0001f9ec" * 6
    for filling in range(300, 400, 3):
        log = LogBuffer([secret])
        printed = ("." * filling + quote(secret) + "." * 300).encode()
        for at in range(0, len(printed), 7):
            log.feed(printed[at : at + 7])
        log.close()
        assert everything(log) == "." * filling + "***" + "." * 300


def test_a_password_in_an_address_that_nobody_knows_is_masked(monkeypatch):
    monkeypatch.setattr(log_buffer, "LINE", 100)
    for filling in range(0, 300, 7):
        log = LogBuffer([])
        printed = b"word " * filling + b"https://bot:hunter22@host/sub.git " + b"word " * 100
        for at in range(0, len(printed), 11):
            log.feed(printed[at : at + 11])
        log.close()
        shown = everything(log)
        assert "https://bot:***@host/sub.git" in shown and "hunter" not in shown


def test_a_character_in_two_chunks_of_an_endless_line_is_whole(monkeypatch):
    monkeypatch.setattr(log_buffer, "LINE", 10)
    log = LogBuffer(["hünter22"])
    for byte in ("ü" * 40 + "hünter22" + "ü" * 40).encode():
        log.feed(bytes([byte]))
    log.close()
    assert everything(log) == "ü" * 40 + "***" + "ü" * 40


@pytest.mark.parametrize(
    "noise",
    [
        b"".join(b"\rprogress %d" % number for number in range(150_000)),
        b"x" * 5_000_000,
        b"".join(b"line %d of the many that a tool writes\n" % number for number in range(60_000)),
        "ein Fortschritt, größer als je zuvor 😀".encode() * 50_000,
        bytes(range(256)) * 10_000,
    ],
    ids=["bar", "line", "many", "characters", "bytes"],
)
@pytest.mark.parametrize("chunk", [1024 * 1024, 65_537])
def test_the_last_words_are_kept_and_what_is_missing_is_said(noise, chunk):
    log, pieces = LogBuffer(["hunter22"]), []
    log.feed(b"the first words\n")
    pieces.append(log.take())
    output = noise + b"\nthe last words\n"
    for start in range(0, len(output), chunk):
        log.feed(output[start : start + chunk])
    log.close()
    pieces.append(everything(log))
    text = "".join(pieces)
    assert text.startswith("the first words\n")
    assert text.endswith("\nthe last words\n")
    assert left_out(text) >= len(noise) - WAITING - SLACK
    assert "\0" not in text
    if noise.isascii():
        kept = MARK.split(text)[-1]
        assert output.decode().endswith(kept)
        assert len(kept) + left_out(text) == len(output)
    elif b"\0" not in noise:
        assert text.count("\ufffd") == 0, "no character is cut in two"


@given(st.lists(st.tuples(st.text("ab\nü", max_size=60), st.integers(0, 3))))
def test_everything_is_there_or_counted_in_its_order(writes):
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"WAITING": 100, "SLACK": 20, "PIECE": 30, "LINE": 15}.items():
            patch.setattr(log_buffer, name, size)
        log, fed, text = LogBuffer([]), b"", ""
        for written, takes in writes:
            log.feed(written.encode())
            fed += written.encode()
            text += "".join(log.take() for _ in range(takes))
        log.close()
        while piece := log.take():
            text += piece
    parts = MARK.split(text)
    assert sum(len(part.encode()) for part in parts[::2]) + left_out(text) == len(fed)
    assert fed.decode().startswith(parts[0]) and fed.decode().endswith(parts[-1])
    assert len(parts[-1].encode()) > min(len(fed), 60) or len(parts) == 1


def test_what_is_kept_does_not_begin_inside_a_secret(monkeypatch):
    monkeypatch.setattr(log_buffer, "WAITING", 3000)
    monkeypatch.setattr(log_buffer, "SLACK", 100)
    secret = "S" * 50
    for rest in range(2940, 3010):
        log = LogBuffer([secret])
        log.feed(b"." * 200 + secret.encode() + b"." * rest)
        log.close()
        kept = MARK.split(everything(log))[-1]
        assert set(kept) <= set(".*")


def test_a_log_of_which_much_was_taken_is_long():
    log = LogBuffer([])
    for _ in range(16):
        assert not log.is_long
        log.feed((b"x" * 63 + b"\n") * 1024)
        everything(log)
    assert log.is_long
