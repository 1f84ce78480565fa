"""The cloud, which has the servers. In reading order:

interface.py     what every cloud does, and the errors that it raises; it knows nothing of jobs' states
snapshot.py      what one pass over the cloud has found
check_result.py  the result of one check
local/           VMs that are processes on this machine
nova/            OpenStack
"""
