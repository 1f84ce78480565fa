"""OpenStack: servers of Nova and floating IPs of Neutron, by python-novaclient and keystoneauth1.

In reading order:

driver.py           the project as a cloud: creates, lists and deletes servers
account.py          how to log in
server_settings.py  what servers are made of
session.py          sends every call
login.py            logs in, and rarely after that was refused
paging.py           reads a list in pages to its end
client.py           novaclient's client
failures.py         reads a failed call
classify.py         which CloudError a failed call is
shortages.py        the messages by which OpenStack says that something is used up
lookup.py           finds flavors, images and networks by name
tags.py             the tags by which lando finds its servers and floating IPs
floating_ips.py     allocates, attaches and releases floating IPs
quotas.py           reads what the project may use, and uses
services.py         whether the services that a create depends on answer
checks.py           checks whether the settings fit the cloud
"""
