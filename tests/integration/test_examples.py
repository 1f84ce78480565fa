"""The examples are run by cwltool as a job would run them, and their results counted again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from lando.config import job_file

EXAMPLES = Path(__file__).parents[2] / "examples"
READS = EXAMPLES / "fastq-qc" / "data" / "reads.fastq.gz"
DOCUMENTS = sorted(EXAMPLES.glob("*/*.cwl"))
SECONDS = 120


def run_example(name: str, tmp_path: Path, **changed: Any) -> subprocess.CompletedProcess[str]:
    """Runs a job file's workflow on a copy of its folder, with some inputs changed, into tmp_path/outputs."""
    spec = job_file.read(EXAMPLES / name)
    clone = tmp_path / "clone"
    shutil.copytree(spec.git_clone, clone)
    here = clone / job_file.working_directory(spec.git_clone, spec.cd)
    inputs = here / "inputs.json"
    inputs.write_text(json.dumps({**spec.input, **changed}))
    programs = Path(sys.executable).parent
    return subprocess.run(
        [programs / "cwltool", "--no-container", "--outdir", tmp_path / "outputs", spec.run_cwl, inputs],
        cwd=here,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{programs}", "TMPDIR": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def outputs_of(name: str, tmp_path: Path) -> dict[str, Any]:
    run = run_example(name, tmp_path)
    assert run.returncode == 0, run.stderr
    outputs: dict[str, Any] = json.loads(run.stdout)
    return outputs


# The words.


def test_wordcount_counts_the_words(tmp_path: Path) -> None:
    count = Path(outputs_of("wordcount.yml", tmp_path)["count"]["path"])

    text = (EXAMPLES / "toyworkflow/texts/sonnet-18.txt").read_text()
    assert int(count.read_text()) == len(text.split())


def test_toyworkflow_reports_on_every_text(tmp_path: Path) -> None:
    outputs = outputs_of("toyworkflow.yml", tmp_path)

    texts = sorted((EXAMPLES / "toyworkflow/texts").glob("*.txt"))
    words = {text.stem: text.read_text().split() for text in texts}
    counts = {Path(file["path"]).stem: int(Path(file["path"]).read_text()) for file in outputs["counts"]}
    assert counts == {name: len(found) for name, found in words.items()}

    _, *rows, total = Path(outputs["report"]["path"]).read_text().splitlines()
    assert [row.split()[:2] for row in rows] == [[name, str(len(words[name]))] for name in words]
    assert total.split() == ["total", str(sum(counts.values()))]
    for row, name in zip(rows, words, strict=True):
        assert re.findall(r"(\S+) \((\d+)\)", row) == most_frequent(words[name], 5)


def most_frequent(words: list[str], how_many: int) -> list[tuple[str, str]]:
    counted = Counter(word.strip(".,:;?!").lower() for word in words)
    ordered = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(word, str(count)) for word, count in ordered[:how_many]]


# The reads.


def test_fastq_qc_saves_a_report_and_a_summary(tmp_path: Path) -> None:
    results = outputs_of("fastq-qc.yml", tmp_path)["results"]

    assert results["class"] == "Directory"
    directory = tmp_path / "outputs" / "results"
    names = {"report.html", "report.json", "summary.json"}
    assert {path.name for path in directory.iterdir()} == names | {"SHA256SUMS"}
    assert checksums(directory) == {name: sha256((directory / name).read_bytes()) for name in names}

    counted = count_reads()
    assert json.loads((directory / "summary.json").read_text()) == counted
    reported = json.loads((directory / "report.json").read_text())["summary"]
    assert (reported["total_reads"], reported["total_bases"]) == (counted["reads"], counted["bases"])
    assert round(100 * reported["total_gc_bases"] / reported["total_bases"], 2) == counted["gc_percent"]
    check_page((directory / "report.html").read_text(), counted["reads"])


def checksums(directory: Path) -> dict[str, str]:
    lines = (line.split("  ") for line in (directory / "SHA256SUMS").read_text().splitlines())
    return {name: digest for digest, name in lines}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def count_reads() -> dict[str, Any]:
    lines = gzip.decompress(READS.read_bytes()).decode().splitlines()
    sequences, qualities = "".join(lines[1::4]), "".join(lines[3::4])
    return {
        "reads": sum(line.startswith("@A00129:183:") for line in lines),
        "bases": len(sequences),
        "mean_quality": round(sum(ord(letter) - 33 for letter in qualities) / len(qualities), 2),
        "gc_percent": round(100 * sum(base in "GC" for base in sequences) / len(sequences), 2),
    }


class Page(HTMLParser):
    """What a page says, and what a browser would fetch to show it."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.figures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.figures += tag == "svg"
        for name, value in attrs:
            is_fetched = name in ("src", "srcset") or (tag == "link" and name == "href")
            if is_fetched and value and not value.startswith("data:"):
                self.fetched.append(value)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check_page(html: str, reads: int) -> None:
    page = Page()
    page.feed(html)
    text = " ".join(" ".join(page.text).split())
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert f"Total reads {reads}" in text
    assert page.figures >= 10
    assert page.fetched == []
    assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", html)


def test_the_shipped_reads_are_those_that_the_job_and_the_notice_name() -> None:
    digest = sha256(READS.read_bytes())

    assert job_file.read(EXAMPLES / "fastq-qc.yml").input["sha256"] == digest
    assert digest in READS.with_name("README.md").read_text()


def test_fastq_qc_ends_at_a_file_that_is_not_the_one_asked_for(tmp_path: Path) -> None:
    run = run_example("fastq-qc.yml", tmp_path, sha256="0" * 64)

    assert run.returncode == 1
    assert f"its SHA-256 is {sha256(READS.read_bytes())}, not {'0' * 64}" in run.stderr
    assert not list((tmp_path / "outputs").glob("**/*"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no reads"),
        (b"@r1\nACGT\n+\nFFFF\n@r2\nACGT\n+\nFFF\n", "line 5: no FASTQ record begins here"),
        (b">r1\nACGT\n", "line 1: no FASTQ record begins here"),
        (READS.read_bytes()[:20000], "Compressed file ended"),
    ],
    ids=["empty", "cut", "fasta", "cut-gzip"],
)
def test_summarize_says_what_is_wrong_with_the_reads(tmp_path: Path, content: bytes, complaint: str) -> None:
    reads = tmp_path / "reads.fastq"
    reads.write_bytes(content)

    run = script("fastq-qc/summarize.py", reads)

    assert run.returncode == 1
    assert run.stderr.startswith("summarize: reads.fastq: ")
    assert complaint in run.stderr


def test_save_refuses_two_files_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "same.txt", tmp_path / "a" / "same.txt"):
        path.write_text(str(path))

    run = script("fastq-qc/save.py", tmp_path / "r", tmp_path / "same.txt", tmp_path / "a" / "same.txt")

    assert (run.returncode, run.stderr) == (1, "save: there are two files named same.txt\n")


# The download, against a server that behaves as it is told.


@dataclass
class Server:
    url: str
    answers: list[tuple[int, bytes, int]] = field(default_factory=list)
    """Status, body and the Content-Length that is claimed for it; the last is repeated."""
    asked: list[str] = field(default_factory=list)

    def will_answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.answers.append((status, body, len(body) if length is None else length))


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            status, body, length = told.answers[min(len(told.asked), len(told.answers)) - 1]
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        told = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        httpd.shutdown()
        thread.join()


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "no_proxy": "*"}
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def download(url: str, into: Path, digest: str, *more: str | Path) -> subprocess.CompletedProcess[str]:
    return script("fastq-qc/download.py", url, "--into", into, "--sha256", digest, "--pause", "0.001", *more)


BODY = b"reads" * 1000


def test_download_tries_again_what_may_pass(server: Server, tmp_path: Path) -> None:
    server.will_answer(503, b"")
    server.will_answer(200, BODY[:-1], length=len(BODY))
    server.will_answer(200, BODY)

    run = download(f"{server.url}/of/reads%201.fastq?signature=hush", tmp_path, sha256(BODY).upper())

    assert run.returncode == 0, run.stderr
    assert (tmp_path / "reads_1.fastq").read_bytes() == BODY
    assert len(server.asked) == 3
    first, second = run.stderr.splitlines()
    assert first == (
        f"download: {server.url}/of/reads%201.fastq: the server answered 503 Service Unavailable; "
        "trying again in 0.001 s"
    )
    assert f"ended after {len(BODY) - 1} of {len(BODY)} bytes; trying again in 0.002 s" in second
    assert "hush" not in run.stderr


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (500, 4), (429, 4)])
def test_download_gives_up(server: Server, tmp_path: Path, status: int, tries: int) -> None:
    server.will_answer(status, b"")

    run = download(f"{server.url}/reads.fastq", tmp_path, sha256(BODY))

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        f"download: {server.url}/reads.fastq: the server answered {status} "
    )
    assert "Traceback" not in run.stderr
    assert len(server.asked) == tries


def test_download_keeps_no_file_that_is_not_the_one_asked_for(server: Server, tmp_path: Path) -> None:
    server.will_answer(200, BODY)

    run = download(f"{server.url}/reads.fastq", tmp_path, "0" * 64)

    assert run.returncode == 1
    assert sha256(BODY) in run.stderr
    assert not list(tmp_path.iterdir())


def test_download_takes_a_file_address_and_a_path_from_its_base(tmp_path: Path) -> None:
    source = tmp_path / "here #1?" / "reads.fastq"
    source.parent.mkdir()
    source.write_bytes(BODY)

    address = download(source.as_uri(), tmp_path / "address", sha256(BODY))
    path = download(f"{source.parent.name}/reads.fastq", tmp_path / "path", sha256(BODY), "--base", tmp_path)

    assert (address.returncode, path.returncode) == (0, 0), address.stderr + path.stderr
    assert (tmp_path / "address/reads.fastq").read_bytes() == BODY
    assert (tmp_path / "path/reads.fastq").read_bytes() == BODY


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("reads.fastq", "a relative url needs a base"),
        ("ftp://127.0.0.1/reads.fastq", "ftp: is not taken; it takes http, https, file"),
        ("file:///nowhere/reads.fastq", "No such file or directory"),
        ("https://me:hush@127.0.0.1/reads.fastq", "user and password in an address are not taken"),
        ("http://127.0.0.1:1/a b?key=hush", "is no valid address"),
        ("http://[::1/reads?key=hush", "is no address"),
    ],
)
def test_download_says_what_is_wrong_with_an_address(tmp_path: Path, url: str, complaint: str) -> None:
    run = download(url, tmp_path, sha256(BODY))

    assert run.returncode == 1
    assert run.stderr.startswith("download: ")
    assert len(run.stderr.splitlines()) == 1
    assert complaint in run.stderr
    assert "hush" not in run.stderr


# What every example is held to.


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_explains_itself_and_needs_no_javascript_and_no_container(document: Path) -> None:
    cwl = yaml.safe_load(document.read_text())

    assert cwl["cwlVersion"] == "v1.2"
    assert cwl["label"]
    assert cwl["doc"]
    assert not {"InlineJavascriptRequirement", "DockerRequirement"} & set(cwl.get("requirements", {}))


def test_the_walkthroughs_job_keeps_its_shape() -> None:
    spec = job_file.read(EXAMPLES / "fastqc-job.yml")

    assert (spec.git_clone, spec.cd) == ("https://github.com/johnbradley/toyworkflow.git", "toyworkflow")
    assert spec.run_cwl == "fastqc-workflow.cwl"
    assert job_file.working_directory(spec.git_clone, spec.cd) == "."
    assert set(spec.input) == {"dds_agent_key", "dds_user_key", "projectName", "input_file", "output_file"}


def test_the_overview_names_every_job_file() -> None:
    overview = (EXAMPLES / "README.md").read_text()

    for path in EXAMPLES.glob("*.yml"):
        assert f"lando-fsm run examples/{path.name}`" in overview or path.name == "fastqc-job.yml"
        assert f"[`{path.name}`]({path.name})" in overview
