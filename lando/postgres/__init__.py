"""What is PostgreSQL's own, beside SQL: addresses, connections, and what its errors mean.

In reading order:

address.py          a database's address, checked, and as people are told of it
opening.py          how each connection is made, and which servers are refused
failures.py         what errors mean, and what to do
inspection.py       what ``lando-fsm check`` tells of a server
"""
