"""The work queue on RabbitMQ, through pika.

In reading order:

- ``settings.py``: where the broker is, and the account; ``broker.py``: the same as pika's parameters;
  ``classify.py``: what the broker's errors mean.
- ``names.py``: exchanges, queues and permissions by name; ``topology.py`` declares them; ``accounts.py``
  creates the accounts.
- ``connection.py``: one connection, on which every wait has a limit.
- ``publisher.py``: publishes with confirms.
- ``consumer.py``: the daemon's side, over ``session.py`` (one connection of the reader), ``alarm_probe.py``
  (whether the broker accepts messages) and ``dead_letter_mover.py``.
- ``dead_letters.py``: lists, requeues and drops dead letters; ``inspection.py``: asks about a queue and about
  permissions, for ``lando-fsm check``.
"""
