"""What git's error output means: its decisive lines, whether trying again can help, and what to do."""

from __future__ import annotations

import re

from lando.message_limits import shorten
from lando.redaction import MASK

LONGEST = 1400
"""Characters of git's words in a reason, which has room for 2000."""

PROGRESS = re.compile(
    r"Cloning into |From |Submodule |Switched to |HEAD is now at |Note: switching to "
    r"|(remote: *)?(Enumerating|Counting|Compressing|Receiving|Resolving|Updating|Unpacking|Filtering)\b.*"
    r"(objects|deltas|files|content)"
    r"|remote: Total |Warning: Permanently added |warning: redirecting to ",
)
"""Lines that say nothing about a failure."""
DECORATION = re.compile(r"(remote:)?[\W_]*$")
"""Lines without a word, as servers frame their messages with."""
IN_ADDRESS = re.compile(r"(https?|ftps?|git|ssh)://([^/\s'\"]+)@", re.IGNORECASE)
"""An address with user information: a submodule's may have one that the job does not know."""

UNRESOLVED = re.compile(
    r"could not resolve (host|proxy)|temporary failure in name resolution|name or service not known"
    r"|unable to look up|no address associated|nodename nor servname",
    re.IGNORECASE,
)
DEFINITE = re.compile(
    r"returned error: 4(?!08|25|29)\d\d|authentication failed|could not read (username|password)"
    r"|permission denied|access denied|host key verification failed|host identification has changed"
    r"|certificate|not found|does not exist|not exported|does not appear to be a git repository"
    r"|dubious ownership|corruption on the remote side|not allowed|no space left|from redirection",
    re.IGNORECASE,
)
"""An answer that another try would get, too; it counts before what else the output says."""
NETWORK = re.compile(
    r"connection (refused|reset|timed out|closed|aborted)|timed? ?out|early eof|rpc failed|hung up"
    r"|returned error: (408|425|429|5\d\d)|http code 5\d\d from proxy|(failed|unable|couldn't) to connect"
    r"|operation too slow|unexpected disconnect|network is (unreachable|down)|no route to host|broken pipe"
    r"|ssl_error_syscall|ssl_(connect|read)|gnutls.*(recv|handshake)|tls (connection|packet)|empty reply"
    r"|transfer closed|http/2 stream|(recv|send) failure|exchange_identification|internal server error"
    r"|temporarily unavailable|try again later|over capacity",
    re.IGNORECASE,
)
SHALLOW_REFUSED = re.compile(r"shallow|not our ref|unadvertised object|did not contain|mismatched algorithms")
"""The server gives nothing but whole branches."""

WHAT_TO_DO = (
    (
        r"host identification has changed",
        "the host key of the git server is not the one in known_hosts: find out why, then remove the old one"
        " where workflows run, with `ssh-keygen -R HOST`",
    ),
    (
        r"host key verification failed|host key is known",
        "the host key of the git server is not known where workflows run: add it to known_hosts of their"
        " account, with `ssh-keyscan HOST`, or write an https:// address",
    ),
    (
        r"permission denied \(|permission denied, please|too many authentication failures",
        "ssh needs a key without a passphrase on the machine where workflows run; or write an https://"
        " address with a token",
    ),
    (
        r"cannot run ssh|ssh: (command )?not found",
        "install openssh-client where workflows run, or write an https:// address",
    ),
    (
        r"certificate",
        "the machine where workflows run does not trust the git server's certificate: install the authority"
        " that issued it there, or name its file in git's http.sslCAInfo",
    ),
    (
        r"from redirection|returned error: 30\d",
        "the server redirects to another place: write the address that it names",
    ),
    (r"is this a git repository", "what answers at this address is no git server: check the address"),
    (r"returned error: 407", "the proxy wants a login: see http_proxy and https_proxy where workflows run"),
    (
        r"dubious ownership",
        "the repository belongs to another account than workflows run as: make the exception that git names,"
        " as their account, or make it the owner of the directory",
    ),
    (
        r"unable to read sha1 file|corruption on the remote side|lazy fetching disabled|promisor",
        "the repository is damaged, or a partial clone that lacks some of its objects: name the one that it"
        " was cloned from",
    ),
    (r"no space left", "a larger volume_size or flavor may help"),
    (r"not exported", "the git server does not serve this repository: check the address"),
    (
        r"does not exist|does not appear to be a git repository",
        "a path is one of the machine where workflows run; on OpenStack that is the VM, so use an address",
    ),
)
"""Patterns, and what to do; the first that matches counts."""
PRIVATE = (
    "the repository is private, or is not there: check the address; for a private one write"
    " https://USER:TOKEN@HOST/… in git_clone"
)
REFUSED = (
    "check that the user and the token in git_clone are valid and may read the repository; they are sent to"
    " its own host only, not to others that have submodules"
)


def words(printed: str) -> str:
    """The lines of git's error output that say what is wrong, its advice among them, in one line.

    Args:
        printed: what a failed command wrote on standard error.

    Returns:
        At most LONGEST characters, without credentials in addresses; "" if there are none.
    """
    lines = dict.fromkeys(" ".join(line.split()) for line in without_credentials(printed).splitlines())
    kept = [line for line in lines if not PROGRESS.match(line) and not DECORATION.match(line)]
    return shorten(" ".join(kept), LONGEST)


def without_credentials(text: str) -> str:
    """``text`` with the user information of every address masked, but for the user of an ssh address."""

    def masked(found: re.Match[str]) -> str:
        scheme, user = found.groups()
        return found[0] if scheme.lower() == "ssh" and ":" not in user else f"{scheme}://{MASK}@"

    return IN_ADDRESS.sub(masked, text)


def in_short(said: str) -> str:
    """Git's words in a few: the first error, without the address, which the job has.

    Args:
        said: as ``words`` returned it.
    """
    first = re.split(r" (?=fatal: )", said)[0]
    return re.sub(r"^((fatal|error|ssh): +)*(unable to access '[^']*': *)?", "", first)


def is_transient(said: str) -> bool:
    """Whether trying again can help: the network or the server is at fault, not the job.

    Args:
        said: git's words.
    """
    # What is quoted is addresses and paths, which may have any words.
    said = re.sub(r"'[^']*'", "''", said)
    if UNRESOLVED.search(said):
        return True
    return not DEFINITE.search(said) and NETWORK.search(said) is not None


def what_to_do(said: str, *, has_credentials: bool) -> str:
    """What a person can do about it; "" where git's words say all.

    Args:
        said: git's words.
        has_credentials: the job's address has a user or a password.
    """
    unquoted = re.sub(r"'[^']*'", "''", said).lower()
    for pattern, advice in WHAT_TO_DO:
        if re.search(pattern, unquoted):
            return advice
    if re.search(r"authentication failed|could not read (username|password)|error: 401", unquoted):
        return REFUSED if has_credentials else PRIVATE
    if re.search(r"error: 403|access denied", unquoted):
        return "the server denies access: check the address, and what the user or the token may read"
    if re.search(r"not found|error: 4(04|10)|could not be found", unquoted):
        secret = "that the token may read it" if has_credentials else "whether it is private"
        return f"check the address, and {secret}: many servers hide from others that a repository is there"
    return ""
