"""landoconfig.yml and job files, read strictly: every mistake names its file, line and key. In reading order:

site_config.py     landoconfig.yml, with its defaults and its checks
work_queue.py      its section work_queue
openstack.py       its sections cloud_settings and vm_settings
limits.py          its section limits: the most that a job file may ask for
worker.py          its section worker: what runs inside a VM
retention.py       its section retention: how long what has ended is kept
job_file.py        the job file
input_object.py    what a job's input refers to
address_advice.py  what is probably meant by a git_clone without a scheme
section.py         reads a section key by key: types, ranges, nearest names, durations
yaml_document.py   reads YAML with line numbers, and collects the mistakes
yaml_scalars.py    which text is a number, and which number it is
"""
