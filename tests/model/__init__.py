"""Explores, exhaustively, what can happen to a job: the shipped rules in an abstract, finite world.

``ledger`` keeps the books in memory, ``rules`` runs the shipped machine, engine and sweeper over them,
``world`` says what there is, ``actions`` what can happen next, ``invariants`` what must hold, ``explore``
visits every state, and ``breakages`` lists what must be caught.
"""
