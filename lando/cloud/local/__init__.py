"""The local cloud: "VMs" that are process groups on this machine. In reading order:

driver.py        creates, lists and deletes VMs
vm_directory.py  the directory of one VM: its files, its lock, its status
launcher.py      the first process of a VM, a program of its own
processes.py     finds and stops the processes of a VM
containers.py    removes the containers of a VM
job_files.py     removes the files of jobs that have ended
full_disk.py     names the job that takes most of a full disk
"""
