"""The file of an SQLite database, whoever opens it: the store, or the embedded queue.

opening.py        what each connection sets
failures.py       what SQLite's errors mean, and what to do
same_file.py      whether the file was removed or replaced while it is open
stamp.py          whether it was overwritten in place
checkpoint.py     what the write-ahead log holds is written into the file
quick_check.py    whether it is damaged
"""
