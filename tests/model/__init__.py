"""Explores, exhaustively, what can happen to a job: the shipped rules in an abstract, finite world.

``ledger`` keeps the books in memory, ``rules`` runs the shipped machine, engine and sweeper over them,
``world`` says what there is, ``actions`` what can happen next, ``timed`` how time passes, ``invariants`` what
must hold, ``isolation`` what must hold beside jobs that the cloud refuses, ``outages`` what must hold when
servers do not boot, ``restores`` how a backup of the books is restored, ``explore`` visits every state,
``every_way`` finds the worst case, and ``breakages``, ``timed_breakages``, ``refusal_breakages``,
``outage_breakages`` and ``restore_breakages`` list what must be caught.
"""
