"""The work queue on RabbitMQ, through pika.

``broker`` says where it is and what its refusals mean, ``connection`` talks to it, ``names`` and ``topology``
say what there is on it, ``publisher`` and ``consumer`` are the two ends, ``letters`` the dead letters, and
``accounts`` who may do what.
"""
