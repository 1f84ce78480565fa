"""All persistent state: jobs, their history, the outbox of effects, processed messages, logs, facts.

In reading order:

store.py            the database, opened; transactions that write, and snapshots to read
database.py         connections
schema.py           the schema's version, which programs may use it, and how it is brought up to date
sqlite_guard.py     what the daemon does for its SQLite file
daemon_session.py   the session in which the daemon writes to PostgreSQL, and its lock
seen_server.py      which server of PostgreSQL was used, remembered outside of the database
server_check.py     one that must not be used is refused
answer_watch.py     a server that does not answer is given up
conflicts.py        transactions that others kept from being committed, tried again
backup.py           a backup of the database, while it is used
backup_files.py     files that hold backups: whole, or not there
tables.py           the tables
partial_indexes.py  indexes of some of their rows
types.py            texts as every database stores them
transaction.py      the engine's ledger in SQL
live_jobs.py        what the daemon keeps in memory of the jobs that may own a server or are queued
admission_order.py  which queued job is the first, in SQL
effect_rows.py      the outbox in SQL: what is next of each job
message_rows.py     what is remembered of messages
pending.py          rows that a transaction writes together
logs.py             the logs of workflows, within their bounds
retention.py        what is removed of jobs that have ended
queries.py          what the commands read
selection.py        which jobs they show, in SQL
shown.py            the name and the labels of a job, without its secrets
job_rows.py         a record from its row
measurements.py     what metrics read
facts.py            small values about the whole deployment, as they are stored
stored_facts.py     and by what they mean
overview.py         what a database holds, for ``database check``
copying/            from SQLite to PostgreSQL
migrations/         the schema's versions
"""
