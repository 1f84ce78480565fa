"""The program inside a VM: clones the job's repository, runs its workflow, and reports to the work queue.

It is two processes. The parent reports and does none of the job's work, so that heartbeats continue whatever
the workflow does. The child does the work, in a session of its own. In reading order:

lando_worker.sh      finds the Python that has the worker, and starts it
__main__.py          the command line, and what the parent does, step by step
settings.py          the worker configuration file
supervisor.py        parent: starts and watches the child
reporter.py          parent: sends the reports
spool.py             parent: keeps reports on disk until they are delivered
log_buffer.py        parent: what the child has printed
publishers.py        parent: one publisher per kind of work queue
event_pipe.py        what the child sends to the parent
result.py            how the work ended, one of the things that it sends
workflow.py          child: what it does, step by step
workflow_account.py  child: the account that the workflow runs as
protection.py        child: keeps the worker's rights from that account
metadata_service.py  child: the metadata service is refused to it
root_only.py         child: files and disks that only root may read
ways_to_root.py      child: what would make that useless
directories.py       child: the paths inside the VM's directory
source.py            child: the repository or plain folder that the job names
clone.py             child: clones the repository
git_command.py       child: runs git
git_errors.py        child: what git's errors mean
git_refs.py          child: the branches and tags of a repository
submodules.py        child: clones its submodules
lfs.py               child: the files that it stores with Git LFS
plain_folder.py      child: copies a folder in place of a clone
entry.py             child: which document to run
inputs.py            child: the input object; the parent reads it, too, for the secrets to mask
cwl.py               child: runs cwltool
cwl_options.py       child: the options that cwltool is run with
step_counter.py      child: counts the steps of the workflow for cwltool
container_engine.py  child: docker or podman, for cwltool
site_runner.py       child: runs the site's own CWL runner instead
outputs.py           child: the output object
"""
