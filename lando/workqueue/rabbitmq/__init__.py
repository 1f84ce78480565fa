"""The work queue on RabbitMQ, through pika. In reading order:

settings.py           where the broker is, and an account on it
broker.py             the same as pika's parameters
refusals.py           what the broker refuses for a while only
classify.py           what the broker's errors mean
names.py              exchanges, queues and permissions by name
topology.py           declares them
accounts.py           the accounts, and the script that creates them
connection.py         one connection, on which every wait has a limit
publisher.py          publishes with confirms
consumer.py           the daemon's side: receives, acks and dead-letters; connects again when it must
session.py            one connection of the consumer, which reads both queues
upkeep.py             verifies the lock, and declares again what was deleted
queue_reader.py       one queue, on a channel of its own: what was received, and what is not acked yet
alarm_probe.py        whether the broker accepts messages
fence.py              when everything was received that was queued before
dead_letter_mover.py  moves messages that cannot be understood to the dead letters
dead_letters.py       lists, requeues and drops dead letters
inspection.py         asks about a queue and about permissions, for lando-fsm check
policies.py           policies that could cost messages, as the management plugin shows them
"""
