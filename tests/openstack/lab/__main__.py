"""The command: ``python -m tests.openstack.lab VERB``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tests.openstack.lab import packages
from tests.openstack.lab.drivers import DRIVERS
from tests.openstack.lab.place import AMQP_URL, HOME, LabError, os_variables


def arguments() -> argparse.ArgumentParser:
    """The command's grammar."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.openstack.lab",
        description="A real OpenStack on this machine, for tests (Debian 12, root). Everything it keeps is in"
        f" {HOME}; LANDO_LAB_DIR names another directory.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("install", help="install Debian's packages")
    verb.add_argument("--driver", choices=DRIVERS, default="process", help="also what this driver needs")
    verb = verbs.add_parser("up", help="bring it up")
    verb.add_argument("--driver", choices=DRIVERS, default="process", help="what a server is (%(default)s)")
    verb.add_argument("--owner", type=int, metavar="PID", help="take it down when this process ends")
    verbs.add_parser("down", help="take it down")
    verbs.add_parser("reset", help="take it down and forget all it knew")
    verbs.add_parser("status", help="what runs; exit code 0 if all of it does")
    verb = verbs.add_parser("exec", help="run a command where the lab is, with what tests want to know")
    verb.add_argument("--os", choices=["lando", "admin"], help="also set OS_… for this user")
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    verb = verbs.add_parser("run", help="up, exec, and down whatever came of it")
    verb.add_argument("--driver", choices=DRIVERS, default="process", help="what a server is (%(default)s)")
    verb.add_argument("--keep", action="store_true", help="leave it up")
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    verbs.add_parser("describe", help="print what LANDO_TEST_OPENSTACK is to say")
    verb = verbs.add_parser("knobs", help="show or set what goes wrong with servers (driver process)")
    verb.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="no VALUE removes it")
    for name, does in (
        ("stop", "end a service at once"),
        ("start", "start it again, and wait until it answers"),
    ):
        verbs.add_parser(name, help=does).add_argument("service", metavar="SERVICE")
    verbs.add_parser("revoke-tokens", help="make every token void")
    verb = verbs.add_parser(
        "add-image", help="upload a disk image (qcow2 or raw), in place of one of this name"
    )
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("file", metavar="FILE", type=Path)
    return parser


def main() -> int:
    """The exit code."""
    asked = arguments().parse_args()
    try:
        packages.require_debian_12()
        if asked.verb == "install":
            packages.install(asked.driver == "libvirt")
            return 0
        return carry_out(asked)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def carry_out(asked: argparse.Namespace) -> int:
    """Everything but the installation, which is before the Python packages may be there."""
    from tests.openstack.lab import contents, knobs, life, namespace, services, status, tokens  # noqa: PLC0415

    match asked.verb:
        case "up":
            return life.up(DRIVERS[asked.driver], asked.owner)
        case "down":
            life.down()
        case "reset":
            life.reset()
        case "status":
            return namespace.run(status.show)
        case "exec":
            return namespace.run(lambda: execute(asked.command, asked.os))
        case "run":
            return life.run(DRIVERS[asked.driver], lambda: execute(asked.command), asked.keep)
        case "describe":
            print(json.dumps(contents.describe(life.driver()), indent=1))
        case "knobs":
            if life.driver().name != "process":
                raise LabError("only the driver process has knobs")
            knobs.change(asked.settings)
            print(json.dumps(knobs.read(), indent=1))
        case "stop":
            return namespace.run(lambda: services.stop_service(asked.service))
        case "start":
            return namespace.run(lambda: services.restart_service(asked.service))
        case "revoke-tokens":
            return namespace.run(tokens.revoke_all)
        case "add-image":
            return namespace.run(lambda: contents.add_image(asked.name, asked.file))
    return 0


def execute(command: list[str], user: str | None = None) -> int:
    """Become a command."""
    from tests.openstack.lab import contents, life  # noqa: PLC0415

    command = command[command[:1] == ["--"] :]
    if not command:
        raise LabError("exec: no command")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "LANDO_LAB_DIR": str(HOME),
        "LANDO_TEST_OPENSTACK": json.dumps(contents.describe(life.driver())),
        "LANDO_TEST_AMQP_URL": AMQP_URL,
        **(os_variables(user) if user else {}),
    }
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
