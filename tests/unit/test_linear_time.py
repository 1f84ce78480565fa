"""Every parser of text from outside takes time in proportion to its length, whatever the text is.

A parser that is added to ``lando`` or ``lando_worker`` is added to ``PARSERS``.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from pika import exceptions as amqp

from lando import address, credentials, messages, plain_text, redaction, repository, yaml_json
from lando.cli import text as cli_text
from lando.cloud.nova import classify, failures, tags
from lando.config import job_file, yaml_document
from lando.config.work_queue import AMQP_URL
from lando.errors import LandoError
from lando.messages import Malformed, Message
from lando.store.shown import display_name
from lando.views import job_outputs
from lando.views.diagram import markup, mermaid
from lando.workqueue.rabbitmq import broker
from lando.workqueue.rabbitmq import classify as rabbitmq_classify
from lando_worker import git_errors, inputs, outputs
from lando_worker.event_pipe import EventReceiver
from lando_worker.log_buffer import LogBuffer

SIZE = 64 * 1024
MOST = 1.0
"""Seconds of CPU for SIZE characters: several times what the slowest parser needs, far less than a square."""
SAMPLE, SUSPICIOUS = 8 * 1024, 0.004
"""A parser that takes the square of the length, and more than MOST for SIZE, takes longer for a sample."""

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
BODY: dict[str, Any] = {"git_clone": "https://e.org/a.git", "cd": ".", "input": {}, "run_cwl": "a.cwl"}

UNITS = (
    *("a", "A", "1", " ", "\n", "\t", "-", ".", ",", ":", ";", "/", "@", "#", "%", "_", "*", "&", "!", "|"),
    *("'", '"', "\\", '\\"', "[", "]", "{", "}", "<", ">", "(", "(a)", "\x1b[1;", "\0", "\ud800", "ü", "🧬"),
    *(
        "aB",
        "aB1_",
        "password",
        "api_",
        "://",
        "a://",
        "a://a",
        "a://a:",
        "a://a:a",
        "a:",
        "a@",
        "a.",
        "x@y:",
    ),
    *(
        "[a",
        "[a:",
        "[::1]",
        "::",
        "../",
        "a/",
        "//",
        "//a",
        "//a@",
        "@{",
        "~",
        "%4",
        "1d",
        "1d1h",
        "1_",
        "0x1",
    ),
    *(
        "a: ",
        "a: 1\n",
        "- ",
        "? ",
        "&a ",
        "*a ",
        "<<: {a: 1}\n",
        "a: &a [*a]\n",
        "!a ",
        "{a: ",
        "[[",
        "{},",
        "- a\n",
    ),
    *('"\\u0001', "\\ud83e\\uddec", "\\u0000", '"a":', '"",', "[],", "1e1,", '{"a":1}\n'),
    *(
        "<title>",
        "<title>a",
        "</title>",
        "<a",
        "<a>",
        "Requested 1, but already used ",
        "Requested 1,2",
        " of 1",
    ),
    *(
        "quota",
        "limit exceede",
        "over the ",
        "security group ",
        "x-queue-type ",
        " current is ",
        "lando deployment=a ",
    ),
    *("password=", "password: ", "password='", 'password="', '"password":"', "-----BEGIN PRIVATE KEY-----"),
    *("Bearer ", "?sig=", "://a:b@", "a://b#c@", "--token ", "eyJaaaaaaaa.", "eyJ-", "login a password b "),
    *("fatal: ", "denied", "error\n", "connection ", "returned error: 5", "timed ", "in 1", "a(", "a()): "),
)
"""Texts of SIZE characters are made of each, also with another end."""
ENDS = ("", "b", "@", "://")


def texts(size: int) -> dict[str, str]:
    """Adversarial texts of this size, by name."""
    return {
        f"{unit!r} … {end!r}": (unit * (size // len(unit)))[: size - len(end)] + end
        for unit in UNITS
        for end in ENDS
    }


def body(key: str) -> Callable[[str], object]:
    """A start_worker body with the text at this key."""
    return lambda text: job_file.from_body({**BODY, key: text})


def read_job_file(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "job.yml")
        path.write_text(text, encoding="utf-8", errors="replace")
        job_file.read(path)


def raw(text: str) -> None:
    messages.decode(text.encode(errors="replace"))


def raw_body(text: str) -> None:
    envelope = Message("workflow_finished", {"outcome": "succeeded", "outputs": {}}, JOB, 1, "t", 1).encode()
    messages.decode(envelope.replace(b"{}", b'{"a": "' + text.encode(errors="replace") + b'"}'))


def report(text: str) -> None:
    keys = ("phase", "step_name", "log", "log_tail", "reason")
    sent = {**dict.fromkeys(keys, text.replace("\ud800", "")), "outcome": "succeeded"}
    messages.decode(Message("workflow_finished", sent, JOB, 1, "t", 1).encode())


def response(text: str, content_type: str) -> None:
    answer = requests.Response()
    answer.status_code, answer._content = 500, text.encode(errors="replace")
    answer.headers["Content-Type"] = content_type
    answer.request = requests.Request("GET", "https://nova/servers").prepare()
    answer.url = "https://nova/servers"
    failures.read(failures.NotOpenStack(answer))


def nova_error(text: str) -> None:
    failed = failures.Failure(text, 403, "forbidden")
    for pattern, _ in classify._SITE_SETTINGS:
        classify.re.search(pattern, failed.message)
    classify.is_no_capacity(text)
    classify._QUOTA.search(text)


def fault_of_the_broker(text: str) -> None:
    settings = broker.Broker("h", 5672, "u", "p", "/", None, {})
    rabbitmq_classify.classify(settings, amqp.ChannelClosedByBroker(406, text))


def secrets(text: str) -> None:
    """Many secrets, which the text nearly has."""
    found = [text[at : at + 20] + str(at) for at in range(25)]
    found += [text[at : at + 9] + str(at) for at in range(25)]
    redaction.mask(text, found)


def log(text: str) -> None:
    buffer = LogBuffer([text[:1000] + "x", text[:10] + "y", "secret"])
    chunk = text.encode(errors="replace")
    for at in range(0, len(chunk), 1024):
        buffer.feed(chunk[at : at + 1024])
    buffer.close()
    while buffer.take():
        pass
    buffer.tail()


def runner_output(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        outputs.succeeded(text, Path(directory))
        outputs.succeeded(json.dumps({"a": text}), Path(directory))


def events_of_the_child(text: str) -> None:
    receiver, chunk = EventReceiver(), json.dumps({"state": {"step_name": text}}).encode() + b"\n"
    for at in range(0, len(chunk), 4096):
        receiver.feed(chunk[at : at + 4096])


def what_git_prints(text: str) -> None:
    """The other functions are given the words, which are of bounded length."""
    words = git_errors.words(text)
    git_errors.in_short(words)
    git_errors.is_transient(words)
    git_errors.what_to_do(words, has_credentials=True)


PARSERS: dict[str, Callable[[str], object]] = {
    "a message": raw,
    "a message's body": raw_body,
    "a report": report,
    **{f"start_worker: {key}": body(key) for key in job_file.KEYS},
    "start_worker: an unknown key": lambda text: job_file.from_body({**BODY, text: 1}),
    "start_worker: an input key": lambda text: job_file.from_body({**BODY, "input": {text: [text]}}),
    "start_worker: a label": lambda text: job_file.from_body({**BODY, "labels": {text: text}}),
    "start_worker: cwl_args": lambda text: job_file.from_body({**BODY, "cwl_args": [text]}),
    "a job file": read_job_file,
    "a job file's input": lambda text: yaml_document.parse(json.dumps({"a": text}), "job.yml"),
    "display_name": lambda text: display_name({"git_clone": text, "run_cwl": text}),
    "clone_name": repository.clone_name,
    "looks_secret": credentials.looks_secret,
    "scrub": credentials.scrub,
    "mask_blobs": redaction.mask_blobs,
    "spellings": lambda text: redaction.longest([text]),
    "strip_url": address.strip_url,
    "ambiguity": lambda text: (
        address.ambiguity(text),
        address.ambiguity("https://" + text),
        address.ambiguity("https://h/" + text),
    ),
    "mask": lambda text: redaction.mask(text, [text[:30_000] + "x", text[:5] + "y", "a", "ab"]),
    "mask with many secrets": secrets,
    "yaml_safe_json": lambda text: yaml_json.yaml_safe_json({"a": text}),
    "a page of a cloud": lambda text: response(text, "text/html"),
    "an error of a cloud": lambda text: response(
        json.dumps({"error": {"message": text}}), "application/json"
    ),
    "an error of the network": lambda text: failures.read(requests.ConnectionError(OSError(text))),
    "an address in an error": failures._shown_url,
    "Retry-After": lambda text: failures._retry_after(text, text),
    "what Nova says": nova_error,
    "a description on a server": tags._DESCRIPTION.search,
    "an error of the broker": fault_of_the_broker,
    "work_queue.url": AMQP_URL.fullmatch,
    "a log for a terminal": lambda text: (
        plain_text.log_lines(text),
        plain_text.one_line(text),
        cli_text.last_lines(text),
    ),
    "an output object": lambda text: job_outputs.reachable(
        {
            text: {"class": "File", "location": text, "basename": text},
            "file": {"class": "File", "location": f"file://{text}"},
            "path": {"class": "Directory", "path": f"/{text}"},
        },
        None,
    ),
    "the diagram's text": lambda text: (markup._plain(text), mermaid._text(text)),
    "what git prints": what_git_prints,
    "an input object": lambda text: inputs.with_absolute_references(
        {"class": "File", "path": text, "location": text}, Path("/a")
    ),
    "what a runner prints": runner_output,
    "the workflow's log": log,
    "events of the child": events_of_the_child,
}


def seconds(parse: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    with contextlib.suppress(Malformed, LandoError, ValueError):
        parse(text)
    return time.process_time() - started


@pytest.mark.large
@pytest.mark.parametrize("name", PARSERS)
def test_time_grows_with_the_length_of_the_text_only(name: str) -> None:
    parse = PARSERS[name]
    seconds(parse, "a")  # imports and caches
    suspicious = [made_of for made_of, text in texts(SAMPLE).items() if seconds(parse, text) > SUSPICIOUS]
    for made_of, text in texts(SIZE).items():
        if made_of in suspicious:
            took = seconds(parse, text)
            took = min(took, seconds(parse, text)) if took >= MOST else took
            assert took < MOST, f"{made_of}: {took:.2f} s"
