"""What people are shown of jobs, servers and the state machine, as data; the commands print it.

In reading order:

jobs.py           jobs, their history and their logs
job_status.py     one job, as it is shown
untaken.py        a job whose message is in the queue, and that no daemon has taken yet
attempts.py       a job's attempts, as its history tells them
reasons.py        why a job is in its state, as a sentence
job_outputs.py    what of a job's output object is here
daemon_status.py  whether a daemon is running, and what it cannot reach
lost_jobs.py      what VMs and reports name and the database does not have, as sentences
queue_peek.py     reads messages in the queue that no daemon has taken yet
inventory.py      servers and floating IPs, and which job owns each
diagram/          diagrams of the state machine
"""
