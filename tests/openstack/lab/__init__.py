"""A real OpenStack on one machine: Keystone, Glance, Placement, Neutron and Nova of Debian 12, for tests.

They run in network, mount and process namespaces of the lab's own: their fixed ports meet nobody else's, and
with the first process of the namespaces everything else ends. ``python -m tests.openstack.lab --help``.
"""
