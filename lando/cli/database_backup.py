"""``lando-fsm database backup``: a backup of the database, while the daemon runs or not."""

from __future__ import annotations

from pathlib import Path

import click

from lando.cli.common import load_app
from lando.cli.output import note, result


@click.command("backup")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Remove all but the newest N backups of this database from the directory.",
)
@click.pass_context
def command(ctx: click.Context, target: Path, keep: int | None) -> int:
    """Make a backup of the database, and print its path.

    TARGET is a directory, in which the backup is named after the database and the time, or a file that does
    not exist yet. The daemon may run. SQLite: a copy, with the embedded queue, which is checked for damage.
    PostgreSQL: what pg_dump writes, for pg_restore. A backup has its name only once it is whole and durable.

    \b
    lando-fsm database backup /backup/lando --keep 48    for a timer
    """
    app = load_app(ctx)
    app.require_own_state_dir()
    from lando.store import backup  # noqa: PLC0415 - SQLAlchemy

    made = backup.make(app.config.database_url, target.absolute(), keep)
    result(str(made.path))
    kept = f"; {len(made.removed)} older removed" if made.removed else ""
    note(f"{made.size / 2**20:.1f} MiB{kept}")
    return 0
