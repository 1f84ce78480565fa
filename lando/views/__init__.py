"""What people are shown of jobs, servers and the machine, as data; the commands print it."""
