"""OpenStack: servers of Nova and floating IPs of Neutron, through python-novaclient and keystoneauth1.

``account`` says how to log in, ``wire`` sends, ``failures`` says what a failed call means, ``names`` turns
names into ids, ``marks`` are what ours are known by, ``driver`` is the cloud, and ``checks`` looks whether
the settings fit it.
"""
