"""The work queue: the daemon reads it, clients and workers publish to it. In reading order:

interface.py  what every queue does, and the errors that it raises
embedded.py   the queue in SQLite, for one machine
embedded_dead_letters.py
              its dead letters
embedded_schema.py
              its tables
embedded_errors.py
              what keeps it from being read or written
embedded_peek.py
              looks at the commands that wait in it
embedded_figures.py
              how much waits in it
closed.py     an embedded queue that takes no more messages
rabbitmq/     the queue on a broker
local_commands.py
              what is left on the daemon's own machine while the broker is down
wakeup.py     ends a thread's wait from another thread, a signal handler, or another process
"""
