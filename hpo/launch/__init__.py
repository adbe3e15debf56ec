"""Starting workers with one command: on this machine, through Slurm or on Ray."""
