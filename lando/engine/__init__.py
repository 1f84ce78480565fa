"""The rules between the state machine and the world. Each runs in a transaction that its caller commits.

In reading order:

engine.py       messages, and how an event is fired
submission.py   a start_worker message that was checked before its transaction
reports.py      messages of workers: tokens first, then those of a job together
taken.py        the result of a message
ledger.py       the transaction, as the rules see it; the store implements it
workers.py      workers of other versions, and those that are refused
admission.py    which queued jobs get a server now
holds.py        what refused creates mean for the next ones
boot_failures.py  whose fault it is that servers do not boot
boot_outcomes.py  what a boot that failed, or succeeded, means for the jobs
reservation.py  the quota is kept free for a job that needs more of it than is left, in turns
outbox.py       what an effect asks of the cloud, and what its result means
operations.py   operations and their results
deadlines.py    boot timeout, run timeout, the silence of a worker
clock_changes.py  stored times when the clock is set, or no daemon ran
observation.py  events that follow from a snapshot of the cloud
ownership.py    which job a server or a floating IP belongs to, and what is unknown to the database
leaks.py        what belongs to no job: orphans, which are deleted, and what is unknown
quota.py        what the project's quota leaves
obstacles.py    how it is said that no job can be started
boot_times.py   the boot timeout, learned from the last boots
retention.py    how long what has ended is kept
pace.py         how the engine waits
"""
