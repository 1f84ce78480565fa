"""Metrics and health over HTTP, where the configuration asks for them: nothing imports this otherwise.

In reading order:

telemetry.py        all of it, for one daemon
recording_meter.py  what the daemon notes
instruments.py      counters and histograms
bounded_labels.py   the values that labels may have
gauges.py           what is read when somebody asks
sampler.py          of these, what the database and the embedded queue tell, read by a thread of its own
admission_held.py   why no job is admitted
cloud_calls.py      calls of the cloud
health.py           live, ready
server.py           answers HTTP
"""
