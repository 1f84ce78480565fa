"""The state machine of a job: the whole behaviour, one file a state, and pure.

Nothing here touches a socket, a database, a cloud or a clock. ``machine.fire`` takes the record of a job and
an event, and returns the new record and the effects to carry out, as data. In reading order:

queued.py, booting.py, running.py, terminating.py, done.py, failed.py
                    one state each: what it means, what it waits for, its rows
ended.py            the rows that done and failed share
table.py            what a row says
actions.py          actions, guards and effects that rows of several states share
create_requests.py  which create request is open, and whose token is valid
events.py           what can happen to a job
job.py              a job's record
records.py          a fast copy of a record
machine.py          ``fire``, over all rows
"""
