"""What runs inside a VM: clones the job's repository, runs its workflow, and reports until that is delivered.

Two processes. The parent (supervisor, reporter) is light and never does the job's work, so that heartbeats
go on whatever the workflow does. The child (workflow) does it, in a session of its own.
"""
