import pytest

from lando_worker import git_errors

DUBIOUS = """fatal: detected dubious ownership in repository at '/srv/x/.git'
To add an exception for this directory, call:

\tgit config --global --add safe.directory /srv/x/.git
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""
GITLAB = """Cloning into '/vm/x'...
remote:
remote: ========================================================================
remote:
remote: ERROR: The project you were looking for could not be found or you don't have permission to view it.

remote:
remote: ========================================================================
remote:
fatal: Could not read from remote repository.
"""
ACCESS = "fatal: unable to access 'https://h/': "
CHANGED = "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! Host key verification failed."
ABSENT = "remote: Repository not found. fatal: repository 'https://h/x' not found"
PROMPT = "fatal: could not read Username for 'https://h': terminal prompts disabled"
BROKEN = """remote: Enumerating objects: 9, done.
remote: Counting objects:  33% (3/9)
Receiving objects:  10% (1/9), 1 KiB
error: RPC failed; curl 56 GnuTLS recv error (-9): Error decoding the received TLS packet.
fatal: early EOF
"""


def test_advice_of_several_lines_is_kept_whole():
    said = git_errors.words(DUBIOUS)
    assert said.startswith(
        "fatal: detected dubious ownership in repository at '/srv/x/.git' To add an exception"
    )
    assert "call: git config --global --add safe.directory /srv/x/.git fatal: Could not read" in said
    assert said.endswith("Please make sure you have the correct access rights and the repository exists.")


def test_frames_and_progress_are_left_out():
    assert git_errors.words(GITLAB).startswith("remote: ERROR: The project you were looking for could not")
    assert "====" not in git_errors.words(GITLAB)
    assert git_errors.words(BROKEN).startswith("error: RPC failed; curl 56")


def test_words_are_bounded_and_keep_their_end():
    said = git_errors.words("remote: x" * 10_000 + "\nfatal: the end")
    assert len(said) == git_errors.LONGEST
    assert said.endswith("fatal: the end")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fatal: unable to access 'https://bob:hunter22@h/x'", "fatal: unable to access 'https://***@h/x'"),
        ("https://ghp_token@h/x and https://h/a@b", "https://***@h/x and https://h/a@b"),
        ("ssh://git@h/x and git@h:x", "ssh://git@h/x and git@h:x"),
        ("ssh://git:hunter22@h/x", "ssh://***@h/x"),
    ],
)
def test_credentials_of_addresses_are_masked(text, shown):
    assert git_errors.words(text) == shown


@pytest.mark.parametrize(
    ("said", "is_transient"),
    [
        (git_errors.words(BROKEN), True),
        (ACCESS + "Could not resolve host: h (Domain name not found)", True),
        ("ssh: connect to host h port 22: Connection timed out fatal: Could not read from remote", True),
        ("kex_exchange_identification: read: Connection reset by peer", True),
        (ACCESS + "The requested URL returned error: 429", True),
        (ACCESS + "Empty reply from server", True),
        ("fatal: unable to look up h (port 9418) (Temporary failure in name resolution)", True),
        ("remote: upload-pack: access denied fatal: the remote end hung up unexpectedly", False),
        ("git@h: Permission denied (publickey). fatal: the remote end hung up unexpectedly", False),
        ("fatal: repository 'https://h/connection refused/early EOF' not found", False),
        (ACCESS + "SSL certificate problem: self-signed certificate", False),
        ("Host key verification failed. fatal: Could not read from remote repository.", False),
        ("fatal: early EOF error: possible repository corruption on the remote side", False),
        (git_errors.words(DUBIOUS), False),
        (git_errors.words(GITLAB), False),
    ],
)
def test_which_failures_are_waited_for(said, is_transient):
    assert git_errors.is_transient(said) is is_transient


@pytest.mark.parametrize(
    ("said", "credentials", "words"),
    [
        (
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            False,
            "USER:TOKEN@HOST",
        ),
        ("fatal: Authentication failed for 'https://h/'", True, "are valid"),
        (
            ACCESS + "SSL certificate problem: self-signed",
            False,
            "http.sslCAInfo",
        ),
        (ACCESS + "server certificate verification failed.", False, "authority"),
        ("fatal: unable to update url base from redirection: asked for: a redirect: b", False, "redirects"),
        ("git@h: Permission denied (publickey).", False, "ssh needs a key"),
        ("No ED25519 host key is known for h", False, "ssh-keyscan"),
        (
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! Host key verification failed.",
            False,
            "ssh-keygen -R",
        ),
        (
            ACCESS + "The requested URL returned error: 403",
            False,
            "denies access",
        ),
        (
            "remote: Repository not found. fatal: repository 'https://h/x' not found",
            False,
            "whether it is private",
        ),
        (ABSENT, True, "token may read"),
        ("fatal: '/x' does not appear to be a git repository", False, "the machine where workflows run"),
        ("fatal: something new", False, ""),
    ],
)
def test_what_to_do_is_said(said, credentials, words):
    advice = git_errors.what_to_do(said, has_credentials=credentials)
    assert words in advice
    assert bool(words) is bool(advice)


def test_the_short_form_leaves_out_the_address():
    said = "fatal: unable to access 'http://h/x/': Could not resolve host: h"
    assert git_errors.in_short(said) == "Could not resolve host: h"
    said = "ssh: Could not resolve hostname h: Name or service not known fatal: Could not read from remote"
    assert git_errors.in_short(said) == "Could not resolve hostname h: Name or service not known"
