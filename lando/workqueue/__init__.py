"""The work queue: the daemon reads it, clients and workers publish to it.

In reading order: ``interface.py`` is what every queue does; ``embedded.py`` is the queue in SQLite, for one
machine; ``rabbitmq/`` is the queue on a broker; ``wakeup.py`` ends a reader's wait.
"""
