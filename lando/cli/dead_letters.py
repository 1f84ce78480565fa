"""``lando-fsm dead-letters``: messages that could not be understood."""

from __future__ import annotations

from typing import Any

import click

from lando.cli.common import load_app, note, note_if_no_daemon, print_json
from lando.errors import UsageError
from lando.times import rfc3339
from lando.workqueue.interface import DeadLetter, describe_sender


@click.command("dead-letters")
@click.option("--requeue", multiple=True, metavar="ID", help="Put it into the queue again; may be repeated.")
@click.option("--drop", multiple=True, metavar="ID", help="Forget it for ever; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_context
def command(ctx: click.Context, requeue: tuple[str, ...], drop: tuple[str, ...], as_json: bool) -> None:
    """List the messages that could not be understood, with the reason and their first bytes.

    With --requeue or --drop: deal with those named, by id or the beginning of one, and list nothing. Requeue
    what a newer lando-fsm can understand by now; it comes from whom it came from the first time.
    """
    app = load_app(ctx)
    letters = app.dead_letters()
    if not requeue and not drop:
        _print(letters.all(), as_json)
        return
    found = letters.all()
    again, away = ([_id(found, prefix) for prefix in chosen] for chosen in (requeue, drop))
    if set(again) & set(away):
        raise UsageError(f"dead letter {min(set(again) & set(away))}: either --requeue or --drop, not both")
    if again:
        letters.requeue(again)
        note(f"{len(again)} requeued")
        note_if_no_daemon(app)
    if away:
        letters.drop(away)
        note(f"{len(away)} dropped")


def _id(found: list[DeadLetter], prefix: str) -> str:
    exact = [letter.id for letter in found if letter.id == prefix]
    ids = exact or [letter.id for letter in found if prefix and letter.id.startswith(prefix)]
    if len(ids) > 1:
        raise UsageError(f"dead letter {prefix!r} is ambiguous: {', '.join(ids[:5])}; give more of its id")
    if not ids:
        raise UsageError(f"no dead letter {prefix!r}; `lando-fsm dead-letters` lists them")
    return ids[0]


def _print(letters: list[DeadLetter], as_json: bool) -> None:
    if as_json:
        print_json([_as_json(letter) for letter in letters])
        return
    if not letters:
        note("no dead letters")
    for letter in letters:
        words = f"{letter.reason}  {letter.size} bytes  {letter.first_bytes!r}"
        print(f"{letter.id}  {rfc3339(letter.at) or '-'}  {describe_sender(letter)}  {words}")


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
