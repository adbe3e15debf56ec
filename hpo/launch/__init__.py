"""Starting workers with one command: on this machine or through Slurm."""
