"""The commands ``lando-fsm`` and ``lando-client``: one module per command, and these:

start.py          the entry point of lando-fsm: before anything is loaded
main.py           the command lando-fsm, which loads the module of the command that is called
lazy_commands.py  a group that loads a command when it is called
client.py         the command lando-client
output.py         what commands print: results on stdout, notes on stderr
common.py         the app of a command, job arguments, sending a message
job_source.py     what git_clone means on this machine: changes that are not committed, VMs elsewhere
selecting.py      the options of status that say which jobs to show
check_boot.py     check --boot
check_unknown.py  check: what the database does not know
database_backup.py  database backup
check_postgres.py check's line about PostgreSQL
check_metrics.py  check, where metrics are configured
sweep.py          servers --sweep and --dry-run
ensure_daemon.py  starts a daemon in this process for a command, where none is running
database_check.py, database_copy.py, database_reopen.py
                  the commands below ``database``
copy_outputs.py   run --outdir
ending.py         ends the process of a daemon within seconds, whatever is stuck
log_stream.py     writes what a daemon says: a line for an event, without a long wait for who reads it
follow.py         shows one job until it has finished
formatting.py     how jobs look: tables and live views
text.py           text for people: aligned columns, counts, foreign output that is cut
"""
