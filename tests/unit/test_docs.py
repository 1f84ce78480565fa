"""README and docs: links lead somewhere, commands exist, and every key is documented as it is."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from lando import messages
from lando.app.rabbitmq import MAX_AUTHORITIES
from lando.cli.client import lando_client
from lando.cli.main import COMMANDS, lando_fsm
from lando.cloud.interface import Server
from lando.cloud.snapshot import CloudSnapshot
from lando.config import job_file
from lando.config import site_config as config
from lando.daemon.rejection import REPORTS_AT_ONCE
from lando.engine.ledger import StateChange
from lando.states import job
from lando.views import inventory
from lando.views import job_status as views
from lando.workqueue import embedded
from lando.workqueue.interface import MAX_BATCH, REPORT_BYTES_KEPT
from lando.workqueue.rabbitmq.names import (
    Permissions,
    QueueNames,
    client_permissions,
    daemon_permissions,
    worker_permissions,
)
from lando.workqueue.rabbitmq.session import PREFETCH, REPORTS_PREFETCH
from lando.workqueue.rabbitmq.topology import (
    DEAD_LETTER_BYTES_KEPT,
    DEAD_LETTERS_KEPT,
    DELIVERY_LIMIT,
    REPORT_BYTES_WAITING,
    REPORT_LETTER_BYTES_KEPT,
    REPORT_LETTERS_KEPT,
    REPORTS_WAITING,
)

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")} - {README}))
PROGRAMS: dict[str, click.Group] = {"lando-fsm": lando_fsm, "lando-client": lando_client}

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
REPOSITORY_PATH = re.compile(
    r"(?:lando|worker|tests|examples|scripts|docs|deploy|diagrams|benchmarks)(?:/[\w.-]+)+"
)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, text in BLOCK.findall(page.read_text()):
        if language in languages:
            yield text


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text())


def sections(page: Path) -> dict[str, str]:
    """The text below each heading, by the heading without backticks."""
    parts = re.split(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {title.replace("`", ""): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text: str) -> list[list[str]]:
    """The rows of a section's tables whose first cell is one word of code, that word bare."""
    lines = (re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in text.splitlines() if line.startswith("|"))
    cells = [[cell.strip() for cell in line] for line in lines]
    return [[row[0].strip("`"), *row[1:]] for row in cells if re.fullmatch(r"`\w+`", row[0])]


def keys(text: str) -> list[str]:
    return [row[0] for row in rows(text)]


# links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(prose(page)) if not leads_somewhere(page, link)]
    assert broken == []


def leads_somewhere(page: Path, link: str) -> bool:
    if link.startswith("https://"):
        return True
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(page))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = [code for code in CODE.findall(prose(page)) if REPOSITORY_PATH.fullmatch(code)]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_repository_in_command_lines_exist(page: Path) -> None:
    words = [word for text in blocks(page, "bash") for word in text.split()]
    paths = [word.removeprefix("/opt/lando-fsm/").rstrip("/") for word in words]
    assert [path for path in paths if REPOSITORY_PATH.fullmatch(path) and not (ROOT / path).exists()] == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(prose(ROOT / "README.md"))}
    assert [page.name for page in PAGES[1:] if page not in linked] == []


def test_no_page_names_a_home_or_a_test_machine() -> None:
    for page in PAGES:
        assert re.findall(r"/(?:home|root|work|tmp)/\S*", page.read_text()) == [], page.name


# commands


def command_lines(page: Path) -> Iterator[list[str]]:
    """Every call of our programs in the page's shell and unit-file blocks, as arguments."""
    for text in blocks(page, "bash", "ini"):
        bare = re.sub(r"<<'EOF'\n.*?^EOF$", "", text, flags=re.MULTILINE | re.DOTALL)
        for line in bare.replace("\\\n", "").splitlines():
            yield from _calls(line)


def _calls(line: str) -> Iterator[list[str]]:
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    call: list[str] = []
    for word in [*words, ";"]:
        if re.fullmatch(r"[();<>|&]+", word):
            yield from _ours(call)
            call = []
        else:
            call.append(word)


def _ours(call: list[str]) -> Iterator[list[str]]:
    before = re.compile(r"sudo|-u|lando|--preserve-env=\w+|[A-Z_]+=[^/]*")
    while call and before.fullmatch(call[0]):
        call = call[1:]
    if call and (name := re.split("[/=]", call[0])[-1]) in PROGRAMS:
        yield [name, *call[1:]]


def test_command_lines_are_found() -> None:
    found = list(_calls("a=$(.venv/bin/lando-fsm status --json | grep x) && X=1 lando-client c y # no"))
    assert found == [["lando-fsm", "status", "--json"], ["lando-client", "c", "y"]]
    assert list(_calls("cd lando-fsm")) == []
    assert sum(len(list(command_lines(page))) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_parse(page: Path) -> None:
    for name, *arguments in command_lines(page):
        parse(PROGRAMS[name], name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_sentences_parse(page: Path) -> None:
    for code in CODE.findall(prose(page)):
        name, *arguments = code.split() or [""]
        if name in PROGRAMS and arguments:
            with contextlib.suppress(click.MissingParameter):  # a sentence may leave out what a command needs
                parse(PROGRAMS[name], name, arguments)


def parse(group: click.Group, name: str, arguments: list[str]) -> None:
    """What click does before it calls a command; raises what is wrong."""
    with group.make_context(name, list(arguments)) as outer:
        # The subcommand's name is kept apart from its arguments, under a name that changed in click 8.2.
        name_apart = vars(outer).get("_protected_args", vars(outer).get("protected_args", []))
        rest = [*name_apart, *outer.args]
        found, command, rest = group.resolve_command(outer, rest)
        assert command is not None
        with command.make_context(found, rest, parent=outer):
            pass


@pytest.mark.parametrize(
    "line", ["lando-fsm staus", "lando-fsm status --jsn", "lando-fsm submit", "lando-client c start_wrker x"]
)
def test_a_wrong_command_line_does_not_parse(line: str) -> None:
    name, *arguments = line.split()
    with pytest.raises(click.ClickException):
        parse(PROGRAMS[name], name, arguments)


def test_the_readme_has_every_command() -> None:
    named = {
        code.split()[1] for code in CODE.findall(prose(ROOT / "README.md")) if code.startswith("lando-fsm ")
    }
    assert set(COMMANDS) - named == set()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    used = {
        target
        for page in PAGES
        for text in blocks(page, "bash")
        for target in re.findall(r"^make ([\w-]+)", text, re.M)
    }
    assert "demo" in used
    assert [target for target in used if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_make_help_names_every_target() -> None:
    shown = subprocess.run(["make", "-C", ROOT, "help"], check=True, capture_output=True, text=True).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "demo" in targets
    assert [
        name for name in targets if name != "help" and not re.search(rf"^ +make {name} ", shown, re.M)
    ] == []


# configuration

CONFIGURATION = ROOT / "docs" / "configuration.md"


def configuration_rows(section: str) -> list[list[str]]:
    return rows(sections(CONFIGURATION)[section or "Top level"])


@pytest.mark.parametrize("section", config.KEYS, ids=lambda section: section or "top")
def test_every_configuration_key_is_documented(section: str) -> None:
    assert sorted(row[0] for row in configuration_rows(section)) == sorted(config.KEYS[section])


def test_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    required: dict[str, Any] = {}
    documented: dict[str, Any] = {}
    for section in ("work_queue", "cloud_settings", "vm_settings", "timeouts", "admission", "worker"):
        table = configuration_rows(section)
        required[section] = {
            key: "https://x" if key == "auth_url" else "x"
            for key, default, _ in table
            if default == "required"
        }
        defaults = {
            key: code.group(1) for key, default, _ in table if (code := re.fullmatch("`(.+)`", default))
        }
        assert defaults, section
        documented[section] = {**required[section], **defaults}
    assert loaded(tmp_path / "documented.yml", documented) == loaded(tmp_path / "required.yml", required)


def loaded(path: Path, sections: dict[str, dict[str, str]]) -> dict[str, Any]:
    lines = [
        line
        for section, values in sections.items()
        for line in (f"{section}:", *(f"  {key}: {value}" for key, value in values.items()))
    ]
    path.write_text("\n".join(lines))
    found = vars(config.load(path))
    return {key: value for key, value in found.items() if key not in ("source", "warnings")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_examples_load(page: Path, tmp_path: Path) -> None:
    shell = re.findall(
        r"cat > landoconfig.yml <<'EOF'\n(.*?)^EOF$", page.read_text(), re.MULTILINE | re.DOTALL
    )
    yaml = [text for text in blocks(page, "yaml") if "state_dir" in text]
    for number, text in enumerate([*shell, *yaml]):
        path = tmp_path / f"{number}.yml"
        path.write_text(text)
        assert config.load(path).cloud == "local"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_broker_examples_load(page: Path, tmp_path: Path) -> None:
    for file in ("ca.pem", "lando.pem", "lando.key"):
        (tmp_path / file).touch(0o600)
    for text in (text for text in blocks(page, "yaml") if "work_queue:" in text):
        (tmp_path / "example.yml").write_text(text)
        found = config.load(tmp_path / "example.yml", client="worker_username" not in text)
        assert found.work_queue is not None


# RabbitMQ

RABBITMQ = ROOT / "docs" / "rabbitmq.md"
NAMES = QueueNames("lando")


def table(page: Path, section: str) -> list[list[str]]:
    """The cells of a section's tables, without the lines that rule them."""
    lines = [line for line in sections(page)[section].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if "| ---" not in line]


def test_what_is_on_the_broker_is_documented() -> None:
    named = [row[0].strip("`") for row in table(RABBITMQ, "What there is on the broker")[1:]]
    assert named == [
        NAMES.queue,
        NAMES.commands,
        NAMES.reports,
        NAMES.dead_letters,
        NAMES.report_letters,
        NAMES.lock,
    ]


def test_documented_permissions_are_the_permissions() -> None:
    rights = {"nothing": "^$", "everything above": daemon_permissions(NAMES).configure}

    def pattern(cell: str) -> str:
        return rights.get(cell) or f"^{re.escape(cell.strip('`'))}$"

    documented = [Permissions(*map(pattern, row[2:])) for row in table(RABBITMQ, "Accounts")[1:]]
    assert documented == [permissions(NAMES) for permissions in (daemon_permissions, client_permissions)] + [
        worker_permissions(NAMES)
    ]


def test_documented_limits_are_the_limits() -> None:
    limits = [row[3] for row in table(RABBITMQ, "What there is on the broker")[1:]]
    assert [limit for limit in limits if limit not in ("", "no limit")] == [
        f"{REPORTS_WAITING:,} messages, {REPORT_BYTES_WAITING // 2**20} MiB; more are refused",
        f"the newest {DEAD_LETTERS_KEPT:,}, {DEAD_LETTER_BYTES_KEPT // 2**20} MiB",
        f"the newest {REPORT_LETTERS_KEPT:,}, {REPORT_LETTER_BYTES_KEPT // 2**20} MiB",
    ]
    assert f"letters: {REPORTS_AT_ONCE} at once, and then one a second" in prose(RABBITMQ)
    operations = " ".join(prose(ROOT / "docs" / "operations.md").split())
    assert f"{REPORTS_AT_ONCE} dead letters at once and then one a second" in operations
    assert (
        f"on a broker at most {REPORTS_WAITING:,} ({REPORT_BYTES_WAITING // 2**20} MiB), in the embedded "
        f"queue at most {embedded.REPORTS_WAITING:,} ({embedded.REPORT_BYTES_WAITING // 2**20} MiB)"
    ) in operations
    for letters, size in (
        (embedded.LETTERS_KEPT, embedded.LETTER_BYTES_KEPT),
        (
            {"client": DEAD_LETTERS_KEPT, "worker": REPORT_LETTERS_KEPT},
            {"client": DEAD_LETTER_BYTES_KEPT, "worker": REPORT_LETTER_BYTES_KEPT},
        ),
    ):
        assert (
            f"of clients {letters['client']:,} ({size['client'] // 2**20} MiB), of workers "
            f"{letters['worker']:,} ({size['worker'] // 2**20} MiB)"
        ) in operations
    assert f"the first {REPORT_BYTES_KEPT // 1024} KiB are kept" in prose(RABBITMQ)
    assert f"messages, of at most {MAX_BATCH // 2**20} MiB together" in prose(RABBITMQ)
    assert f"{PREFETCH} commands and {REPORTS_PREFETCH} reports are unacknowledged" in prose(RABBITMQ)
    assert f"`x-delivery-limit` {DELIVERY_LIMIT:,}" in prose(RABBITMQ)
    assert f"at most {MAX_AUTHORITIES:,} characters" in prose(RABBITMQ)


def test_documented_words_of_the_broker_are_its_words() -> None:
    source = "\n".join(
        words
        for path in (ROOT / "lando/workqueue/rabbitmq").glob("*.py")
        for words in texts(path.read_text())
    )
    documented = [
        re.split(r"…|[;:(]", row[0])[0].strip()
        for row in table(ROOT / "docs" / "troubleshooting.md", "The broker")[1:]
    ]
    assert len(documented) > 10
    assert [words for words in documented if words not in source] == []


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    page = ROOT / "docs" / "troubleshooting.md"
    source = "\n".join(
        message
        for folder in ("lando", "worker")
        for path in (ROOT / folder).rglob("*.py")
        for message in texts(path.read_text())
    )
    tables = [table(page, section) for section in sections(page) if table(page, section)]
    quoted = [row[0] for header, *rows in tables for row in rows if header[0] == "message"]
    assert len(quoted) > 50
    assert [message for message in quoted if not all(part in source for part in fragments(message))] == []


@pytest.mark.parametrize(
    "section", ["The cloud is down", "The broker is down", "The daemon or its database is down"]
)
def test_what_status_says_of_what_is_down_is_what_the_code_says(section: str) -> None:
    source = "\n".join(
        message
        for folder in ("lando", "worker")
        for path in (ROOT / folder).rglob("*.py")
        for message in texts(path.read_text())
    )
    head, *rows = table(ROOT / "docs" / "troubleshooting.md", section)
    said = [quoted for row in rows for quoted in re.findall('"([^"]+)"', row[head.index("`status` says")])]
    assert len(said) > 5
    services = re.compile("Neutron|Glance|Cinder")
    unsaid = [each for each in said if any(part not in source for part in fragments(services.sub("…", each)))]
    assert unsaid == []


def fragments(message: str) -> list[str]:
    """The parts of a quoted message between what differs (…) and between what the code joins with colons."""
    return [part.strip() for part in re.split("…|: |; ", message) if part.strip()]


def texts(source: str) -> Iterator[str]:
    """Every text of a module as it is shown, with a gap where a value is put in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


# the job file

JOB_FILE = ROOT / "docs" / "job-file.md"


def test_every_job_key_is_documented() -> None:
    assert keys(sections(JOB_FILE)["Keys"]) == list(job_file.KEYS)


def test_documented_job_defaults_are_the_defaults(tmp_path: Path) -> None:
    table = rows(sections(JOB_FILE)["Keys"])
    required = "".join(
        f"{key}: {{}}\n" if key == "input" else f"{key}: x\n"
        for key, _, default in table
        if default == "required"
    )
    defaults = "".join(
        f"{key}: {default[1:-1]}\n" for key, _, default in table if re.fullmatch("`.+`", default)
    )
    assert len(defaults.splitlines()) == 4
    (tmp_path / "required.yml").write_text(required)
    (tmp_path / "all.yml").write_text(required + defaults)
    assert job_file.read(tmp_path / "all.yml") == job_file.read(tmp_path / "required.yml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_job_examples_are_valid(page: Path, tmp_path: Path) -> None:
    shell = re.findall(r"cat > job.yml <<'EOF'\n(.*?)^EOF$", page.read_text(), re.MULTILINE | re.DOTALL)
    yaml = [text for text in blocks(page, "yaml") if "git_clone" in text]
    for text in [*shell, *yaml]:
        (tmp_path / "job.yml").write_text(text)
        job_file.read(tmp_path / "job.yml")


# JSON

JSON = ROOT / "docs" / "json.md"


def test_status_json_is_documented() -> None:
    status = views.JobStatus(job.Job("x"), "name", None, "why", {})
    assert keys(sections(JSON)["status"]) == list(status.as_json())


def test_history_json_is_documented() -> None:
    change = views.change_as_json(StateChange("x", 0.0, "admitted", "queued", "booting", "why", 1))
    assert keys(sections(JSON)["history"]) == list(change)


def test_servers_json_is_documented() -> None:
    item = inventory.InventoryItem(Server("x", "name", "ACTIVE"), "nothing")
    found = inventory.Inventory(inventory.DatabaseSnapshot(None), CloudSnapshot(()), ())
    assert keys(sections(JSON)["servers"]) == list(found.as_json())
    assert keys(sections(JSON)["A server or a floating IP"]) == list(item.as_json())


def test_messages_are_documented() -> None:
    found = keys(sections(JSON)["Messages"])
    report = messages.Message("worker_started", job="x", attempt=1, token="x", seq=1)
    assert found == [*json.loads(report.encode()), *messages.CLIENT_TYPES, *messages.WORKER_TYPES]


def test_the_example_message_is_valid() -> None:
    (example,) = blocks(JSON, "json")
    message = messages.decode(example.encode(), "client")
    assert job_file.from_body(message.body).run_cwl == "wordcount.cwl"
    assert message.id == f"start-{message.job}"


# the rest


def test_crash_points_are_documented() -> None:
    source = (ROOT / "tests" / "integration" / "test_crashes.py").read_text()
    walk = sections(ROOT / "docs" / "architecture.md")["Crash safety, step by step"]
    points = re.findall(r'^    "([a-z-]+)",$', source, re.MULTILINE)
    assert len(points) > 5
    assert [point for point in points if f"`{point}`" not in walk] == []
