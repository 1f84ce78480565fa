"""The daemon: one loop over the work queue, the store and the cloud. In reading order:

daemon.py         the loop: what one iteration does, and in which order
receive.py        messages: taken in batches, each with its effect in one transaction, acked after the commit
versions.py       warns of workers that are older than the daemon
rejection.py      messages that cannot be understood: dead letters, within bounds
deadline_check.py deadlines that have passed count once all was taken that was queued before
dispatch.py       effects that are due: begun, carried out by a pool, concluded
effects.py        the operations that an effect asks of the cloud
watch.py          snapshots of the cloud, and what follows from them
sweep.py          leaked resources: deleted, and counted
services_check.py whether the cloud's services answer, while jobs are held because of them
retention.py      what has ended is removed after its time, in pieces
unknown.py        what is in the cloud and unknown to the database: logged, recorded, left alone
lost_jobs.py      jobs that only reports name: told once, recorded
admit.py          admission of queued jobs, and what the next one waits for
health.py         whether the work queue and the cloud answer
recorded_fact.py  what ``status`` reads, written when it has changed
checkpoints.py    the database's file is whole now and then, and at the end
abandon.py        the end where the database is damaged, or was removed or replaced
clock.py          steps of the wall clock, and pauses of the daemon
pool.py           threads that call the cloud and return results
meter.py          what is noted for metrics
log.py            lines about jobs and bugs
retry.py          how long is waited after a failure, and what is said of it
systemd.py        readiness, as systemd is told of it
"""
