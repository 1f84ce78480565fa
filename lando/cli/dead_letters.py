"""``lando-fsm dead-letters``: messages that could not be understood."""

from __future__ import annotations

import click

from lando.cli.common import dump, note, site
from lando.queue.embedded import dead_letters
from lando.views import rfc3339

FIRST_BYTES = 60


@click.command("dead-letters")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the messages that could not be understood, with the reason and their first bytes."""
    letters = dead_letters(site(ctx).database)
    if as_json:
        dump(
            [
                {
                    "id": letter.id,
                    "at": rfc3339(letter.at),
                    "reason": letter.reason,
                    "bytes": len(letter.raw),
                    "first_bytes": letter.raw[:FIRST_BYTES].decode("utf-8", "backslashreplace"),
                }
                for letter in letters
            ]
        )
        return
    if not letters:
        note("no dead letters")
    for letter in letters:
        print(f"{letter.id}  {rfc3339(letter.at)}  {letter.reason}  {letter.raw[:FIRST_BYTES]!r}")
