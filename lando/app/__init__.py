"""Builds the parts that the configuration names, and gives each what it needs. In reading order:

app.py             queue, cloud, and the views of the commands, each made when it is first used
rabbitmq.py        the broker's settings: for the daemon and the commands, and for the workers on VMs
openstack.py       the driver of the OpenStack project
server_request.py  the create request of a job's server, and whether it is small enough
user_data.py       the start-up script of a VM, and the secrets in it
bootstrap.sh       installs the worker on a stock image; part of that script where worker.bootstrap is true
service.py         the daemon with its parts and its locks
moving.py          copying the database to PostgreSQL, and refusing the one that is not in use
lost_database.py   whether the database is a new one where another one was
timing.py          the configuration's times, as the state machine and the engine take them
"""
