"""A worker: leases trials and reruns, samples settings, trains, prunes and stores the results."""
