"""The state machine of a job: the whole behaviour, one file a state, and pure.

Nothing here touches a socket, a database, a cloud or a clock. ``machine.fire`` takes the record of a job and
an event, and returns the new record and the effects to carry out, as data. Read ``queued.py`` first.
"""
