"""Explores, exhaustively, what can happen to a job: the shipped rules in an abstract, finite world.

``ledger`` keeps the books in memory, ``rules`` runs the shipped machine, engine and sweeper over them,
``world`` says what there is, ``actions`` what can happen next, ``timed`` how time passes, ``invariants`` what
must hold, ``explore`` visits every state, and ``breakages`` and ``timed_breakages`` list what must be caught.
"""
