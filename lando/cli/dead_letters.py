"""``lando-fsm dead-letters``: messages that could not be understood."""

from __future__ import annotations

from typing import Any

import click

from lando.cli.common import load_app, note_if_no_daemon
from lando.cli.output import note, print_json, result
from lando.errors import UsageError
from lando.times import rfc3339
from lando.workqueue.interface import DeadLetter, describe_sender


@click.command("dead-letters")
@click.option(
    "--requeue", multiple=True, metavar="ID", help="Put this one into the queue again; may be repeated."
)
@click.option("--drop", multiple=True, metavar="ID", help="Delete this one; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON list.")
@click.pass_context
def command(ctx: click.Context, requeue: tuple[str, ...], drop: tuple[str, ...], as_json: bool) -> None:
    """List the messages that could not be understood, with the reason and their first bytes.

    With --requeue or --drop, only those given are processed (by id or the beginning of one), and nothing is
    listed. Requeue a message that a newer lando-fsm can understand; it keeps its original sender.
    """
    app = load_app(ctx)
    dead_letters = app.dead_letters()
    found = dead_letters.all()
    if not requeue and not drop:
        _print(found, as_json)
        return
    to_requeue, to_drop = ([_id(found, prefix) for prefix in chosen] for chosen in (requeue, drop))
    both = set(to_requeue) & set(to_drop)
    if both:
        raise UsageError(f"dead letter {min(both)}: either --requeue or --drop, not both")
    if to_requeue:
        dead_letters.requeue(to_requeue)
        note(f"{len(to_requeue)} requeued")
        note_if_no_daemon(app)
    if to_drop:
        dead_letters.drop(to_drop)
        note(f"{len(to_drop)} dropped")


def _id(found: list[DeadLetter], prefix: str) -> str:
    exact = [letter.id for letter in found if letter.id == prefix]
    ids = exact or [letter.id for letter in found if prefix and letter.id.startswith(prefix)]
    if len(ids) > 1:
        raise UsageError(f"dead letter {prefix!r} is ambiguous: {', '.join(ids[:5])}; give more of its id")
    if not ids:
        raise UsageError(f"no dead letter {prefix!r}; `lando-fsm dead-letters` lists them")
    return ids[0]


def _print(found: list[DeadLetter], as_json: bool) -> None:
    if as_json:
        print_json([_as_json(letter) for letter in found])
        return
    if not found:
        note("no dead letters")
    for letter in found:
        content = f"{letter.reason}  {letter.size} bytes  {letter.first_bytes!r}"
        result(f"{letter.id}  {rfc3339(letter.at) or '-'}  {describe_sender(letter)}  {content}")


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": rfc3339(letter.at),
        "reason": letter.reason,
        "origin": letter.origin,
        "sender": letter.sender,
        "bytes": letter.size,
        "first_bytes": letter.first_bytes.decode("utf-8", "backslashreplace"),
    }
