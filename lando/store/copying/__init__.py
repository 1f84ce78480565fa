"""A database is copied from SQLite to PostgreSQL, while no daemon uses either.

In reading order:

copy.py         the steps, of which each may be the last before an interruption
mark.py         what original and copy say about themselves, so that a daemon never uses both
rows.py         rows as both databases store them, and the checksum of a table
original.py     reads the SQLite file
target.py       writes to PostgreSQL
"""
