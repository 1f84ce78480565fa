from lando_worker import log_buffer as logbook
from lando_worker.log_buffer import LIMIT, PIECE, TAIL, Logbook


def everything(book):
    pieces = []
    while piece := book.take():
        assert len(piece.encode()) <= PIECE
        pieces.append(piece)
    return "".join(pieces)


def test_lines_come_out_as_they_went_in():
    book = Logbook([])
    book.feed(b"one\ntw")
    assert book.take() == "one\n"
    book.feed("ö\nthree".encode())
    assert book.take() == "twö\n"
    book.close()
    assert book.take() == "three"
    assert book.tail() == "one\ntwö\nthree"


def test_a_secret_split_over_chunks_is_masked():
    for cut in range(1, 8):
        book = Logbook(["hunter22"])
        book.feed(b"is hunter22!\n"[: 3 + cut])
        early = book.take()
        book.feed(b"is hunter22!\n"[3 + cut :])
        assert early + book.take() == "is ***!\n"
        assert book.tail() == "is ***!\n"


def test_a_secret_in_an_endless_line_is_masked(monkeypatch):
    monkeypatch.setattr(logbook, "LINE", 10)
    for filling in range(40, 180):
        book = Logbook(["hunter22"])
        for byte in b"." * filling + b"hunter22" + b"." * 200:
            book.feed(bytes([byte]))
        book.close()
        assert everything(book) == "." * filling + "***" + "." * 200


def test_a_gigabyte_is_bounded_and_says_so():
    book = Logbook(["hunter22"])
    line = b"x" * 99 + b"\n"
    for _ in range(200):
        book.feed(line * 10_000)
    book.feed(b"the end is hunter22\n")
    book.close()
    text = everything(book)
    assert LIMIT - 200 < len(text) < LIMIT + 200
    left_out = 200 * 10_000 * 100 + 20 - (len(text) - len(text.splitlines()[-1]) - 2)
    assert f"{left_out:,} bytes of log left out" in text.splitlines()[-1]
    assert book.tail().endswith("the end is ***\n")
    assert len(book.tail()) <= TAIL


def test_the_tail_does_not_begin_inside_a_secret():
    secret = "S" * 50
    for extra in range(60):
        book = Logbook([secret])
        book.feed(secret.encode() + b"." * (logbook.RECENT - 60 + extra))
        assert "S" not in book.tail()


def test_nul_and_broken_characters_can_be_sent():
    book = Logbook([])
    book.feed(b"a\0b\xff\n")
    assert book.take() == "ab\ufffd\n"
