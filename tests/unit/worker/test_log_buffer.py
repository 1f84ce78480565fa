import base64
from urllib.parse import quote

from lando_worker import log_buffer
from lando_worker.log_buffer import LIMIT, PIECE, TAIL, LogBuffer


def everything(log):
    pieces = []
    while piece := log.take():
        assert len(piece.encode()) <= PIECE
        pieces.append(piece)
    return "".join(pieces)


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
    assert LIMIT - 200 < len(text) < LIMIT + 200
    left_out = 200 * 10_000 * 100 + 20 - (len(text) - len(text.splitlines()[-1]) - 2)
    assert f"{left_out:,} bytes of log left out" in text.splitlines()[-1]
    assert log.tail().endswith("the end is ***\n")
    assert len(log.tail()) <= TAIL


def test_the_tail_does_not_begin_inside_a_secret():
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
