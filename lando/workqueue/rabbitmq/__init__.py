"""The work queue on RabbitMQ, through pika.

``broker`` says where it is and what its refusals mean, ``connection`` talks to it, ``names`` and ``topology``
say what there is on it, ``publisher`` and ``consumer`` are the two ends, ``letters`` the dead letters, and
``accounts`` who may do what.
"""

from lando.workqueue.rabbitmq.broker import Broker, QueueTaken, Tls
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.names import Names
from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher

__all__ = ["Broker", "Names", "QueueTaken", "RabbitMQPublisher", "RabbitMQQueue", "Tls"]
