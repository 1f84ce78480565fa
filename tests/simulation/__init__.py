"""Nights and weeks of a site in simulated time: the real daemon, while everything around it fails.

What is real: ``lando.daemon.Daemon`` with all its parts, the engine and the states, the wire format, the
rules about time. One thread runs it, and waits for nothing: where the daemon waits, time jumps to what
happens next.

What is simulated, in reading order:

world        the machine: its clocks, what is planned to happen, threads that call the cloud
outages      what is broken, and when
cloud        OpenStack behind ``lando.cloud.interface.Cloud``
broker       the work queue behind ``lando.workqueue.interface.WorkQueue``
workers      the workers on the servers: they boot, report, and keep their reports while the broker is away
store        the database: the exploration's ledger in memory, with transactions that are rolled back
site         all of it together with a daemon that is killed and started again; what must always hold

night        twelve hours of one outage with a long queue
week         500 jobs, and a week of outages at random, seeded

``python -m tests.simulation --seeds 20`` runs more weeks than ``make test`` does, and prints a table.
"""
