"""The program inside a VM: clones the job's repository, runs its workflow, and reports to the work queue.

It is two processes. The parent reports and does none of the job's work, so that heartbeats go on whatever the
workflow does. The child does the work, in a session of its own.

In reading order:

- ``__main__.py``: the command line, and the parent's course; ``settings.py``: the worker configuration file.
- The parent: ``supervisor.py`` starts and watches the child; ``reporter.py`` sends reports, over ``spool.py``
  (reports kept on disk until delivered), ``log_buffer.py`` (what the child printed) and ``publishers.py``
  (one per kind of work queue).
- ``event_pipe.py`` and ``result.py``: what the child tells the parent.
- The child: ``workflow.py`` is its course, over ``workflow_account.py``, ``directories.py``, ``clone.py``,
  ``entry.py`` (which document to run) and ``inputs.py``. The workflow runs in ``cwl.py`` (cwltool, with
  ``step_counter.py`` and ``container_engine.py``) or in ``site_runner.py``; ``outputs.py`` reads the result.
"""
